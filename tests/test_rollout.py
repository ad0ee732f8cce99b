from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import (
    START,
    FaultyEnvironment,
    ScriptedPolicy,
    TreasureEnvironment,
    make_bank,
    make_scorer,
    prompt,
    skill,
    step_draft,
    task_draft,
)

from d2skill.config import PromptConfig
from d2skill.errors import D2SkillError, DataError
from d2skill.rollout import Member, Rollouts
from d2skill.utils.rng import derive

TASKS = ["train/000", "train/001", "train/002"]  # ruby, opal, pearl


def advice():
    """A bank with skills for every task, at its start and further on."""
    drafts = []
    for gem in ("ruby", "opal", "pearl"):
        text = f"take the {gem}"
        drafts += [
            task_draft(f"{gem}: search", "Open all chests in turn.", text),
            step_draft(f"{gem}: open chest 3", f"Open chest 3, then take {gem}.", text),
            step_draft(f"{gem}: go on", "Open chest 2.", text, "You open the chest 1. It is empty."),
        ]
    return make_bank(*drafts)


def learned():
    """A policy whose choices differ, and depend on what the prompt says."""
    policy = make_scorer()
    start = prompt(observation=START, actions=TreasureEnvironment().start(TASKS[0]).observation.actions)
    note = skill("s1", "ruby: open chest 3", "Open chest 3, then take ruby.")
    policy.imitate([(start, "open chest 1"), (replace(start, step_skills=(note,)), "open chest 3")] * 3, seed=0)
    return policy


def rollouts(policy=None, environment=None, bank=None, max_steps=4, **settings) -> Rollouts:
    bank = advice() if bank is None else bank
    return Rollouts(
        environment or TreasureEnvironment(), policy or learned(), bank, PromptConfig(**settings), max_steps
    )


def play_groups(one: Rollouts, tasks=TASKS, **settings):
    return one.groups(tasks, **({"group_size": 4, "with_skills": 2, "temperature": 1.0, "seed": 3} | settings))


# the pairs


def test_groups_have_their_tasks_halves_and_members():
    groups = play_groups(rollouts())
    assert [g.task.id for g in groups] == TASKS
    for group in groups:
        assert [(t.arm, t.index) for t in group.trajectories] == [
            ("skills", 0),
            ("skills", 1),
            ("none", 2),
            ("none", 3),
        ]
        assert {t.task for t in group.trajectories} == {group.task}


def test_the_halves_start_alike_and_differ_in_skills_alone():
    for group in play_groups(rollouts()):
        first = [t.turns[0].prompt for t in group.trajectories]
        assert len({replace(p, task_skills=(), step_skills=()) for p in first}) == 1
        assert first[0].task_skills and first[0].step_skills
        assert first[0] == first[1]
        assert first[2] == first[3] != first[0]


def test_baseline_prompts_have_no_skills():
    for group in play_groups(rollouts()):
        assert all(turn.skill_ids == () for t in group.half("none") for turn in t.turns)
        assert all(turn.skill_ids for t in group.half("skills") for turn in t.turns[:1])


def test_without_skills_the_bank_is_not_asked():
    bank = advice()
    bank.retrieve_task = bank.retrieve_step = lambda queries, trial: [] if not queries else pytest.fail("asked")
    groups = play_groups(rollouts(bank=bank), with_skills=0)
    assert all(t.arm == "none" for g in groups for t in g.trajectories)


def test_members_are_sampled_apart():
    (group,) = play_groups(rollouts(make_scorer()), TASKS[:1], group_size=12, with_skills=0)
    assert len({t.turns[0].decision.action for t in group.trajectories}) > 2


def test_playing_leaves_the_bank_as_it_is():
    bank = advice()
    before = bank.skills()
    play_groups(rollouts(bank=bank))
    assert bank.skills() == before


def test_skills_are_retrieved_anew_at_each_step():
    policy = ScriptedPolicy(lambda p: "open chest 1" if p.observation == START else p.actions[1])
    play_groups(rollouts(policy, max_steps=2), TASKS[:1], group_size=2, with_skills=1)
    (first, _), (second, _) = policy.batches
    assert first.step_skills[0].text.title == "ruby: open chest 3"
    assert second.step_skills[0].text.title == "ruby: go on"
    assert first.task_skills == second.task_skills


# nothing depends on the batch

