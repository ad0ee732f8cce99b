"""Features of a prompt that follows a procedure: relation of each action to the next act; nothing else changes."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from toys import make_scorer, skill

from d2skill.policies.scorer.features import FEATURES, Featurizer
from d2skill.policies.scorer.label_features import LABEL_FEATURES
from d2skill.policies.scorer.procedure_features import (
    PROCEDURE_FEATURES,
    choice_codes,
    pending_acts,
    procedure_codes,
)
from d2skill.policies.scorer.prompt_words import WordReader
from d2skill.types import Prompt

BUCKETS = 2**16
NEXT, LEADS, LATER, FINISHED, AGAIN, BEFORE = 1, 2, 4, 8, 16, 32
PROCEDURE = skill("t1", "stamp", "Fetch atlas, then stamp atlas at counter, then lend atlas to student.")
ACTIONS = (
    "fetch atlas 1 from case 1",
    "fetch novel 1 from case 1",
    "walk to counter 1",
    "walk to student 1",
    "stamp atlas 1 at counter 1",
    "stamp novel 1 at counter 1",
    "lend atlas 1 to student 1",
    "look",
)
PLAIN = Prompt("stamp the atlas, then lend it to the student", "A hall.", ACTIONS, task_skills=(PROCEDURE,))


def following(done: int, prompt: Prompt = PLAIN) -> Prompt:
    return replace(prompt, acts_done=done)


def codes(*prompts: Prompt) -> list[list[int]]:
    reader = WordReader()
    words = reader.actions(prompts)
    acts = pending_acts(prompts, reader.word_id)
    assert acts is not None
    of = np.repeat(np.arange(len(prompts)), [len(prompt.actions) for prompt in prompts])
    found, end = procedure_codes(acts, of, words).tolist(), 0
    return [found[(end := end + len(one.actions)) - len(one.actions) : end] for one in prompts]


def test_each_action_is_next_leads_there_or_comes_later():
    assert codes(following(0)) == [[NEXT, 0, 0, 0, LATER, 0, LATER, 0]]  # places say where to go at first
    assert codes(following(1)) == [[0, 0, LEADS, 0, NEXT, 0, LATER, 0]]
    assert codes(following(2)) == [[0, 0, 0, LEADS, 0, 0, NEXT, 0]]
    assert codes(following(3)) == [[FINISHED] * len(ACTIONS)]


def test_a_prompt_that_follows_none_has_no_part_in_it():
    reader = WordReader()
    assert pending_acts([PLAIN, following(0, replace(PLAIN, task_skills=()))], reader.word_id) is None
    assert codes(PLAIN, following(1))[0] == [-1] * len(ACTIONS)


def test_without_a_procedure_the_features_are_those_of_before():
    alone = Featurizer(BUCKETS)([PLAIN])
    assert alone.index.shape == (len(ACTIONS), FEATURES)
    both = Featurizer(BUCKETS)([PLAIN, following(1)])
    assert both.index.shape == (2 * len(ACTIONS), FEATURES + PROCEDURE_FEATURES)
    assert (both.index[: len(ACTIONS), :FEATURES] == alone.index).all()
    assert (both.index[: len(ACTIONS), FEATURES:] == 0).all()
    assert (both.index[len(ACTIONS) :, :FEATURES] == alone.index).all()  # the block adds and changes nothing
    assert (both.index[len(ACTIONS) :, FEATURES:] > 0).all()
    labelled = replace(following(1), labels=("a book",) * len(ACTIONS))
    assert Featurizer(BUCKETS)([labelled]).index.shape[1] == FEATURES + LABEL_FEATURES + PROCEDURE_FEATURES


def test_the_same_part_of_another_procedure_looks_the_same_but_for_its_verb():
    other = skill("t2", "bind", "Get poem, then bind poem with thread, then show poem to king.")
    actions = ("get poem 1 from box 1", "go to thread 1", "bind poem 1 with thread 1", "show poem 1 to king 1")
    strange = Prompt("bind the poem", "A shed.", actions, task_skills=(other,), acts_done=1)
    blocks = Featurizer(BUCKETS)([following(1), strange]).index[:, FEATURES:]
    own, theirs = blocks[4], blocks[len(ACTIONS) + 2]
    assert own[0] != theirs[0] and (own[1:] == theirs[1:]).all()


PROMPT = st.builds(
    lambda done, kept, principle: replace(
        PLAIN,
        acts_done=done,
        actions=tuple(kept),
        task_skills=(replace(PROCEDURE, text=replace(PROCEDURE.text, principle=principle)),),
    ),
    st.integers(-1, 5),
    st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=5),
    st.sampled_from([PROCEDURE.text.principle, "Look, then stamp atlas.", "", "...", ", then , then x"]),
)


@given(st.lists(PROMPT, min_size=1, max_size=5))
def test_the_batch_does_not_matter(prompts):
    batch = Featurizer(BUCKETS)(prompts)
    for prompt, start in zip(prompts, batch.starts.tolist(), strict=True):
        own = Featurizer(BUCKETS)([prompt]).index
        rows = batch.index[start : start + len(prompt.actions)]
        assert (rows[:, : own.shape[1]] == own).all() and (rows[:, own.shape[1] :] == 0).all()


def test_a_policy_learns_to_do_the_next_act_whatever_its_verb_is():
    """The verbs of the test are in no demonstration."""

    def asked(verb: str, other: str, verbs: str) -> Prompt:
        own = skill("t1", "task", f"{verb.capitalize()} poem, then {other} poem.")
        actions = tuple(f"{one} poem 1" for one in verbs.split())
        return Prompt("do it", "Here.", actions, task_skills=(own,), acts_done=0)

    policy, known, new = make_scorer(epochs=30), "bind wrap weigh press", "mark seal knot dye"
    policy.imitate([(asked(verb, "wrap", known), f"{verb} poem 1") for verb in known.split()] * 4, 0)
    prompts = [asked(verb, "seal", new) for verb in new.split()]
    chosen = [one.action for one in policy.act(prompts, [0] * 4, 0.0)]
    assert chosen == [f"{verb} poem 1" for verb in new.split()]


BUYING = skill(
    "t2",
    "find",
    "Search what the task names, then click one that fits the task, then click the color that the task names, then "
    "click the size that the task names, then click pay.",
)
ORDER = "find socks with color: red, and size: large"


def choosing(done: int, made: tuple[str, ...], *actions: str) -> list[int]:
    prompt = Prompt(ORDER, "A shop.", actions, task_skills=(BUYING,), acts_done=done, got=made)
    found = np.zeros(len(actions), dtype=np.int64)
    choice_codes([prompt], found)
    return found.tolist()


def test_choices_are_next_in_any_order_and_paying_comes_before_or_after_them():
    page, seen = (
        ("click[red]", "click[large]", "click[blue]", "click[pay]", "click[back]"),
        ("search[socks]", "click[b1]"),
    )
    assert choosing(2, seen, *page) == [NEXT, NEXT, BEFORE, LATER | BEFORE, BEFORE]
    assert choosing(2, (*seen, "click[large]"), *page) == [NEXT, AGAIN | BEFORE, BEFORE, LATER | BEFORE, BEFORE]
    assert choosing(2, (*seen, "click[large]"), *page[1:]) == [AGAIN, 0, LATER, 0]  # no red: neither is asked for
    assert choosing(4, (*seen, *page[:2]), *page) == [AGAIN | BEFORE, AGAIN | BEFORE, BEFORE, NEXT, BEFORE]
    assert choosing(1, seen, "click[b1]", "click[b2]", "click[back]") == [AGAIN | BEFORE, NEXT, BEFORE]
    assert choosing(5, (*seen, *page[:2], "click[pay]"), "click[back]") == [FINISHED]


def test_a_second_choice_of_what_the_task_names_still_leads_there():
    steps = skill("t3", "find", "Pick what the task names, then pick pay.")
    prompt = Prompt("find red large socks", "A shop.", ("pick[large]", "pick[pay]"), task_skills=(steps,))
    found = np.zeros(2, dtype=np.int64)
    choice_codes([replace(prompt, acts_done=1, got=("pick[red]",))], found)
    assert found.tolist() == [LEADS, NEXT | BEFORE]
    choice_codes([replace(prompt, acts_done=1, got=("pick[red]", "pick[large]"))], found)
    assert found.tolist() == [AGAIN | BEFORE, NEXT]


def test_choices_reach_the_features_of_actions():
    prompt = Prompt(ORDER, "A shop.", ("click[red]", "click[blue]"), task_skills=(BUYING,), acts_done=2)
    both = [Featurizer(BUCKETS)([one]) for one in (prompt, replace(prompt, acts_done=-1))]
    read, plain = (one.table.buckets[one.rows[:, -1]] for one in both)
    assert (read > 0).any(axis=1).all() and not plain.any()
    assert (read[0] != read[1]).any()
