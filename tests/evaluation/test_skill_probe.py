import random
from collections import Counter
from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import START, ScriptedPolicy, decision, make_scorer, prompt, skill, task, trajectory, turn

from d2skill.evaluation.skill_probe import Effect, probe_skills
from d2skill.protocols import SupportsScoring
from d2skill.types import AnswerScore, Decision, Group, Prompt, Row, Turn


class Follower(ScriptedPolicy):
    """Takes right twice as often as left, and an action thrice as often for each skill that names it.

    Weighs as well, and keeps what it weighed.
    """

    def __init__(self) -> None:
        super().__init__(lambda asked: max(asked.actions, key=lambda action: self.chance(asked, action)))
        self.weighed: list[list[tuple[Prompt, Decision]]] = []

    def chance(self, asked: Prompt, action: str) -> float:
        def weight(other: str) -> int:
            named = sum(other in s.text.principle for s in (*asked.task_skills, *asked.step_skills))
            return 3**named * (2 if other == "right" else 1)

        return weight(action) / sum(map(weight, asked.actions))

    def score_answers(self, decided):
        self.weighed.append(list(decided))
        return [AnswerScore(log(self.chance(asked, made.action)), self.choose(asked)) for asked, made in decided]


LEFT = skill("s1", principle="Go left.")
RIGHT = skill("s2", principle="Go right.")
ALWAYS_LEFT = skill("t1", principle="Always go left.")
IDLE = skill("t2", principle="Take care.")


def of(*turns: Turn) -> list[Group]:
    return [Group(task(), (trajectory("skills", 0, turns=turns), trajectory("none", 1)))]


def probed(policy, groups, decisions=99, seed=0):
    return probe_skills(policy, groups, decisions=decisions, seed=seed)


def one(log_prob: float, changes: bool) -> list[Effect]:
    return [Effect(pytest.approx(log_prob), changes)]


# what is compared


@pytest.mark.parametrize(
    ("action", "skills", "expected"),
    [
        # left has 3 of 5 with the skill and 1 of 3 without; the greedy action is left with it, right without
        ("left", [LEFT], {"s1": one(log(9 / 5), True)}),
        ("right", [LEFT], {"s1": one(log(3 / 5), True)}),
        # 6 of 7 against 2 of 3, and right is greedy in either case
        ("right", [RIGHT], {"s2": one(log(9 / 7), False)}),
        ("left", [IDLE], {"t2": [Effect(0.0, False)]}),
        # 9 of 11 with both, 3 of 5 with either of them: each of them is enough for left to be greedy
        ("left", [ALWAYS_LEFT, LEFT], {"t1": one(log(15 / 11), False), "s1": one(log(15 / 11), False)}),
        # 3 of 9 with both; without t1 1 of 7, without s2 3 of 5
        ("left", [ALWAYS_LEFT, RIGHT], {"t1": one(log(7 / 3), False), "s2": one(log(5 / 9), True)}),
        ("left", [LEFT, RIGHT], {"s1": one(log(7 / 3), False), "s2": one(log(5 / 9), True)}),
    ],
)
def test_worked_numbers(action, skills, expected):
    assert probed(Follower(), of(turn(action, skills))) == expected


def test_the_whole_probe_is_one_batch_and_a_prompt_with_all_skills_is_in_it_once():
    policy = Follower()
    drawn = [turn("left", [ALWAYS_LEFT, IDLE, LEFT]), turn("right", [RIGHT], observation="A yard.")]
    probed(policy, of(*drawn))
    (weighed,) = policy.weighed
    assert len(weighed) == len({asked for asked, _ in weighed}) == 1 + 3 + 1 + 1
    first = drawn[0]
    shown = {
        tuple(s.id for s in (*p.task_skills, *p.step_skills)): made for p, made in weighed if p.observation == START
    }
    assert shown == dict.fromkeys([("t1", "t2", "s1"), ("t2", "s1"), ("t1", "s1"), ("t1", "t2")], first.decision)


def test_a_skill_that_was_drawn_twice_has_two_effects_in_the_order_of_drawing():
    turns = [turn("left", [LEFT, IDLE]), turn("right", [LEFT])]
    orders = set()
    for seed in range(20):
        found = probed(Follower(), of(*turns), seed=seed)
        assert found["t2"] == [Effect(0.0, False)] and len(found["s1"]) == 2
        orders.add(tuple(round(exp(effect.log_prob), 6) for effect in found["s1"]))
    assert orders == {(1.8, 0.6), (0.6, 1.8)}


