"""The learner with consolidated skills: evidence of all groups, edits of a reflector, counts that are reported."""

import random
from dataclasses import replace

import pytest
from toys import NotingReflector, ScriptedPolicy, TreasureEnvironment, skill

from d2skill.bank import SkillBank
from d2skill.bank.journal import Insert, Journal, Support
from d2skill.config import BankConfig, PromptConfig, ReflectConfig
from d2skill.credit import hindsight
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.learner import Learner
from d2skill.rollout import Rollouts
from d2skill.types import Edit, SkillText

ENVIRONMENT = TreasureEnvironment()
ALL = ENVIRONMENT.task_ids("train")


def empty(**settings) -> SkillBank:
    return SkillBank(HashedEmbedder(64), BankConfig(**settings))


def searching(prompt) -> str:
    """Takes what it sees, opens what advice names, or else a chest by the length of its task and history."""
    if take := [action for action in prompt.actions if action.startswith("take")]:
        return take[0]
    named = [one.text.title.rpartition("chest ")[2] for one in prompt.step_skills]
    opens = [action for action in prompt.actions if action.startswith("open")]
    return f"open chest {named[0]}" if named else opens[(len(prompt.task) + len(prompt.history)) % len(opens)]


def play(bank, task_ids=ALL[:8], steps=4):
    rollouts = Rollouts(ENVIRONMENT, ScriptedPolicy(searching), bank, PromptConfig(), steps)
    return rollouts.groups(task_ids, group_size=4, with_skills=2, temperature=1.0, seed=0)


def observe(bank, groups, reflector=None, iteration=0, **reflect):
    learner = Learner(bank, reflector or NotingReflector(), ReflectConfig(**reflect))
    return learner.observe(groups, hindsight(groups), iteration=iteration, seed=0)


class Editor(NotingReflector):
    """A reflector of groups whose answers are given by task."""

    runs_beside_update = False

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer_to = answer
        self.questions = []

    def reflect_groups(self, questions):
        self.questions += questions
        return [self.answer_to(group, known) for group, known in questions]


def test_evidence_of_all_groups_is_in_the_bank_with_its_counts():
    bank = empty()
    groups = play(bank)
    won = [group for group in groups if any(t.success for t in group.trajectories)]
    assert 0 < len(won) < len(groups)
    update = observe(bank, groups)
    (procedure,) = bank.skills("task")
    assert procedure.text.principle == "Take {thing} from chest."
    assert (procedure.task_text, procedure.supports) == ("take the {thing}", len(won))
    for group in won:
        gem = group.task.text.split()[-1]
        assert f"{gem}: in chest {ENVIRONMENT.chest_of(gem)}" in [one.text.title for one in bank.skills("step")]
    assert (update.added, update.supported) == (len(bank), len(bank))
    assert (update.reflected, update.failed, update.refused, update.held, update.merged) == (0, 0, 0, 0, 0)


def test_what_one_iteration_showed_is_shown_in_the_next_and_serves():
    bank = empty()
    first = play(bank)
    observe(bank, first)
    again = play(bank)
    share = {arm: sum(t.success for g in again for t in g.half(arm)) for arm in ("skills", "none")}
    assert share["skills"] >= share["none"]
    prompts = [t.turns[0].prompt for g in again for t in g.half("skills")]
    assert all(one.task_skills[0].text.principle == f"Take {one.task.split()[-1]} from chest." for one in prompts)
    assert not any(
        t.turns[0].prompt.task_skills or t.turns[0].prompt.step_skills for g in again for t in g.half("none")
    )
    update = observe(bank, again, iteration=1)
    assert update.added == 0 and update.credited > 0 and update.supported > 0
    assert bank.get("t1").supports == len(
        {g.task.id for g in (*first, *again) if any(t.success for t in g.trajectories)}
    )


def test_the_order_of_groups_and_members_does_not_matter():
    groups = play(empty())
    one, other = empty(), empty()
    observe(one, groups)
    shuffled = [replace(g, trajectories=tuple(random.Random(1).sample(g.trajectories, 4))) for g in reversed(groups)]
    observe(other, shuffled)
    assert one.skills(status=None) == other.skills(status=None)


def test_a_run_without_skills_writes_none():
    bank = empty()
    rollouts = Rollouts(ENVIRONMENT, ScriptedPolicy(searching), bank, PromptConfig(), 6)
    groups = rollouts.groups(ALL[:4], group_size=4, with_skills=0, temperature=1.0, seed=0)
    observe(bank, groups)
    assert len(bank.skills(status=None)) == 0


def test_a_reflector_of_failures_is_not_asked():
    reflector = NotingReflector()
    observe(empty(), play(empty()), reflector)
    assert reflector.asked == []


def test_a_reflector_of_groups_edits_the_bank(tmp_path):
    bank = empty()
    observe(bank, play(bank))
    bank.record(tmp_path / "bank.db")
    before = bank.get("t1").refutes

    def answer(group, known):
        gem = group.task.text.split()[-1]
        note = SkillText(f"{gem}: in chest 6", "Open chest 6, then look.", f"the {gem} is wanted")
        return [Edit("refute", skill_id="t1"), Edit("add", "step", text=note)]

    reflector = Editor(answer)
    groups = play(bank, ALL[8:16], steps=1)
    update = observe(bank, groups, reflector, iteration=1, max_groups=3)
    assert update.reflected == len(reflector.questions) == 3 and update.failed == 0
    assert all(known[0].id == "t1" for _, known in reflector.questions)
    assert bank.get("t1").refutes == before + 3  # by three tasks, all counted
    written = [one for one in bank.skills("step") if one.text.title.endswith("chest 6") and one.created == 1]
    assert len(written) == len({group.task.text for group, _ in reflector.questions})
    bank.close()
    event = [one for _, one in Journal(tmp_path / "bank.db").events() if isinstance(one, Insert)][-1]
    assert event.origin["reflector"] == "editor"
    assert set(event.origin["tasks"].split()) == {group.task.id for group, _ in reflector.questions}
    assert any(isinstance(one, Support) for _, one in Journal(tmp_path / "bank.db").events())


def test_revisions_and_missing_answers():
    bank = empty()
    observe(bank, play(bank))
    better = SkillText("take the {thing}", "Take {thing} out of its chest.", "a gem is wanted")
    answers = iter([None, [Edit("revise", skill_id="t1", text=better)], []])
    update = observe(bank, play(bank, ALL[8:16], 1), Editor(lambda group, known: next(answers)), 1, max_groups=3)
    assert (update.reflected, update.failed) == (3, 1)
    assert bank.get("t1").text == better
    (procedures, _) = bank.advise([("take the ruby", "anywhere")])[0]
    assert procedures[0].skill.text.principle == "Take ruby out of its chest."


def test_signals_go_by_act_unless_success_is_asked_for():
    bank = empty()
    assert bank.step_signal == "act" and empty(skills="paper").step_signal == "success"
    observe(bank, play(bank))
    groups = play(bank)
    observe(bank, groups, iteration=1)
    shown = {one.id for g in groups for t in g.half("skills") for turn in t.turns for one in turn.prompt.step_skills}
    right = [one for one in bank.skills("step") if one.id in shown and one.credits]
    assert right and all(one.utility >= 0 for one in right)


@pytest.mark.parametrize("kind", ["paper", "consolidated"])
def test_the_papers_update_has_no_counts_of_evidence(kind):
    bank = empty(skills=kind)
    update = observe(bank, play(bank))
    assert (update.supported is None) == (update.merged is None) == (kind == "paper")
    assert skill("t1").supports == 0
