"""Arms with consolidated skills: one granularity, a placebo that knows nothing of the task, and the best supported."""

import pytest
from toys import make_bank

from d2skill import api
from d2skill.bank.journal import Journal
from d2skill.cli.main import main
from d2skill.config import Config, EnvConfig, RetrievalConfig
from d2skill.evaluation.arms import arm_view
from d2skill.evaluation.evaluate import evaluate
from d2skill.knowledge.evidence import Evidence
from d2skill.runs.folder import RunFolder
from d2skill.runs.trajectories import read
from d2skill.types import SkillText

HEAT, CLEAN = "put a hot {thing} in {place}", "put a clean {thing} in {place}"
TASK = "put a hot mug in shelf"
KITCHEN = "You are in a kitchen: a fridge 1, a sinkbasin 1, drawers 1 to 4."


def procedure(pattern, verb, sources="ab"):
    steps = f"Take {{thing}}, then {verb} {{thing}}, then move {{thing}} to {{place}}."
    return Evidence("task", SkillText(pattern, steps, f"the task is to {pattern}"), pattern, "", {*sources})


def place(thing, where, start=KITCHEN, verb="take", sources="a"):
    steps = f"Go to {where}, then {verb} {thing} from {where}."
    text = SkillText(f"{thing}: in {where}", steps, f"the task needs {thing} and begins as here")
    return Evidence("step", text, thing, start, {*sources})


def bank_of(*evidence, **retrieval):
    bank = make_bank(bank={"skills": "consolidated"}, retrieval=retrieval)
    bank.knowledge.consolidate(evidence, 0)
    return bank


@pytest.fixture
def bank():
    return bank_of(
        *(procedure(HEAT, "heat", "abc"), procedure(CLEAN, "clean", "abcd")),
        *(place("mug", "drawer 1", sources="ab"), place("mug", "drawer 2"), place("egg", "fridge 1")),
        *(place("egg", "drawer 1"), place("pan", "drawer 3"), place("lamp", "drawer 4", verb="use")),
        place("mug", "drawer 9", start="Another kitchen.", sources="abcde"),
    )


def shown(arm, bank, seed=0, task=TASK, **retrieval):
    view = arm_view(arm, bank, RetrievalConfig(**retrieval), seed)
    assert view.consolidated
    assert view.retrieve_task([task]) == view.retrieve_step([(task, KITCHEN)]) == [()] or arm == "bank"
    ((procedures, situations),) = view.advise([(task, KITCHEN)])
    return [one.skill.text for one in procedures], [one.skill.text for one in situations]


def titles(texts):
    return [text.title for text in texts]


def test_one_granularity_of_what_the_bank_says(bank):
    procedures, situations = shown("bank", bank)
    assert (titles(procedures), titles(situations)) == (
        ["put a hot mug in shelf"],
        ["mug: in drawer 1", "mug: in drawer 2"],
    )
    assert shown("task", bank) == (procedures, [])
    assert shown("step", bank) == ([], situations)


@pytest.mark.parametrize("seed", range(5))
def test_a_placebo_is_another_kind_of_task_and_other_places_for_the_same_things(bank, seed):
    (procedure,), situations = shown("shuffled", bank, seed)
    assert procedure.title == "put a clean mug in shelf"
    assert procedure.principle == "Take mug, then clean mug, then move mug to shelf."
    # not where it may be, nor where something is used
    assert {*titles(situations)} == {"mug: in fridge 1", "mug: in drawer 3"}, (
        "not where it may be, nor where it is used"
    )
    assert {one.principle for one in situations} == {
        "Go to fridge 1, then take mug from fridge 1.",
        "Go to drawer 3, then take mug from drawer 3.",
    }
    assert {one.when_to_apply for one in situations} == {"the task needs mug and begins as here"}
    assert shown("shuffled", bank, seed) == ([procedure], situations)
    (found,) = arm_view("shuffled", bank, RetrievalConfig(), seed).advise([(TASK, KITCHEN)])
    assert [one.skill.id for one in found[0]] == ["t2"] and {one.skill.task_text for one in found[1]} == {"mug"}


