from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import decision, make_scorer, prompt, skill, tiny_config

from d2skill.errors import RunError
from d2skill.policies import make_policy
from d2skill.policies.scorer.adam import Adam
from d2skill.policies.scorer.loss import clipped_loss
from d2skill.types import Prompt, Row
from d2skill.utils.rng import derive

DOORS = tuple(f"open door {number}" for number in range(1, 9))
HALL = prompt(task="find the lamp", observation="You are in a hall.", actions=DOORS)


def advised(thing: str, door: int, about: str = "", **fields) -> Prompt:
    """A hall in which one looks for `thing`, with the advice that it (or what it is `about`) is behind a door."""
    note = skill("s1", f"{about or thing}: open door {door}", f"Open door {door}, then take {about or thing}.")
    return replace(HALL, task=f"find the {thing}", step_skills=(note,), **fields)


def choices(policy, prompts, temperature=0.0):
    return [d.action for d in policy.act(prompts, [derive(7, i) for i in range(len(prompts))], temperature)]


def probability(policy, asked: Prompt, action: str) -> float:
    return float(np.exp(policy.distribution(asked)[asked.actions.index(action)]))


def rows_for(policy, asked: Prompt, seeds, advantage) -> list[Row]:
    decisions = policy.act([asked] * len(seeds), [derive("row", s) for s in seeds], 1.0)
    return [Row(asked, d, advantage(d)) for d in decisions]


def trained(**optim):
    """A policy with some weights, reference and momentum of its own."""
    policy = make_scorer(**optim)
    policy.imitate([(advised("lamp", d), f"open door {d}") for d in range(1, 4)], seed=1)
    policy.freeze_reference()
    policy.update(rows_for(policy, advised("lamp", 2), range(20), lambda d: 1.0 if d.action == DOORS[4] else -0.1), 2)
    return policy


# acting


def test_untrained_it_is_uniform():
    assert np.exp(make_scorer().distribution(HALL)) == pytest.approx(np.full(8, 1 / 8))
    found = choices(make_scorer(), [HALL] * 4000, temperature=1.0)
    shares = [found.count(action) / 4000 for action in DOORS]
    assert shares == pytest.approx([1 / 8] * 8, abs=0.03)


def test_a_decision_records_choice_and_log_probability():
    policy = trained()
    (made,) = policy.act([HALL], [5], 1.0)
    assert made.text == made.action == DOORS[made.tokens[0]]
    assert made.log_probs == pytest.approx([policy.distribution(HALL)[made.tokens[0]]])


def test_the_recorded_log_probability_is_that_of_the_tempered_distribution():
    policy = trained()
    asked = advised("lamp", 2)
    raw = policy.distribution(asked)
    tempered = raw / 0.5 - np.log(np.exp(raw / 0.5).sum())
    for seed in range(20):
        (made,) = policy.act([asked], [derive(seed)], 0.5)
        assert made.log_probs[0] == pytest.approx(tempered[made.tokens[0]])


def test_sampling_follows_the_distribution():
    policy = trained()
    asked = advised("lamp", 2)
    found = choices(policy, [asked] * 4000, temperature=1.0)
    expected = np.exp(policy.distribution(asked))
    assert expected.max() > 0.2
    assert [found.count(action) / 4000 for action in DOORS] == pytest.approx(expected, abs=0.03)


def test_seeds_reproduce_and_differ():
    first = choices(make_scorer(), [HALL] * 50, temperature=1.0)
    assert first == choices(make_scorer(), [HALL] * 50, temperature=1.0)
    assert len(set(first)) > 4


def test_temperature_zero_is_greedy_whatever_the_seed():
    policy = trained()
    asked = advised("lamp", 2)
    best = DOORS[int(np.argmax(policy.distribution(asked)))]
    assert set(choices(policy, [asked] * 30, temperature=0.0)) == {best}


SOME = [
    HALL,
    *(advised("lamp", d) for d in range(1, 5)),
    advised("vase", 3, about="lamp"),
    replace(HALL, actions=("a",)),
]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(SOME), st.integers(0, 2**62)), min_size=1, max_size=8),
    st.sampled_from([0, 0.4, 1]),
)
def test_a_decision_does_not_depend_on_the_batch_to_the_last_bit(policy_and_batch_cases, temperature):
    prompts, seeds = zip(*policy_and_batch_cases, strict=True)
    together = POLICY.act(prompts, seeds, temperature)
    assert together == [POLICY.act([p], [s], temperature)[0] for p, s in zip(prompts, seeds, strict=True)]
    assert together[::-1] == POLICY.act(prompts[::-1], seeds[::-1], temperature)


POLICY = trained()