# what is drawn


def numbered(count: int) -> list[Turn]:
    """Turns that show a skill each, of a number of its own."""
    return [turn("left", [skill(f"s{number}")]) for number in range(count)]


def test_all_turns_are_drawn_alike_often():
    turns = numbered(6)
    groups = [
        Group(task(f"train/{n}"), (trajectory("skills", 0, turns=a), trajectory("skills", 1, turns=b)))
        for n, (a, b) in enumerate([(turns[:1], turns[1:4]), (turns[4:5], turns[5:])])
    ]
    count = Counter(name for seed in range(900) for name in probed(Follower(), groups, decisions=2, seed=seed))
    # binomial with p = 1/3: 300 and a standard deviation of 14
    assert len(count) == 6 and all(abs(times - 300) < 57 for times in count.values())
    firsts = Counter(next(iter(probed(Follower(), groups, seed=seed))) for seed in range(600))
    assert len(firsts) == 6 and all(abs(times - 100) < 37 for times in firsts.values())


@given(st.integers(0, 12), st.integers(0, 2**62))
@settings(max_examples=40, deadline=None)
def test_at_most_so_many_are_drawn_and_none_twice(decisions, seed):
    found = probed(Follower(), of(*numbered(7)), decisions, seed)
    assert len(found) == min(decisions, 7) and all(len(effects) == 1 for effects in found.values())
    assert list(found) == list(probed(Follower(), of(*numbered(7)), decisions, seed))


def test_what_finished_first_does_not_matter():
    turns = numbered(9)
    groups = [
        Group(task(f"train/{n}"), tuple(trajectory("skills", i, turns=[turns[3 * n + i]] * 2) for i in range(3)))
        for n in range(3)
    ]
    late = [Group(group.task, group.trajectories[::-1]) for group in groups[::-1]]
    for seed in range(20):
        early, other = probed(Follower(), groups, 4, seed), probed(Follower(), late, 4, seed)
        assert early == other and list(early) == list(other)


def test_what_shows_nothing_or_has_no_answer_is_not_drawn():
    policy = Follower()
    silent = replace(turn("left", [LEFT]), decision=Decision("hm", "", (), ()))
    groups = [
        Group(
            task(),
            (
                trajectory("skills", 0, turns=[turn("left"), silent]),
                trajectory("skills", 1, turns=[], fault="the lid fell"),
                trajectory("none", 2, turns=[turn("left", [RIGHT])]),
            ),
        )
    ]
    assert probed(policy, groups) == {} == probed(policy, [])
    assert probed(policy, of(turn("left", [LEFT])), decisions=0) == {}
    assert policy.weighed == policy.batches == []


def test_a_policy_that_cannot_weigh_is_not_asked():
    policy = ScriptedPolicy(lambda asked: "left")
    assert not isinstance(policy, SupportsScoring)
    assert probed(policy, of(turn("left", [LEFT]))) == {} and policy.batches == []


# the scorer

HALL = prompt(
    task="find the lamp", observation="You are in a hall.", actions=tuple(f"open door {n}" for n in range(1, 9))
)


def advised(door: int, about: str = "lamp") -> Prompt:
    note = skill("s1", f"{about}: open door {door}", f"Open door {door}, then take {about}.")
    return replace(HALL, step_skills=(note,))


def reader(**optim):
    """A scorer that has seen good advice about doors 1 to 4, and door 1 be right without."""
    policy = make_scorer(**optim)
    shown = [(advised(door), f"open door {door}") for door in range(1, 5)]
    policy.imitate([*shown, (HALL, "open door 1")] * 12, seed=0)
    return policy


def played(policy, prompts, temperature=1.0) -> list[Group]:
    made = policy.act(prompts, range(len(prompts)), temperature)
    return of(*(Turn(asked, answer, True) for asked, answer in zip(prompts, made, strict=True)))


def test_a_scorer_that_reads_advice_is_moved_by_it():
    policy = reader()
    groups = played(policy, [advised(door) for door in (5, 6, 7)], temperature=0.0)
    effects = probed(policy, groups)["s1"]
    assert len(effects) == 3 and all(effect.changes and effect.log_prob > log(3) for effect in effects)
    chosen = decision("open door 2", HALL.actions)
    (against,) = probed(policy, of(Turn(advised(7), chosen, True)))["s1"]
    assert against.log_prob < 0 and against.changes
    with_it, without = (policy.distribution(asked)[1] for asked in (advised(7), HALL))
    assert against.log_prob == pytest.approx(with_it - without)


