import itertools
import random

import pytest

torch = pytest.importorskip("torch")

from test_causal_lm import plain_log_probs, policy, rows  # noqa: E402

from d2skill.policies import prefixes  # noqa: E402
from d2skill.policies.generation import Context, extend, prefill, read  # noqa: E402
from d2skill.policies.prefixes import clusters, overlap, shared  # noqa: E402
from d2skill.policies.torch_loss import token_log_probs  # noqa: E402
from d2skill.types import Prompt, Row  # noqa: E402


@pytest.fixture(params=[1, 80, 10**9], ids=["every prefix", "long prefixes", "no prefix"])
def threshold(request, monkeypatch):
    monkeypatch.setitem(prefixes.PASS, "cpu", request.param)
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
    mine = {prompts[i] for i in group}
    longest, prefix = max(map(len, mine)), shared(sorted(mine), "cpu")
    tokens = prefix + len(mine) * (longest - prefix) + len(group) * max(answers[i] for i in group)
    return tokens, 1 + bool(prefix) + any(answers[i] for i in group)


def test_an_overlap_leaves_a_token_to_each():
    assert overlap((1, 2, 3), (1, 2, 4)) == 2
    assert overlap((1, 2), (1, 2, 3)) == 1
    assert overlap((1,), (1, 2)) == overlap((), (1,)) == 0
    assert shared([(1,) * 50 + (i,) for i in range(3)], "cpu") == 50
    assert shared([(1,) * 15 + (i,) for i in range(3)], "cpu") == 0  # would save 30 tokens at the cost of a pass


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

    found = clusters(prompts, answers, "cpu")
    assert sorted(itertools.chain.from_iterable(found)) == list(range(len(prompts)))
    assert price(found) == min(map(price, cuts()))
    for group in clusters(prompts, answers, "cpu", 130):
        assert len(group) == 1 or cost(group, prompts, answers)[0] <= 130
    assert clusters([], [], "cpu") == []


def test_reading_and_joining_give_what_plain_passes_give(threshold):
    model = policy().model
    prompts, chunks = (
        [(1,) * 50 + (2, 3), (1,) * 50 + (5,), (1,) * 50 + (5, 6, 7), (9, 8)],
        [(4,), (4, 5), (6,), (7, 7)],
    )
    with torch.no_grad():
        one, two = read(model, prompts[:3]), read(model, prompts[3:])
        context = Context.join([two[1], one[1]])
        logits = torch.cat([two[0], one[0]])
        after, _ = extend(model, context.select([0, 3, 1]), [chunks[3], chunks[2], chunks[0]], keep=1)
        for row, i in enumerate((3, 0, 1, 2)):
            assert torch.allclose(logits[row], prefill(model, [prompts[i]])[0][0], atol=1e-5)
        for row, i in enumerate((3, 2, 0)):
            assert torch.allclose(after[row, 0], prefill(model, [prompts[i] + chunks[i]])[0][0], atol=1e-5)


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
    monkeypatch.setitem(prefixes.PASS, "cpu", 10**9)
    apart, whole = play()
    assert [d.tokens for d in together] == [d.tokens for d in apart]
    for one, two in zip(together, apart, strict=True):
        assert one.log_probs == pytest.approx(two.log_probs, abs=1e-5)
    assert computed < (0.6 if answer == "choice" else 0.8) * whole


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_gradients_through_a_prefix_are_those_of_plain_passes(answer, threshold):
    p, prompts = policy(policy()._settings.model_copy(update={"answer": answer})), members()
    decisions = p.act(prompts, range(len(prompts)), 1.0)
    items = [item for a, d in zip(prompts, decisions, strict=True) if (item := p._item(Row(a, d, 1.0)))]
    assert shared(sorted({item.prompt for item in items}), "cpu") > 0 or threshold == 10**9
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
    monkeypatch.setitem(prefixes.PASS, "cpu", 10**9)
    expected = plain_one.update(learn, 0)
    assert got["policy/ratio_error"] < 1e-4
    assert got == pytest.approx(expected, abs=1e-4)
    assert shared_one.update(rows(shared_one), 1)["policy/ratio_error"] < 1e-4
