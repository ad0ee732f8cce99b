import itertools
import random

import pytest

torch = pytest.importorskip("torch")

from test_causal_lm_policy import plain_log_probs, policy, rows  # noqa: E402

from d2skill.policies.causal_lm import prefix_sharing  # noqa: E402
from d2skill.policies.causal_lm.forward import sequence_logits  # noqa: E402
from d2skill.policies.causal_lm.loss import microbatch_groups, token_log_probs  # noqa: E402
from d2skill.policies.causal_lm.prefix_sharing import common_length, group_sequences, shared_prefix  # noqa: E402
from d2skill.types import Prompt, Row  # noqa: E402


@pytest.fixture(params=[1, 80, 10**9], ids=["every prefix", "long prefixes", "no prefix"])
def threshold(request, monkeypatch):
    monkeypatch.setitem(prefix_sharing.FORWARD_COST, "cpu", request.param)
    return request.param


def members(seed=0, tasks=3, size=6):
    """Prompts of some groups: the task and a long first observation shared, what follows not, one prompt twice."""
    draw, words = random.Random(seed), ("apple", "bread", "knife", "mug", "plate", "lamp")
    out = []
    for task in range(tasks):
        first = "You see a " + ", a ".join(draw.choices(words, k=30))
        for _ in range(size):
            seen = draw.sample(words, draw.randint(1, 4))
            history = tuple(("You see a desk.", f"take {w}") for w in seen[1:])
            actions = ("look", "look around", *(f"take {w}" for w in seen))
            out.append(Prompt(f"find the {words[task]}", f"a {seen[0]}", actions, ((first, "look"), *history)))
    return [*out, out[0]]


def drawn(kind):
    """Rows of tokens with or without beginnings in common, one of them the beginning of another."""
    draw, starts = random.Random(kind), [(), (1,) * 40, (2,) * 90, (1,) * 40 + (3,) * 50][: kind + 1]
    out = [draw.choice(starts) + tuple(draw.choices(range(4), k=draw.randint(1, 30))) for _ in range(9)]
    return [*out, out[0][:1], out[-1] + (1,), out[2]]


def cost(group, prompts, answers):
    """Tokens and passes of a cluster, worked out from the rules rather than step by step."""
    start, shares = shared_prefix([prompts[i] for i in group], [answers[i] for i in group], "cpu")
    left = max(len(prompts[i]) + answers[i] - share for i, share in zip(group, shares, strict=True))
    return len(start) + len(group) * left, 1 + bool(start)


def test_the_common_length_counts_the_tokens_with_which_two_sequences_begin():
    assert common_length((1, 2, 3), (1, 2, 4)) == common_length((1, 2), (1, 2, 3)) == common_length((1, 2), (1, 2)) == 2
    assert common_length((1,), (2, 1)) == common_length((), (1,)) == 0
    draw = random.Random(0)
    for _ in range(200):
        one, other = (tuple(draw.choices(range(2), k=draw.randint(0, 12))) for _ in range(2))
        same = [a == b for a, b in zip(one, other, strict=False)]
        assert common_length(one, other) == next((i for i, equal in enumerate(same) if not equal), len(same))


def test_steps_of_an_episode_leave_the_longest_of_them_where_they_differ():
    past = tuple(range(100))
    steps = [(*past[:length], 200, 201, 202) for length in (60, 80, 100)]
    start, shares = shared_prefix(steps, [4, 4, 4], "cpu")
    assert start == past[:80] and shares == [60, 80, 80]
    # the same prompt again reads its last token only, whose logits begin the answer
    assert shared_prefix([past, past], [1, 1], "cpu") == (past[:99], [99, 99])
    # what is shared would be saved at the cost of a pass
    assert shared_prefix([(1,) * 35 + (i,) for i in range(2)], [0, 0], "cpu") == ((), [0, 0])
    assert shared_prefix([past], [7], "cpu") == ((), [0])