def test_a_prompt_without_actions_gets_an_empty_decision():
    free = replace(HALL, actions=())
    policy = make_scorer()
    assert policy.act([free], [1], 1.0)[0].action == ""
    mixed = policy.act([HALL, free, HALL], [1, 2, 3], 1.0)
    assert [d.action for d in mixed] == [
        policy.act([HALL], [1], 1.0)[0].action,
        "",
        policy.act([HALL], [3], 1.0)[0].action,
    ]
    assert policy.update([Row(free, mixed[1], 1.0)], 0) == {}
    assert np.exp(policy.distribution(HALL)) == pytest.approx(np.full(8, 1 / 8))


def test_tokens_are_words_and_numbers():
    policy = make_scorer()
    assert policy.count_tokens("You see a door 2, and no-one.") == 7
    assert policy.count_tokens("") == 0


def test_no_prompts_no_decisions():
    assert make_scorer().act([], [], 1.0) == []


def test_actions_that_are_empty_or_without_words_can_be_chosen():
    odd = replace(HALL, actions=("", "!?", "3", "open door 1"))
    assert choices(make_scorer(), [odd] * 40, temperature=1.0)


# scoring answers


def log_probs(policy, decided):
    """Returns the scores of decisions; the greedy actions beside them are those of acting."""
    scores = policy.score_answers(decided)
    greedy = policy.act([asked for asked, _ in decided], [0] * len(decided), 0.0)
    assert [score.greedy for score in scores] == [made.action for made in greedy]
    return [score.log_prob for score in scores]


@pytest.mark.parametrize("made_on", [HALL, advised("lamp", 2)])
def test_what_was_recorded_at_temperature_1_is_what_an_answer_scores(made_on):
    policy = trained()
    decided = [(made_on, d) for d in policy.act([made_on] * 9, [derive("weigh", i) for i in range(9)], 1.0)]
    assert log_probs(policy, decided) == [d.log_probs[0] for _, d in decided]


def test_an_answer_scores_what_another_prompt_gives_it_whatever_else_is_scored():
    policy = trained()
    decided = [(asked, decision(action, asked.actions)) for asked in SOME[:6] for action in DOORS]
    together = log_probs(policy, decided)
    assert together == [log_probs(policy, [pair])[0] for pair in decided]
    assert together == [policy.distribution(asked)[d.tokens[0]] for asked, d in decided]
    assert log_probs(policy, []) == []


def test_an_answer_without_a_choice_scores_nothing():
    free, pair = replace(HALL, actions=()), (HALL, decision(DOORS[2], DOORS))
    policy = trained()
    empty = policy.act([free], [0], 1.0)[0]
    assert log_probs(policy, [(free, empty)]) == [0.0]
    assert log_probs(policy, [(HALL, empty), pair, (free, empty)]) == [0.0, *log_probs(policy, [pair]), 0.0]


@pytest.mark.parametrize("actions", [(), DOORS[:2], DOORS[::-1]])
def test_a_prompt_that_does_not_admit_an_answer_is_refused(actions):
    with pytest.raises(ValueError, match="'open door 3' is not action 2"):
        log_probs(
            make_scorer(), [(replace(HALL, actions=actions), decision(DOORS[2], DOORS)), (HALL, decision("", ("",)))]
        )


# imitation


def test_imitation_learns_what_goes_with_what():
    policy = make_scorer()
    toy = [(replace(HALL, task=f"find the {thing}"), f"open {thing} box") for thing in ("lamp", "vase", "book")]
    boxes = tuple(action for _, action in toy)
    metrics = policy.imitate([(replace(p, actions=boxes), a) for p, a in toy] * 10, seed=0)
    assert metrics["warm_start/accuracy"] == 1.0
    assert choices(policy, [replace(p, actions=boxes) for p, _ in toy]) == list(boxes)


def test_imitation_leaves_out_what_is_not_admissible():
    policy = make_scorer()
    assert policy.imitate([(HALL, "sing")], seed=0) == {"warm_start/loss": 0.0, "warm_start/accuracy": 0.0}
    assert np.exp(policy.distribution(HALL)) == pytest.approx(np.full(8, 1 / 8))


def test_imitation_is_reproducible():
    demonstrations = [(advised("lamp", d), f"open door {d}") for d in (1, 2, 3)]
    one, two = make_scorer(), make_scorer()
    assert one.imitate(demonstrations, 3) == two.imitate(demonstrations, 3)
    assert (one.distribution(HALL) == two.distribution(HALL)).all()


# reading skills