MEMBERS = [
    Member(task_id, arm, index, derive(11, task_id, index))
    for task_id in TASKS
    for index, arm in enumerate(("skills", "skills", "none", "none"))
]
TOGETHER = rollouts().play(MEMBERS, 1.0)


def test_members_differ_so_that_the_order_could_matter():
    assert len({tuple(turn.decision.action for turn in t.turns) for t in TOGETHER}) > 6
    assert len({len(t.turns) for t in TOGETHER}) > 1


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(len(MEMBERS))))
def test_the_order_of_members_does_not_matter(order):
    played = rollouts().play([MEMBERS[i] for i in order], 1.0)
    assert played == [TOGETHER[i] for i in order]


def test_one_by_one_is_the_same_as_together():
    one = rollouts()
    assert [one.play([member], 1.0)[0] for member in MEMBERS] == TOGETHER


def test_a_group_does_not_depend_on_the_other_tasks():
    together = play_groups(rollouts())
    assert play_groups(rollouts(), TASKS[::-1]) == together[::-1]
    assert play_groups(rollouts(), TASKS[1:2]) == together[1:2]


def test_the_same_seed_gives_the_same_groups_and_another_other_ones():
    assert play_groups(rollouts()) == play_groups(rollouts())
    assert play_groups(rollouts()) != play_groups(rollouts(), seed=4)


# the end of an episode


def test_no_decisions_for_finished_episodes():
    policy = ScriptedPolicy(lambda p: p.actions[-1] if "ruby" in p.task else "open chest 2")
    one = rollouts(policy, TreasureEnvironment(1), max_steps=5)
    trajectories = one.play([Member(t, "none", 0, 0) for t in TASKS[:2]], 1.0)
    assert [len(t.turns) for t in trajectories] == [2, 5]
    assert [len(batch) for batch in policy.batches] == [2, 2, 1, 1, 1]
    assert [t.success for t in trajectories] == [True, False]


def test_what_retrieval_is_asked_for_an_episode_ends_with_it():
    bank = advice()
    asked = []
    retrieve = bank.retrieve_step
    bank.retrieve_step = lambda pairs, trial: asked.extend(pairs) or retrieve(pairs, trial=trial)
    (played,) = rollouts(ScriptedPolicy(lambda p: p.actions[-1]), TreasureEnvironment(1), bank).play(
        [Member(TASKS[0], "skills", 0, 0)], 1.0
    )
    assert len(asked) == len(played.turns) == 2
    assert played.final not in [observation for _, observation in asked]


def test_nobody_to_play():
    assert rollouts(ScriptedPolicy(lambda p: "")).play([], 1.0) == []


# faults


def test_a_fault_is_recorded_and_the_others_play_on():
    faulty = FaultyEnvironment(TreasureEnvironment(), lambda task, action: "opal" in task.text)
    groups = play_groups(rollouts(environment=faulty))
    healthy = play_groups(rollouts())
    assert groups[0] == healthy[0] and groups[2] == healthy[2]
    for t in groups[1].trajectories:
        assert t.fault == "EnvironmentFault: the lid fell"
        assert not t.success
        assert len(t.turns) == 1


def test_an_environment_that_fails_to_start_one_episode_is_a_fault_of_that_one():
    class Flaky(TreasureEnvironment):
        starts = 0

        def start(self, task_id):
            self.starts += 1
            if self.starts == 1:
                raise ConnectionError("no answer")
            return super().start(task_id)

    group = play_groups(rollouts(environment=Flaky()))[0]
    first, *others = group.trajectories
    assert first.fault == "ConnectionError: no answer" and not first.success and not first.turns
    assert not any(t.fault for t in others)
    assert group.task == others[0].task


def test_broken_data_stops_the_run():
    class Broken(TreasureEnvironment):
        def start(self, task_id):
            raise DataError("game file x has no goal")

    with pytest.raises(DataError, match="no goal"):
        play_groups(rollouts(environment=Broken()))


def test_nothing_but_faults_stops_the_run():
    faulty = FaultyEnvironment(TreasureEnvironment(), lambda task, action: True)
    with pytest.raises(D2SkillError, match=r"all of 12 episodes.*train/000.*the lid fell.*check-env"):
        play_groups(rollouts(environment=faulty))


def test_time_is_told_by_part():
    one = rollouts()
    play_groups(one)
    timing = one.timing
    assert min(timing.environment, timing.retrieval, timing.policy) > 0