@pytest.mark.parametrize("kind", range(4))
def test_clusters_are_the_cheapest_cut(kind, threshold):
    prompts = drawn(kind)
    answers = [random.Random(i).randint(0, 3) for i in range(len(prompts))]
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i], answers[i]))

    def price(groups):
        return sum(t + n * threshold for t, n in (cost(group, prompts, answers) for group in groups))

    def cuts():
        for size in range(len(order)):
            for inner in itertools.combinations(range(1, len(order)), size):
                yield [order[a:b] for a, b in itertools.pairwise((0, *inner, len(order)))]

    found = group_sequences(prompts, answers, "cpu")
    assert sorted(itertools.chain.from_iterable(found)) == list(range(len(prompts)))
    assert price(found) == min(map(price, cuts()))
    for group in group_sequences(prompts, answers, "cpu", 130):
        assert len(group) == 1 or cost(group, prompts, answers)[0] <= 130
    assert group_sequences([], [], "cpu") == []


def test_a_shared_prefix_gives_what_plain_passes_give():
    model, past = policy().model, tuple(range(3, 60))
    rows = [(*past[:30], 2, 3), (*past, 5), (*past[:50], 5, 6, 7), past]
    start, shares = shared_prefix(rows, [0] * len(rows), "cpu")
    assert start == past[:56] and shares == [30, 56, 50, 56]
    with torch.no_grad():
        together = sequence_logits(model, rows, [(31,), (56, 57), (50, 52), (56,)], start, shares)
        plain = [model(torch.tensor([row])).logits[0] for row in rows]
        expected = [plain[0][31:], plain[1][56:], plain[2][[50, 52]], plain[3][56:]]
        assert torch.allclose(together, torch.cat(expected), atol=1e-5)


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_decisions_are_those_without_sharing(answer, monkeypatch):
    p, prompts = policy(policy()._settings.model_copy(update={"answer": answer})), members()

    def play():
        computed = []
        hook = p.model.register_forward_pre_hook(
            lambda _m, _a, k: computed.append(k["input_ids"].numel()), with_kwargs=True
        )
        decisions = p.act(prompts * 3, range(len(prompts) * 3), 1.0)
        hook.remove()
        return decisions, sum(computed)

    together, computed = play()
    monkeypatch.setitem(prefix_sharing.FORWARD_COST, "cpu", 10**9)
    apart, whole = play()
    assert [d.tokens for d in together] == [d.tokens for d in apart]
    for one, two in zip(together, apart, strict=True):
        assert one.log_probs == pytest.approx(two.log_probs, abs=1e-5)
    assert computed < (0.6 if answer == "choice" else 0.8) * whole


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_gradients_through_a_prefix_are_those_of_plain_passes(answer, threshold):
    p, prompts = policy(policy()._settings.model_copy(update={"answer": answer})), members()
    decisions = p.act(prompts, range(len(prompts)), 1.0)
    items = [item for a, d in zip(prompts, decisions, strict=True) if (item := p._example(Row(a, d, 1.0)))]
    assert threshold == 10**9 or any(
        shared_prefix([items[i].prompt for i in group], [len(items[i].inputs) for i in group], "cpu")[0]
        for group in microbatch_groups(items, 10**9, "cpu")
    )
    weight = torch.linspace(-1, 1, sum(len(item.positions) for item in items))
    one, _ = token_log_probs(p.model, items, 1.0)
    (one * weight).sum().backward()
    got = [x.grad.clone() for x in p.model.parameters()]
    p.model.zero_grad()
    plain = torch.cat([plain_log_probs(p.model, item) for item in items])
    (plain * weight).sum().backward()
    assert torch.allclose(one, plain, atol=1e-5)
    for a, x in zip(got, p.model.parameters(), strict=True):
        assert (a - x.grad).norm() <= 1e-5 * x.grad.norm() + 1e-7


def test_an_update_reproduces_what_was_recorded_and_is_that_without_sharing(monkeypatch):
    shared_one, plain_one = policy(), policy()
    prompts = members()
    decisions = shared_one.act(prompts, range(len(prompts)), 1.0)
    learn = [Row(a, d, float(i % 3 - 1)) for i, (a, d) in enumerate(zip(prompts, decisions, strict=True))]
    got = shared_one.update(learn, 0)
    monkeypatch.setitem(prefix_sharing.FORWARD_COST, "cpu", 10**9)
    expected = plain_one.update(learn, 0)
    assert got["policy/ratio_error"] < 1e-4
    assert got == pytest.approx(expected, abs=1e-4)
    assert shared_one.update(rows(shared_one), 1)["policy/ratio_error"] < 1e-4