@pytest.fixture(scope="module")
def reader():
    """Saw skills that name the right one of doors 1 to 4, for two things, and a first door that is right without."""
    policy = make_scorer()
    demonstrations = []
    for thing, other in (("lamp", "vase"), ("vase", "lamp")):
        plain = replace(HALL, task=f"find the {thing}", observation="You are in a hall. You see a door 1.")
        demonstrations += [(advised(thing, door), f"open door {door}") for door in range(1, 5)]
        demonstrations += [(plain, "open door 1")] * 2
        for door in range(2, 5):
            aside = advised(thing, door, about=other, observation=plain.observation)
            demonstrations.append((aside, "open door 1"))
    policy.imitate(demonstrations * 6, seed=0)
    return policy


@pytest.mark.parametrize("door", [5, 6, 7, 8])
def test_it_follows_a_new_skill_to_a_door_it_never_saw_chosen(reader, door):
    for thing in ("lamp", "vase", "book"):
        asked = advised(thing, door)
        assert choices(reader, [asked]) == [f"open door {door}"]
        assert probability(reader, asked, f"open door {door}") > 0.6


def test_the_skill_makes_the_difference(reader):
    door = "open door 7"
    assert probability(reader, advised("lamp", 7), door) > 3 * probability(reader, HALL, door)


@pytest.mark.parametrize("door", [5, 6, 7, 8])
def test_it_ignores_a_skill_that_is_aside_from_its_task(reader, door):
    asked = advised("lamp", door, about="vase", observation="You are in a hall. You see a door 1.")
    assert choices(reader, [asked]) == ["open door 1"]


def test_it_learns_to_leave_what_a_skill_advises_against():
    policy = make_scorer()
    three = DOORS[:3]

    def warned(thing: str, doors, actions) -> Prompt:
        listed = ", ".join(f"door {door}" for door in doors)
        note = skill("s1", f"{thing}: not where it was sought", f"It is not behind {listed}.")
        return replace(HALL, task=f"find the {thing}", step_skills=(note,), actions=actions)

    pairs = [((2, 3), 1), ((1, 3), 2), ((1, 2), 3)]
    policy.imitate([(warned("lamp", doors, three), f"open door {left}") for doors, left in pairs] * 20, seed=0)
    assert choices(policy, [warned("vase", (5, 8), ("open door 5", "open door 8", "open door 6"))]) == ["open door 6"]


# the update (Eq. 6)


def test_the_gradient_is_that_of_the_loss(monkeypatch):
    """The analytic gradient of a step, caught before Adam, equals central differences of Eq. 6 through the softmax."""
    caught = []
    monkeypatch.setattr(Adam, "descend", lambda self, weights, gradient, rate: caught.append(gradient.copy()))
    policy = make_scorer(buckets=1024, clip=0.2, kl=0.3, max_grad_norm=1e9, minibatch_rows=100)
    rng = np.random.default_rng(0)
    policy._weights = rng.normal(0, 0.3, 1024)
    policy._reference = rng.normal(0, 0.3, 1024)
    yard = prompt(task="paint the fence", actions=("paint fence 1 with brush 2", "open gate", "go to shed 1", "wait"))
    prompts = [yard, advised("lamp", 2), advised("vase", 5, about="lamp", actions=DOORS[:3])]
    rows = []
    for asked in prompts * 3:
        choice = int(rng.integers(len(asked.actions)))
        old = policy.distribution(asked)[choice] - rng.normal(0, 0.4)
        made = replace(decision(asked.actions[choice], asked.actions), log_probs=(float(old),))
        rows.append(Row(asked, made, float(rng.normal())))
    reference = make_scorer(buckets=1024)
    reference._weights = policy._reference

    def loss() -> float:
        at = [(policy.distribution(r.prompt)[r.decision.tokens[0]], r) for r in rows]
        ref = np.array([reference.distribution(r.prompt)[r.decision.tokens[0]] for r in rows])
        old = np.array([r.decision.log_probs[0] for r in rows])
        advantages = np.array([r.advantage for r in rows])
        return clipped_loss(np.array([p for p, _ in at]), old, ref, advantages, clip=0.2, kl=0.3).loss.mean()

    metrics = policy.update(rows, seed=0)
    (gradient,) = caught
    assert metrics["policy/loss"] == pytest.approx(loss())
    assert metrics["policy/grad_norm"] == pytest.approx(np.linalg.norm(gradient))
    assert 0 < metrics["policy/clip_fraction"] < 1
    used = np.flatnonzero(gradient)
    assert len(used) > 50
    for bucket in rng.choice(used, 50, replace=False):
        kept, step = policy._weights[bucket], 1e-6
        policy._weights[bucket] = kept + step
        above = loss()
        policy._weights[bucket] = kept - step
        below = loss()
        policy._weights[bucket] = kept
        assert gradient[bucket] == pytest.approx((above - below) / (2 * step), abs=1e-6)


