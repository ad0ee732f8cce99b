import subprocess
import sys
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import prompt, skill

from d2skill.policies.scorer.features import FEATURES, Featurizer
from d2skill.policies.scorer.label_features import LABEL_FEATURES, label_features, label_keys
from d2skill.types import Prompt

BUCKETS = 2**16
DOORS = ("open door 1", "open door 2", "open door 3")
HALL = prompt(task="find the lamp", observation="You are in a hall.", actions=DOORS)


def bags(*prompts):
    """The set of buckets of each action of each prompt."""
    batch = Featurizer(BUCKETS)(prompts)
    return [set(row[row > 0].tolist()) for row in batch.index]


def test_shapes_and_ranges():
    batch = Featurizer(BUCKETS)([HALL, replace(HALL, actions=("wait",)), HALL])
    assert batch.index.shape == (7, FEATURES)
    assert batch.starts.tolist() == [0, 3, 4]
    assert batch.counts().tolist() == [3, 1, 3]
    assert batch.index.min() >= 0
    assert batch.index.max() < BUCKETS


def test_things_of_one_kind_look_alike_until_a_part_of_the_prompt_names_one():
    first, second, third = bags(HALL)
    assert first == second == third
    first, second, third = bags(replace(HALL, observation="You are in a hall. You see a door 2."))
    assert first == third != second


def test_a_named_thing_is_told_apart_whatever_its_number():
    second = bags(replace(HALL, step_skills=(skill("s1", "lamp", "Open door 2."),)))
    third = bags(replace(HALL, step_skills=(skill("s1", "lamp", "Open door 3."),)))
    assert second[1] == third[2]
    assert second[2] == third[1] != second[1]


def test_every_part_has_a_mark_of_its_own():
    about, aside = skill("s1", "lamp", "Open door 2."), skill("s1", "vase", "Open door 2.")
    prompts = [
        HALL,
        replace(HALL, task="find the lamp behind door 2"),
        replace(HALL, observation="You see a door 2."),
        replace(HALL, history=(("You see a door 2.", "look"), ("Nothing.", "look"))),
        replace(HALL, history=(("Nothing.", "shut door 2"), ("Nothing.", "look"))),
        replace(HALL, history=(("Nothing.", "look"), ("Nothing.", "shut door 2"))),
        replace(HALL, task_skills=(replace(about, id="t1", granularity="task"),)),
        replace(HALL, task_skills=(replace(aside, id="t1", granularity="task"),)),
        replace(HALL, step_skills=(about,)),
        replace(HALL, step_skills=(aside,)),
        replace(HALL, step_skills=(skill("s1", "lamp", "It is not behind door 2."),)),
    ]
    second_doors = [frozenset(bags(one)[1]) for one in prompts]
    assert len(set(second_doors)) == len(prompts)


def test_a_skill_may_say_what_to_do_and_what_not_to():
    both = replace(HALL, step_skills=(skill("s1", "lamp", "Open door 2. It is not behind door 3."),))
    unnamed, advised, against = map(frozenset, bags(both))
    assert len({unnamed, advised, against}) == 3
    aside = replace(HALL, step_skills=(skill("s1", "vase", "It is not behind door 3."),))
    assert bags(aside) == bags(replace(HALL, step_skills=(skill("s1", "vase", "Never give up."),)))


def test_when_to_apply_and_ids_are_not_read():
    one = replace(HALL, step_skills=(skill("s1", "lamp", "Open door 2."),))
    other = replace(HALL, step_skills=(skill("s9", "lamp", "Open door 2.", utility=3.0),))
    assert bags(one) == bags(other)


def test_features_do_not_depend_on_what_was_seen_before():
    used = Featurizer(BUCKETS)
    used([replace(HALL, observation=f"word{i} thing {i}", actions=(f"verb{i} thing {i}",)) for i in range(50)])
    assert (used([HALL]).index == Featurizer(BUCKETS)([HALL]).index).all()


def test_features_are_the_same_in_every_process():
    code = (
        "from d2skill.policies.scorer.features import Featurizer\n"
        "from d2skill.types import Prompt\n"
        f"print(Featurizer({BUCKETS})([Prompt({HALL.task!r}, {HALL.observation!r}, {DOORS!r})]).index.tolist())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert np.array_equal(np.array(eval(other)), Featurizer(BUCKETS)([HALL]).index)


words = st.text("abc dr1 2-'.", max_size=12)
prompts = st.builds(
    lambda task, seen, actions, past, title, about: prompt(
        task=task,
        observation=seen,
        actions=tuple(actions),
        history=tuple(past),
        step_skills=(skill("s1", title, about),),
    ),
    words,
    words,
    st.lists(words, min_size=1, max_size=4),
    st.lists(st.tuples(words, words), max_size=2),
    words,
    words,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(prompts, min_size=1, max_size=4))
def test_any_text_has_features_that_do_not_depend_on_the_batch(batch):
    together = Featurizer(BUCKETS)(batch)
    alone = [Featurizer(BUCKETS)([one]).index for one in batch]
    assert np.array_equal(together.index, np.concatenate(alone))


SHOP = Prompt(
    "Find a red mug, price lower than 20 dollars",
    "Two mugs.",
    ("click[b1]", "click[b2]", "click[back to search]"),
    labels=("product Big red mug", "product Blue plate", "back"),
    history=(("Results", "click[b2]"),),
)


def test_labels_say_how_much_of_the_task_an_action_is_about():
    mug, plate, back = map(label_features, label_keys(SHOP))
    assert len(mug) == len(plate) == len(back) == LABEL_FEATURES
    # two of the eight words of the task, two of the three of the label
    assert mug[:4] == ["product", "product has 2", "product is 5", "product has 2 is 5"]
    assert plate[:4] == ["product", "product has 0", "product is 0", "product has 0 is 0"]
    assert mug[4] == "product top True True" and plate[4] == "product top False False"
    assert mug[5].endswith("done 0") and plate[5].endswith("done 1")
    assert back[0] == "back" and back[7] == "back done 0 step 1" and back[8] == "back done 0 among back product"


def test_labels_add_columns_and_leave_the_others_as_they_are():
    featurize = Featurizer(2**14)
    bare = replace(SHOP, labels=())
    with_labels, without = featurize([SHOP]).index, featurize([bare]).index
    assert with_labels.shape == (3, FEATURES + LABEL_FEATURES) and without.shape == (3, FEATURES)
    assert (with_labels[:, :FEATURES] == without).all() and (with_labels[:, FEATURES:] > 0).all()
    mixed = featurize([bare, SHOP]).index
    assert (mixed[:3, FEATURES:] == 0).all() and (mixed[3:] == with_labels).all()
    assert len({tuple(row) for row in with_labels[:, FEATURES:].tolist()}) == 3
