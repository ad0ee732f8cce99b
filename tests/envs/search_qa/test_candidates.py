"""Candidates of search QA: which spans are answers, in which order, which queries are new, and the scripted player."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.candidates import queries, spans
from d2skill.envs.search_qa.environment import SearchQAEnvironment
from d2skill.envs.search_qa.expert import ScriptedAsker
from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.search_qa.scoring import exact_match, normalise
from d2skill.types import Observation

SHORE_LEAVE = Passage(
    "1",
    '"Shore Leave (Star Trek)"\n"Shore Leave" is the fifteenth episode of the first season of Star Trek. It was '
    "written by Theodore Sturgeon and first aired on December 29, 1966. Dr. J. K. Rowling of the University of Oxford, "
    'a biologist, saw ""The Cage"" with 26 million viewers between 1964 and 1969.',
)
BOSTON = Passage(
    "2", '"Boston Marathon"\nThe race is run over 26.2 miles in Boston, Massachusetts, by six thousand men.'
)
BOTH = (SHORE_LEAVE, BOSTON)
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


def listed(question, passages=BOTH, count=200):
    return [span.text for span in spans(question, passages, count)]


@pytest.mark.parametrize(
    "answer",
    [
        *("Theodore Sturgeon", "Star Trek", "December 29, 1966", "December 29", "1966", "1964", "University of Oxford"),
        *(
            "Oxford",
            "Dr. J. K. Rowling",
            "The Cage",
            "26 million",
            "26.2 miles",
            "Boston, Massachusetts",
            "Massachusetts",
        ),
        *("biologist", "six thousand", "six thousand men", "fifteenth episode", "Boston Marathon"),
    ],
)
def test_names_dates_numbers_titles_and_phrases_are_listed(answer):
    assert any(exact_match(text, [answer]) for text in listed("tell me"))


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("Who was the screenwriter for Shore Leave?", "Theodore Sturgeon", "who-name"),
        ("when was shore leave first aired", "December 29, 1966", "when-date"),
        ("how many men run in boston", "six thousand", "count-number"),
    ],
)
def test_answers_of_the_kind_that_is_asked_for_come_first(question, answer, kind):
    places = {span.text: (at, span.label) for at, span in enumerate(spans(question, BOTH, 40))}
    at, label = places[answer]
    assert at < 6
    assert label.partition(" ")[0].endswith(kind)


def test_a_label_has_the_words_around_the_answer():
    (span,) = [one for one in spans("who wrote it", [SHORE_LEAVE], 40) if one.text == "Theodore Sturgeon"]
    assert "it was written by and first aired" in span.label


def test_what_the_question_has_is_no_answer_but_where_it_asks_to_choose():
    assert "Star Trek" not in listed("who wrote Shore Leave of Star Trek")
    assert "Star Trek" in listed("is it Star Trek or Boston")


def test_yes_and_no_come_first_where_they_are_asked_for():
    assert listed("Is the race run in Boston?")[:2] == ["yes", "no"]
    assert listed("Is the race run in Boston?", count=1) == ["yes"]
    assert "yes" not in listed("Who runs in Boston?")


@given(TEXT, st.lists(TEXT, max_size=3), st.integers(0, 12))
def test_any_text_gives_different_answers_that_stand_in_an_action(question, texts, count):
    passages = [Passage(str(at), f'"{text[:9]}"\n{text}') for at, text in enumerate(texts)]
    found = spans(question, passages, count)
    assert len(found) <= count
    assert spans(question, passages, count + 3)[: len(found)] == found
    for span in found:
        assert span.text.strip() and not set("[]\n") & set(span.text)
        assert Observation("", forms=("answer[...]",)).admits(f"answer[{span.text}]")
        assert span.label.count(" ")
    assert len({span.text for span in found}) == len(found)
    asked = queries(question, passages, [], count)
    assert len(asked) <= count
    assert all(query.strip() and not set("[]") & set(query) for query in asked)
    assert len({query.lower() for query in asked}) == len(asked)
    assert not set(queries(question, passages, asked, count)) & set(asked)


def test_queries_begin_with_the_question_and_leave_out_what_was_asked():
    question = "Who was the screenwriter for Shore Leave?"
    assert queries(question, [], [], 6) == [question, "Shore Leave", "screenwriter Shore Leave"]
    assert queries(question, [], ["shore leave", question.upper()], 6) == ["screenwriter Shore Leave"]
    after = queries(question, [SHORE_LEAVE], [question], 8)
    assert "Theodore Sturgeon screenwriter Shore Leave" in after
    assert "Shore Leave (Star Trek)" in after


def test_a_quoted_title_is_a_query():
    assert "The Cage" in queries('"Who starred in ""The Cage"" of 1964?"', [], [], 6)


def test_most_answers_that_the_passages_have_are_listed(real_folder):
    environment = SearchQAEnvironment(real_folder, SearchQAConfig(answers=200))
    told = there = 0
    for question in environment.questions("train-triviaqa")[:40]:
        session = environment.start(f"triviaqa/{question.id}")
        seen = session.step(f"search[{question.text}]")
        text = f" {normalise(seen.text)} "
        there += any(f" {normalise(answer)} " in text for answer in question.answers)
        told += any(exact_match(action[7:-1], question.answers) for action in seen.actions if action[:7] == "answer[")
    assert there > 20
    assert told >= 0.9 * there


def test_the_player_asks_once_and_takes_the_first_answer(small_folder):
    environment = SearchQAEnvironment(small_folder, SearchQAConfig())
    wins = 0
    for task_id in environment.task_ids("train"):
        session = environment.start(task_id)
        player = environment.expert(session.task, (), 0)
        while not session.observation.done:
            action = player.act(session.observation)
            assert action in session.observation.actions
            session.step(action)
        wins += session.observation.success
    assert wins > len(environment.task_ids("train")) / 2


def test_the_player_tries_first_what_hints_name():
    seen = Observation("", ("search[who]", "search[shore leave]"), labels=("query who", "query shore leave"))
    assert ScriptedAsker().act(seen) == "search[who]"
    assert ScriptedAsker(["Search Shore Leave."]).act(seen) == "search[shore leave]"
    with pytest.raises(ValueError, match="labels"):
        ScriptedAsker().act(Observation("", forms=("search[...]",)))