def test_no_placebo_says_what_is_right():
    """A pattern that fits the task as well, and a bank that knows one kind of task and one thing."""
    fitting = bank_of(procedure(HEAT, "heat"), procedure("put a hot mug in {place}", "boil"), procedure(CLEAN, "clean"))
    for seed in range(6):
        assert titles(shown("shuffled", fitting, seed)[0]) == ["put a clean mug in shelf"]
    alone = bank_of(procedure(HEAT, "heat"), place("mug", "drawer 1"), place("mug", "drawer 2"))
    assert shown("shuffled", alone) == ([], [])


def test_a_slot_that_the_task_has_no_word_for_stays():
    bank = bank_of(procedure("look at {thing}", "see"), procedure(CLEAN, "clean"))
    ((text,), _) = shown("shuffled", bank, task="look at mug")
    assert text.principle == "Take mug, then clean mug, then move mug to {place}."


def test_the_best_supported_are_shown_whatever_the_task_and_the_start(bank):
    procedures, situations = shown("top", bank)
    assert titles(procedures) == [CLEAN], "its pattern does not fit"
    assert titles(situations) == ["mug: in drawer 9", "mug: in drawer 1", "mug: in drawer 2"]
    assert titles(shown("top", bank, candidates=1)[1]) == ["mug: in drawer 9"]
    assert shown("top", bank, k_task=0, k_step=0) == ([], [])
    assert titles(shown("top", bank, task="put a clean egg in sink")[0]) == ["put a clean egg in sink"]


# runs


def skills_of(run):
    return Journal(RunFolder(run).bank).replay().skills()


def train(out, **more):
    values = {
        "out": out,
        "env": EnvConfig(kind="toys:TreasureEnvironment", max_steps=4),
        "train": {"iterations": 3, "checkpoint_every": 1},
        "rollout": {"tasks": 6, "group_size": 4, "with_skills": 2},
        "warm_start": {"tasks": 6},
        "policy": {"scorer": {"buckets": 4096}},
        "validation": {"every": 3, "tasks": 6},
    }
    api.train(Config.model_validate(values | more))
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each kind of skills."""
    folder = tmp_path_factory.mktemp("runs")
    return {kind: train(folder / kind, bank={"skills": kind}) for kind in ("consolidated", "paper")}


def test_all_arms_of_a_run_are_played(runs):
    names = ("none", "bank", "shuffled", "task", "step", "top")
    report = evaluate(runs["consolidated"], arms=names, tasks=6, panel="valid_seen")
    assert set(report["arms"]) == {*names}
    one, two = (evaluate(runs["consolidated"], arms=names, tasks=6, panel="valid_seen", workers=n) for n in (1, 2))
    assert one["outcomes"] == two["outcomes"] == report["outcomes"]


@pytest.mark.parametrize("mine", ["consolidated", "paper"])
@pytest.mark.parametrize("other", ["consolidated", "paper"])
def test_a_bank_is_shown_in_the_way_of_the_run_that_it_is_from(runs, mine, other, tmp_path):
    evaluate(runs[mine], bank=runs[other], tasks=6, panel="valid_seen", trajectories=tmp_path / "t.jsonl")
    turns = [turn for one in read(tmp_path / "t.jsonl") if one.arm == "skills" for turn in one.turns]
    assert any(turn.skills for turn in turns)


@pytest.mark.parametrize("skills", ["consolidated", "paper"])
def test_a_run_begins_with_the_bank_of_a_paper_run(runs, skills, tmp_path):
    run = train(tmp_path / "run", bank={"skills": skills, "start": runs["paper"]})
    texts = [{skill.text for skill in skills_of(folder)} for folder in (runs["paper"], run)]
    assert texts[0] & texts[1] and texts[1] - texts[0], "what it had, and what it learned"


def test_an_episode_is_replayed_with_the_words_of_its_task(runs, capsys):
    skills = skills_of(runs["consolidated"])
    assert any("{thing}" in skill.text.title for skill in skills), "as the bank has it"
    main(["play", "--replay", str(runs["consolidated"]), "--number", "1"])
    printed = capsys.readouterr().out
    assert "take the " in printed and "{thing}" not in printed and "(take the " in printed
    assert RunFolder(runs["consolidated"]).config().advantage.normalise == "half"
