"""The generation engine: answers are those of plain passes, whatever else is in the batch."""

import itertools
import math
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lm_toys import SMALL, WORDS, policy, prompt, rows, write_model  # noqa: E402

from d2skill.errors import ConfigError  # noqa: E402
from d2skill.policies.causal_lm import generation, prefix_sharing  # noqa: E402
from d2skill.policies.causal_lm.generation import GenerationEngine, Sampling, sample  # noqa: E402
from d2skill.protocols import SupportsSlots  # noqa: E402
from d2skill.types import Prompt  # noqa: E402


class Recorder:
    """A decoding state for any tokens, `limit` of them, that keeps what was sampled."""

    def __init__(self, limit, seed=0):
        self.tokens, self.log_probs, self.rng = [], [], np.random.default_rng(seed)
        self.limit, self.options = limit, None

    def append(self, token, log_prob):
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        return () if len(self.tokens) == self.limit else (token,)


def plain(model, tokens, answer):
    """The log-probabilities of an answer by one pass over everything."""
    with torch.no_grad():
        logits = model(torch.tensor([[*tokens, *answer]])).logits[0].float()
    found = logits[len(tokens) - 1 : -1].log_softmax(-1)
    return [float(found[i, token]) for i, token in enumerate(answer)]


def counted(model):
    computed = []
    hook = model.register_forward_pre_hook(
        lambda _m, _a, given: computed.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    return computed, hook


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sequences_generate_what_plain_passes_say_in_any_company(seed, attention):
    """Episodes of random lengths come and go in fewer rows than there are, with prompts that go on or begin anew."""
    chance = random.Random(seed)
    model = policy(SMALL.model_copy(update={"attention": attention})).model
    vocabulary = model.config.vocab_size
    size = chance.choice((1, 3, 5))
    engine = GenerationEngine(model, size, Sampling(1.0), budget=chance.choice((60, 10**9)))
    starts = [tuple(chance.choices(range(vocabulary), k=40)) for _ in range(2)]
    waiting = [(key, chance.randint(1, 4)) for key in range(9)]
    left, asked, finished = {}, {}, []

    def ask(key, before):
        again = before[: chance.randint(1, len(before))] if before and chance.random() < 0.8 else ()
        tokens = (again or chance.choice(starts)) + tuple(chance.choices(range(vocabulary), k=chance.randint(1, 30)))
        asked[key] = tokens, Recorder(chance.randint(1, 6), len(finished))
        engine.submit(key, tokens, asked[key][1])

    while waiting or left:
        while waiting and len(left) < size:
            key, turns = waiting.pop(0)
            left[key] = turns
            ask(key, ())
        for key in engine.run():
            tokens, state = asked.pop(key)
            finished.append((tokens, state))
            left[key] -= 1
            if left[key]:
                ask(key, tokens + tuple(state.tokens))
            else:
                engine.release(key)
                del left[key]
    assert len(finished) >= 9 and not engine._sequences
    for tokens, state in finished:
        assert state.log_probs == pytest.approx(plain(model, tokens, state.tokens), abs=2e-4)


def test_only_what_is_new_is_read():
    model = policy().model
    computed, hook = counted(model)
    engine, past = GenerationEngine(model, 2, Sampling(1.0)), tuple(range(3, 83))
    for key in (0, 1):
        engine.submit(key, past, Recorder(1, key))
    while len(engine.run()) < 2:
        pass
    assert computed == [(1, 80), (1, 1)]  # the second goes on from the first
    computed.clear()
    for key in (0, 1):
        engine.submit(key, past[:70] + (key,) * 9, Recorder(2, key))
    engine.run()
    assert computed == [(2, 9), (2, 1)]
    hook.remove()


def test_long_prompts_are_read_in_passes_that_keep_the_budget(monkeypatch):
    monkeypatch.setitem(prefix_sharing.FORWARD_COST, "cpu", 10**6)
    model = policy().model
    computed, hook = counted(model)
    engine = GenerationEngine(model, 8, Sampling(1.0), budget=100)
    for key in range(8):
        tokens = tuple(random.Random(key).choices(range(50), k=30 + key))
        engine.submit(key, tokens, Recorder(1))
    while sum(rows for rows, _ in computed) < 8:
        engine.run()
    hook.remove()
    assert all(rows * width <= 100 for rows, width in computed) and len(computed) == 4


@pytest.mark.parametrize("seed", range(5))
def test_passes_are_cut_as_cheaply_as_can_be(seed):
    chance = random.Random(seed)
    lengths = sorted(chance.choices((1, 2, 5, 40, 90, 200), k=8))

    def price(cut):
        return sum((b - a) * lengths[b - 1] + prefix_sharing.FORWARD_COST["cpu"] for a, b in cut)

    every = (
        list(itertools.pairwise((0, *inner, 8)))
        for size in range(8)
        for inner in itertools.combinations(range(1, 8), size)
    )
    assert price(list(generation._split_passes(lengths, "cpu", math.inf))) == min(map(price, every))
    assert list(generation._split_passes([], "cpu", math.inf)) == []


def test_answers_come_back_when_some_have_ended_and_all_in_the_end():
    model = policy().model
    engine = GenerationEngine(model, 16, Sampling(1.0))
    states = [Recorder(30 + key if key % 4 else 2, key) for key in range(16)]
    back = []
    for turn in range(3):
        for key, state in enumerate(states):
            if turn == 0 or key in back[-1]:
                state.tokens.clear()
                engine.submit(key, (turn + 1,) * (5 + key), state)
        back.append(engine.run())
    # nothing was known of their length at first; then the short ones do not wait for the long
    assert sorted(back[0]) == list(range(16)) and 0 < len(back[1]) < 16


def test_top_k_and_top_p_cut_off_the_unlikely_and_record_what_the_whole_distribution_says():
    probabilities = torch.tensor([[0.4, 0.3, 0.15, 0.1, 0.05]])
    logs = probabilities.log().expand(4000, -1)

    def drawn(**cut):
        rngs = [np.random.default_rng(i) for i in range(4000)]
        columns, found = sample(logs, rngs, Sampling(1.0, **cut))
        assert found == pytest.approx([float(logs[0, c]) for c in columns])
        return {c: columns.count(c) / 4000 for c in set(columns)}

    assert set(drawn()) == {0, 1, 2, 3, 4}
    assert drawn(top_k=2) == pytest.approx({0: 4 / 7, 1: 3 / 7}, abs=0.03)
    assert set(drawn(top_p=0.69)) == {0, 1} and set(drawn(top_p=0.71)) == {0, 1, 2}
    assert set(drawn(top_p=0.3)) == {0}
    # first the k likeliest, then p of what they have: 0.4 / 0.7 is more than half
    assert set(drawn(top_k=2, top_p=0.5)) == {0} and set(drawn(top_k=9, top_p=1.0)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_a_cut_distribution_is_learned_from_with_the_ratio_of_the_whole_one(answer):
    p = policy(SMALL.model_copy(update={"answer": answer, "top_p": 0.6, "top_k": 5}))
    assert p.update(rows(p, copies=3), 0)["policy/ratio_error"] < 1e-4
    likeliest = policy(SMALL.model_copy(update={"answer": answer, "top_k": 1}))
    prompts = [prompt(i) for i in range(12)]
    assert [d.tokens for d in likeliest.act(prompts, range(12), 1.0)] == [
        d.tokens for d in likeliest.act(prompts, range(12), 0.0)
    ]


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_slots_decide_step_by_step_what_a_policy_decides_at_once(answer):
    p = policy(SMALL.model_copy(update={"answer": answer, "generate_batch": 3}))
    assert isinstance(p, SupportsSlots)
    chance = random.Random(1)

    def step(episode, past):
        seen = chance.sample(WORDS, 2)
        actions = ("look",) if chance.random() < 0.3 else ("look", *(f"take {w}" for w in seen))
        return Prompt(f"find {episode}", "You see a " + ", a ".join(seen), actions, tuple(past))

    slots, asked, history, over = p.slots(1.0), {}, {}, 0
    everything = []
    for episode in range(3):
        history[episode] = []
        asked[episode] = step(episode, [])
        slots.submit(episode, asked[episode], episode)
    while asked:
        for episode, decision in slots.collect():
            before = asked.pop(episode)
            seed = episode + 100 * len(history[episode])
            everything.append((before, seed, decision))
            history[episode].append((before.observation, decision.action))
            if len(history[episode]) == 4:
                slots.release(episode)
                over += 1
                continue
            asked[episode] = step(episode, history[episode])
            slots.submit(episode, asked[episode], episode + 100 * len(history[episode]))
    assert over == 3 and len(everything) == 12
    at_once = p.act([a for a, _, _ in everything], [s for _, s, _ in everything], 1.0)
    for (_, _, one), two in zip(everything, at_once, strict=True):
        assert one.tokens == two.tokens and one.log_probs == pytest.approx(two.log_probs, abs=1e-4)
    slots.close()


def test_flash_attention_gives_way_while_answers_are_written(monkeypatch):
    model = policy().model
    seen = []
    monkeypatch.setattr(generation, "attention", lambda m: "flash_attention_2")
    monkeypatch.setattr(model, "set_attn_implementation", seen.append)
    with generation._attention_by_masks(model):
        assert seen == ["sdpa"]
    assert seen == ["sdpa", "flash_attention_2"]


def test_a_model_that_looks_through_a_window_is_refused_unless_it_takes_in_all(tmp_path):
    narrow = write_model(tmp_path / "narrow", "Mistral", sliding_window=64)
    with pytest.raises(ConfigError, match="reads 31 tokens, less than half of its sliding window of 64, too few"):
        policy(SMALL.model_copy(update={"model": str(narrow)}), prompt_tokens=128)
    wide = write_model(tmp_path / "wide", "Mistral", sliding_window=2048)
    p = policy(SMALL.model_copy(update={"model": str(wide)}), prompt_tokens=128)
    assert p.update(rows(p), 0)["policy/ratio_error"] < 1e-4
