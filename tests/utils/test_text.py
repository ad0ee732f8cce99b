import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.utils.text import ActionWords, Entity, action_words, argument, content, entities, repeats, tokens


def test_tokens_are_lower_case_words_and_numbers():
    assert tokens("Take Mug 12 from desk-2, don't!") == ("take", "mug", "12", "from", "desk-", "2", "don't")
    assert tokens("") == ()
    assert tokens("click[b09kp78g37] 3x-large 120ml mug12") == ("click", "b09kp78g37", "3x-large", "120ml", "mug", "12")


def test_an_entity_is_a_word_with_the_number_after_it_or_a_content_word():
    assert entities("You see a drawer 4 and a mug.") == (
        Entity("see", "see"),
        Entity("drawer 4", "drawer"),
        Entity("mug", "mug"),
    )


def test_numbers_and_stop_words_are_no_entities():
    assert entities("12 of the 3") == ()


@pytest.mark.parametrize(
    ("action", "verb", "named"),
    [
        ("take mug 1 from desk 2", "take", [("mug 1", "mug"), ("desk 2", "desk")]),
        ("go to drawer 4", "go", [("drawer 4", "drawer")]),
        ("LOOK", "look", []),
        ("clean mug 1 with mug 1", "clean", [("mug 1", "mug"), ("mug 1", "mug")]),
        ("put put 1", "put", [("put 1", "put")]),
        ("7 up", "7", []),
        ("", "", []),
        ("?!", "", []),
    ],
)
def test_an_action_is_its_verb_and_what_it_names(action, verb, named):
    assert action_words(action) == ActionWords(verb, tuple(Entity(*one) for one in named))


def test_content_is_the_words_without_numbers():
    assert content("put some Mug 3 in the shelf") == {"put", "mug", "shelf"}


@pytest.mark.parametrize(
    ("action", "inside"),
    [
        ("click[buy now]", "buy now"),
        (" Search [ a [red] mug ] ", "a [red] mug"),
        ("click[]", ""),
        ("click[two\nlines]", "two\nlines"),
        ("take mug 1 from desk 2", None),
        ("click[a] now", None),
        ("[a]", None),
        ("two words[a]", None),
        ("", None),
    ],
)
def test_an_argument_stands_in_brackets(action, inside):
    assert argument(action) == inside


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("X-Large", True),
        ("red|white", True),
        ("white, size", True),
        ("white red", False),
        ("red size", False),
        ("re", False),
        ("", False),
        ("?", False),
    ],
)
def test_words_are_repeated_whole_and_in_their_order(words, told):
    assert repeats("a shirt in red | white, size: x-large", words) is told


@given(st.text(max_size=40))
def test_any_text_can_be_taken_apart(text):
    words = tokens(text)
    assert content(text) <= set(words)
    for entity in entities(text):
        assert entity.kind in words
        assert entity.name.split(" ")[0] == entity.kind
    action = action_words(text)
    assert action.verb == (words[0] if words else "")
    assert len(action.entities) <= len(words)