def test_an_update_raises_what_was_better_than_the_others():
    policy = make_scorer(learning_rate=0.05)
    actions = ("open door", "shut door", "paint door")
    asked = replace(HALL, actions=actions)
    before = probability(policy, asked, "shut door")
    rows = rows_for(policy, asked, range(60), lambda d: 1.0 if d.action == "shut door" else -0.5)
    metrics = policy.update(rows, seed=0)
    assert probability(policy, asked, "shut door") > before + 0.02
    assert metrics["policy/ratio_error"] < 1e-12
    assert metrics["policy/kl"] >= 0


def test_the_first_ratio_is_one_at_any_position_in_the_batch():
    policy = trained()
    rows = [row for p in SOME for row in rows_for(policy, p, range(3), lambda d: 1.0)]
    assert policy.update(rows, seed=4)["policy/ratio_error"] < 1e-12


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_first_ratio_is_one_at_the_temperature_of_the_rollouts(temperature):
    """What was sampled from the tempered distribution is learned from under it, as `causal-lm` does."""
    policy = make_policy(tiny_config(rollout={"temperature": temperature}), list)
    asked = advised("lamp", 2)
    policy.imitate([(asked, "open door 2")] * 30, seed=0)
    decisions = policy.act([asked] * 30, [derive("row", i) for i in range(30)], temperature)
    assert policy.update([Row(asked, d, 1.0) for d in decisions], 0)["policy/ratio_error"] < 1e-9


def test_kl_pulls_to_the_reference():
    asked = replace(HALL, actions=("open door", "shut door", "paint door"))
    away = make_scorer()
    away.imitate([(asked, "shut door")] * 40, seed=0)
    start = probability(away, asked, "shut door")
    assert start > 0.5
    shares = []
    for kl in (0.0, 2.0):
        policy = make_scorer(kl=kl, learning_rate=0.02)  # the reference is uniform
        policy._weights = away._weights.copy()
        for round_ in range(15):
            policy.update(rows_for(policy, asked, range(100 * round_, 100 * round_ + 64), lambda d: 0.0), seed=round_)
        shares.append(probability(policy, asked, "shut door"))
    assert shares[0] == pytest.approx(start)
    assert 1 / 3 - 0.1 < shares[1] < start - 0.1


def test_freezing_moves_the_reference():
    policy = trained(kl=0.5)
    policy.freeze_reference()
    metrics = policy.update(rows_for(policy, HALL, range(20), lambda d: 0.0), 0)
    assert metrics["policy/kl"] == pytest.approx(0, abs=1e-12)
    assert metrics["policy/grad_norm"] == pytest.approx(0, abs=1e-12)


def test_minibatches_and_reproducibility():
    one, two = trained(minibatch_rows=7), trained(minibatch_rows=7)
    rows = rows_for(one, advised("lamp", 1), range(40), lambda d: float(d.tokens[0]) - 3.0)
    assert one.update(rows, 9) == two.update(rows, 9)
    assert (one.distribution(HALL) == two.distribution(HALL)).all()


def test_no_rows_no_update():
    assert make_scorer().update([], 0) == {}


# files


def test_a_loaded_policy_goes_on_bit_for_bit(tmp_path):
    policy, other = trained(), make_scorer()
    policy.save(tmp_path)
    other.load(tmp_path)
    rows = rows_for(policy, advised("lamp", 3), range(30), lambda d: 1.0 if d.tokens[0] == 2 else -0.2)
    assert policy.act(SOME, range(len(SOME)), 1.0) == other.act(SOME, range(len(SOME)), 1.0)
    assert policy.update(rows, 5) == other.update(rows, 5)
    for asked in SOME:
        assert (policy.distribution(asked) == other.distribution(asked)).all()


def test_a_missing_file_is_told_in_words(tmp_path):
    with pytest.raises(RunError, match=r"scorer\.npz is missing.*policy\.kind"):
        make_scorer().load(tmp_path)


def test_another_size_is_told_in_words(tmp_path):
    make_scorer(buckets=1024).save(tmp_path)
    with pytest.raises(RunError, match=r"1024 buckets, the settings say 2048.*policy\.scorer\.buckets"):
        make_scorer(buckets=2048).load(tmp_path)


def test_another_version_is_told_in_words(tmp_path, monkeypatch):
    make_scorer(buckets=1024).save(tmp_path)
    monkeypatch.setattr("d2skill.policies.scorer.policy._VERSION", 2)
    with pytest.raises(RunError, match="another version"):
        make_scorer(buckets=1024).load(tmp_path)


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.999])
def test_a_damaged_file_is_told_in_words(tmp_path, kept):
    make_scorer(buckets=1024).save(tmp_path)
    file = tmp_path / "scorer.npz"
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    with pytest.raises(RunError, match=r"scorer\.npz"):
        make_scorer(buckets=1024).load(tmp_path)