@given(st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["lamp", "vase"])), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_scorer_that_has_learned_nothing_ignores_skills(shown):
    policy = make_scorer(buckets=1024)
    found = probed(policy, played(policy, [advised(door, about) for door, about in shown]))
    assert found == {"s1": [Effect(0.0, False)] * len(shown)}


# nothing is changed


def left_as_it_was(make, prompts) -> None:
    """Asserts that a policy acts and learns the same to the last bit whether it was probed or not."""
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    outcomes = []
    for asked in (False, True):
        policy = make()
        groups = played(policy, prompts)
        if asked:
            found = probed(policy, groups, decisions=len(prompts) - 1)
            assert any(effect.log_prob for effects in found.values() for effect in effects)
        turns = groups[0].trajectories[0].turns
        metrics = policy.update([Row(t.prompt, t.decision, float(i % 3 - 1)) for i, t in enumerate(turns)], 3)
        outcomes.append((turns, metrics, policy.act(prompts, range(50, 50 + len(prompts)), 1.0)))
    assert outcomes[0] == outcomes[1]
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_a_scorer_is_left_as_it_was():
    left_as_it_was(reader, [advised(door) for door in range(1, 9)])


# the language model


@pytest.fixture
def torch():
    found = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    threads = found.get_num_threads()
    found.set_num_threads(1)
    yield found
    found.set_num_threads(threads)


def tiny(answer: str, learning_rate: float = 3e-3):
    from d2skill.config import CausalLMConfig, OptimConfig, WarmStartConfig
    from d2skill.policies.causal_lm.policy import CausalLMPolicy

    lm = CausalLMConfig(hidden_size=32, layers=2, heads=2, device="cpu", max_new_tokens=12, answer=answer)
    warm_start = WarmStartConfig(learning_rate=learning_rate, epochs=40)
    return CausalLMPolicy(lm, OptimConfig(learning_rate=1e-3, kl=0.1), warm_start, 0, lambda: [*HALL.actions, "lamp"])


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_a_language_model_that_learned_to_read_advice_is_moved_by_it(torch, answer):
    policy, two = tiny(answer), replace(HALL, actions=("open door", "wait"))
    told = replace(two, step_skills=(skill("s1", "lamp: wait", "Wait."),))
    idle = skill("t1", "Look twice", "Look again.")
    prompts = [two, told, *(replace(asked, task_skills=(idle,)) for asked in (two, told))]
    policy.imitate([(asked, "wait" if asked.step_skills else "open door") for asked in prompts] * 4, 0)
    found = probed(policy, played(policy, prompts[3:], temperature=0.0))
    (used,), (ignored,) = found["s1"], found["t1"]
    assert used.changes and used.log_prob > log(3)
    assert not ignored.changes and abs(ignored.log_prob) < log(3)


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_effects_of_a_language_model_are_differences_of_what_it_recorded(torch, answer):
    policy = tiny(answer)
    (group,) = played(policy, [advised(door) for door in range(1, 6)])
    effects = probed(policy, [group])["s1"]
    turns = group.trajectories[0].turns
    without = policy.score_answers([(HALL, t.decision) for t in turns])
    expected = [sum(t.decision.log_probs) - one.log_prob for t, one in zip(turns, without, strict=True)]
    assert sorted(e.log_prob for e in effects) == pytest.approx(sorted(expected), abs=1e-4)


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_a_language_model_is_left_as_it_was(torch, answer):
    before = torch.random.get_rng_state()
    left_as_it_was(lambda: tiny(answer), [advised(door) for door in range(1, 9)])
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.is_grad_enabled()


def test_without_its_procedure_no_prompt_follows_acts():
    policy, followed = Follower(), skill("t1", principle="Left, then right.")
    shown = turn("left", [followed, LEFT], acts_done=1)
    probe_skills(policy, [Group(task(), (trajectory(turns=[shown]),))], decisions=1, seed=0)
    ((whole, without_procedure, without_place),) = ([asked for asked, _ in batch] for batch in policy.weighed)
    assert (whole.acts_done, without_procedure.acts_done, without_place.acts_done) == (1, -1, 1)
