import dataclasses
import itertools
import json
import math
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from lm_toys import OPTIM, SMALL, WORDS, decide, exact, policy, prompt, rows, same, texts, weights  # noqa: E402

from d2skill.config import CausalLMConfig  # noqa: E402
from d2skill.errors import ConfigError, RunError  # noqa: E402
from d2skill.policies.causal_lm.constrained_decoding import FreeDecoding  # noqa: E402
from d2skill.policies.causal_lm.loss import TrainingExample, microbatch_groups, token_log_probs, token_loss  # noqa: E402
from d2skill.policies.causal_lm.prefix_sharing import shared_prefix  # noqa: E402
from d2skill.policies.causal_lm.tiny_model import make_tokenizer  # noqa: E402
from d2skill.protocols import SupportsChat  # noqa: E402
from d2skill.types import Decision, Prompt, Row  # noqa: E402

# acting


def test_tiny_is_small_seeded_and_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    first, second, other = (
        policy(CausalLMConfig(device="cpu")),
        policy(CausalLMConfig(device="cpu")),
        policy(CausalLMConfig(device="cpu"), seed=1),
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(weights(first), weights(second)) and not same(weights(first), weights(other))
    assert sum(x.numel() for x in first.model.parameters()) < 1_000_000


def test_the_tiny_tokenizer_gives_text_back():
    tokenizer = make_tokenizer(texts())
    text = "<action>take apple 12</action>\nYou see a mug, a plate."
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_choices_are_admissible_and_recorded_with_their_exact_probability():
    p = policy()
    prompts, decisions = decide(p)
    for a, d in zip(prompts, decisions, strict=True):
        assert d.action in a.actions and d.text == d.action and len(d.tokens) == len(d.log_probs)
        probabilities = exact(p, a)
        assert sum(map(math.exp, probabilities.values())) == pytest.approx(1, abs=1e-5)
        assert sum(d.log_probs) == pytest.approx(probabilities[d.action], abs=1e-4)


def test_choices_come_as_often_as_their_probability_says():
    p, a = policy(), prompt(3)
    probabilities = exact(p, a)
    drawn = [d.action for d in p.act([a] * 2000, range(2000), 1.0)]
    for action, log_prob in probabilities.items():
        expected = math.exp(log_prob)
        assert drawn.count(action) / 2000 == pytest.approx(expected, abs=4 * math.sqrt(expected / 2000))


def test_a_decision_depends_on_its_own_prompt_and_seed_only():
    p = policy()
    prompts = [prompt(i % 7) for i in range(21)]
    together = p.act(prompts, range(21), 1.0)
    alone = [p.act([a], [i], 1.0)[0] for i, a in enumerate(prompts)]
    backwards = policy(SMALL.model_copy(update={"generate_batch": 4})).act(prompts[::-1], list(range(21))[::-1], 1.0)[
        ::-1
    ]
    for one, two, three in zip(together, alone, backwards, strict=True):
        assert one.action == two.action == three.action
        assert np.allclose(one.log_probs, two.log_probs, atol=1e-5)
        assert np.allclose(one.log_probs, three.log_probs, atol=1e-5)


def test_temperature_zero_is_greedy_and_needs_no_seed():
    p = policy()
    prompts, first = decide(p, temperature=0.0)
    assert [d.action for d in first] == [d.action for d in p.act(prompts, [99] * len(prompts), 0.0)]
    assert all(value == 0 for d in first for value in d.log_probs)


def test_equal_prompts_are_read_once_and_forced_actions_not_at_all():
    p, passes = policy(), []
    hook = p.model.register_forward_pre_hook(
        lambda _m, _a, k: passes.append(tuple(k["input_ids"].shape)), with_kwargs=True
    )
    decisions = p.act([prompt(1)] * 9, range(9), 1.0)
    hook.remove()
    assert passes[0][0] == 1 and len({d.action for d in decisions}) > 1
    passes.clear()
    only = dataclasses.replace(prompt(1), actions=("look around",))
    (decision,) = p.act([only], [0], 1.0)
    assert not passes and decision.action == "look around" and set(decision.log_probs) == {0.0}
    assert p.update([Row(only, decision, 1.0)], 0)["policy/grad_norm"] == 0.0


def test_actions_the_tokenizer_cannot_tell_apart_are_all_played():
    a = dataclasses.replace(prompt(1), actions=("take zebra", "take yak", "look"))
    p = policy()
    drawn = p.act([a] * 60, range(60), 1.0)
    assert {d.action for d in drawn} == set(a.actions)
    assert p.update([Row(a, d, 1.0) for d in drawn[:8]], 0)["policy/ratio_error"] < 1e-4


def test_free_answers_end_and_are_parsed():
    p = policy(SMALL.model_copy(update={"answer": "free"}))
    prompts, decisions = decide(p)
    assert all(1 <= len(d.tokens) <= 12 and (not d.action or "</action>" in d.text) for d in decisions)
    learn = [(a, a.actions[-1]) for a in prompts]
    for seed in range(40):
        metrics = p.imitate(learn, seed)
    assert metrics["warm_start/accuracy"] == 1.0
    _, greedy = decide(p, temperature=0.0)
    assert all(d.text == "<action>go to desk 1</action>" for d in greedy)
    assert p.update(rows(p, start=50), 0)["policy/ratio_error"] < 1e-4


def test_forms_with_names_are_learned_and_answered_in_tags():
    p = policy(SMALL.model_copy(update={"answer": "free", "max_new_tokens": 24}))
    asked = dataclasses.replace(prompt(0), actions=(), forms=("search[...]", "answer[...]"))
    whole = "<think>so</think><search>mug</search>"
    for seed in range(40):
        metrics = p.imitate([(asked, "search[mug]")] * 4, seed)
    assert metrics["warm_start/accuracy"] == 1.0
    (decision,) = p.act([asked], [0], 0.0)
    assert (decision.text, decision.action) == ("<search>mug</search>", "search[mug]")
    assert p.chat.decode(p.chat.answer_ids(asked, whole)) == whole
    as_it_is = dataclasses.replace(asked, forms=("...",))
    assert p.chat.decode(p.chat.answer_ids(as_it_is, "mug or not")) == "mug or not"


def test_prompts_without_actions_are_answered_freely_among_others():
    p = policy()
    prompts = [prompt(0), dataclasses.replace(prompt(1), actions=()), prompt(2)]
    decisions = p.act(prompts, range(3), 1.0)
    assert decisions[0].action in prompts[0].actions and decisions[2].action in prompts[2].actions
    metrics = p.update([Row(a, d, 1.0) for a, d in zip(prompts, decisions, strict=True)], 0)
    assert metrics["policy/ratio_error"] < 1e-4


def test_a_prompt_over_the_context_loses_its_beginning():
    p = policy()
    p.chat._limit = 20
    assert len(p.chat.prompt_ids(prompt(0))) == 20
    assert p.count_tokens("take apple 12") == len(p.chat.tokenizer("take apple 12").input_ids)


# scoring answers


def log_probs(p, decided):
    """Returns the scores of decisions; the greedy actions beside them are those of acting."""
    scores = p.score_answers(decided)
    greedy = p.act([asked for asked, _ in decided], [0] * len(decided), 0.0)
    assert [score.greedy for score in scores] == [made.action for made in greedy]
    return [score.log_prob for score in scores]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("answer", ["choice", "free"])
def test_an_answer_scores_what_was_recorded_at_temperature_1(answer, temperature):
    # what is recorded at another temperature is not what is scored, which is at 1 whatever rollouts are at
    p = policy(SMALL.model_copy(update={"answer": answer}), temperature=temperature)
    decided = list(zip(*decide(p, copies=2), strict=True))
    scored = log_probs(p, decided)
    assert scored == pytest.approx([sum(d.log_probs) for _, d in decided], abs=1e-5)
    colder = list(zip(*decide(p, temperature=0.5), strict=True))
    assert log_probs(p, colder) != pytest.approx([sum(d.log_probs) for _, d in colder], abs=1e-2)


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_an_answer_scores_what_another_prompt_gives_it_whatever_else_is_scored(answer):
    p = policy(SMALL.model_copy(update={"answer": answer}))
    prompts, decisions = decide(p)
    decided = [
        (dataclasses.replace(a, task=f"find {t}"), d)
        for t in ("it", "the mug")
        for a, d in zip(prompts, decisions, strict=True)
    ]
    together = log_probs(p, decided)
    for budget in (64, 200):
        packed = policy(SMALL.model_copy(update={"answer": answer, "microbatch_tokens": budget}))
        assert together == pytest.approx(log_probs(packed, decided), abs=1e-5)
    assert together == pytest.approx([log_probs(p, [pair])[0] for pair in decided], abs=1e-5)
    plain = [float(plain_log_probs(p.model, p._example(Row(a, d, 0.0))).detach().sum()) for a, d in decided]
    assert together == pytest.approx(plain, abs=1e-5)


def test_choices_and_free_answers_are_scored_together_and_what_is_forced_is_certain():
    p = policy()
    only, free = dataclasses.replace(prompt(1), actions=("look around",)), dataclasses.replace(prompt(2), actions=())
    prompts = [only, free, prompt(3), free, only]
    decisions = p.act(prompts, range(5), 1.0)
    decided = [*zip(prompts, decisions, strict=True), (prompt(3), Decision("", "", (), ()))]
    scored = log_probs(p, decided)
    assert scored == pytest.approx([sum(d.log_probs) for _, d in decided], abs=1e-5)
    assert scored[0] == scored[4] == scored[5] == 0.0 and max(scored[1:4]) < 0
    assert log_probs(p, []) == [] and log_probs(p, decided[:1]) == [0.0]
    assert p.update([Row(a, d, 1.0) for a, d in decided], 0)["policy/ratio_error"] < 1e-4


def test_a_prompt_that_does_not_admit_an_answer_is_refused():
    p = policy()
    (decision,) = p.act([dataclasses.replace(prompt(1), actions=("go to desk 1",))], [0], 1.0)
    with pytest.raises(ValueError, match="answer of this prompt"):
        log_probs(p, [(dataclasses.replace(prompt(1), actions=("look", "take it")), decision)])


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_greedy_answers_are_written_only_where_another_one_was_given(answer, monkeypatch):
    p = policy(SMALL.model_copy(update={"answer": answer}))
    greedy, drawn = (list(zip(*decide(p, temperature=t), strict=True)) for t in (0.0, 1.0))
    others = [pair for pair, same in zip(drawn, greedy, strict=True) if pair[1].tokens != same[1].tokens]
    assert others and log_probs(p, greedy + drawn)
    asked, act = [], p.act
    monkeypatch.setattr(p, "act", lambda prompts, *more: asked.extend(prompts) or act(prompts, *more))
    p.score_answers(greedy + drawn)
    assert sorted(map(repr, asked)) == sorted(repr(one) for one, _ in others)


def test_scoring_keeps_nothing_for_gradients():
    p, tracked = policy(), []
    decided = list(zip(*decide(p), strict=True))
    hook = p.model.register_forward_hook(lambda _m, _a, out: tracked.append(out.logits.requires_grad))
    log_probs(p, decided)
    hook.remove()
    assert tracked and not any(tracked) and torch.is_grad_enabled()


# chats


CHATS = [[{"role": "user", "content": f"Say something about chest {number}."}] for number in range(5)]
CHATS[2].insert(0, {"role": "system", "content": "You are asked about chests."})


def test_answers_are_the_likeliest_and_do_not_depend_on_their_batch(monkeypatch):
    states = []

    class Watched(FreeDecoding):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            states.append(self)

    monkeypatch.setattr("d2skill.policies.causal_lm.policy.FreeDecoding", Watched)
    p = policy()
    assert isinstance(p, SupportsChat)
    together = p.generate_chat(CHATS, 12)
    assert together == [p.generate_chat([chat], 12)[0] for chat in CHATS] == p.generate_chat(CHATS[::-1], 12)[::-1]
    assert len(states) == 15 and all(0 < len(one.tokens) <= 12 for one in states)
    long = [one.tokens for one in states[:5]]
    states.clear()
    p.generate_chat(CHATS, 3)
    assert [one.tokens for one in states] == [tokens[:3] for tokens in long]
    assert all(set(tokens[:-1]).isdisjoint(p.chat.end_tokens) for tokens in long)


def test_a_chat_that_is_too_long_loses_its_beginning():
    p = policy()
    long = [{"role": "user", "content": "chest " * 20_000}]
    (text,) = p.generate_chat([long], 8)
    assert isinstance(text, str)


def test_answering_a_chat_changes_nothing_about_acting():
    one, other = policy(), policy()
    one.generate_chat(CHATS, 8)
    assert one.generate_chat(CHATS[:1], 8) == other.generate_chat(CHATS[:1], 8)
    assert one.generate_chat([], 8) == []


# learning


def test_loss_terms_by_hand():
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = torch.tensor([2.0, -2.0, 2.0, -2.0, 2.0])
    terms = token_loss(ratio.log(), torch.zeros(5), advantage, None, clip=0.2, kl=0.0)
    # gains stop counting at 1.2 and losses at 0.8; a ratio that went the wrong way always counts
    assert terms.loss.tolist() == pytest.approx([-2.4, 3.0, -1.0, 1.6, -2.2])
    assert terms.clipped.tolist() == [True, False, False, True, False]
    log_probs, reference = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    terms = token_loss(log_probs, log_probs, torch.tensor([1.0]), reference, clip=0.2, kl=0.1)
    # q = 0.25/0.5: k3 = 0.5 − ln 0.5 − 1 = 0.193147
    assert terms.kl.item() == pytest.approx(0.193147, abs=1e-6)
    assert terms.loss.item() == pytest.approx(-1 + 0.0193147, abs=1e-6)


def plain_log_probs(model, item: TrainingExample):
    """One unpadded pass over prompt and answer, without a cache."""
    logits = model(torch.tensor([[*item.prompt, *item.tokens]])).logits[0]
    out = []
    for place, position in enumerate(item.positions):
        row = logits[len(item.prompt) + position - 1]
        options = item.options[place] if item.options else range(len(row))
        out.append(row[list(options)].log_softmax(-1)[list(options).index(item.tokens[position])])
    return torch.stack(out)


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_the_shared_pass_has_the_gradients_of_the_plain_one(answer):
    p = policy(SMALL.model_copy(update={"answer": answer}))
    items = [item for row in rows(p, count=5, copies=3) if (item := p._example(row))]
    assert len({item.prompt for item in items}) == 5 < len(items)
    weight = torch.linspace(-1, 1, sum(len(item.positions) for item in items))
    shared, _ = token_log_probs(p.model, items, 1.0)
    (shared * weight).sum().backward()
    got = [x.grad.clone() for x in p.model.parameters()]
    p.model.zero_grad()
    plain = torch.cat([plain_log_probs(p.model, item) for item in items])
    (plain * weight).sum().backward()
    assert torch.allclose(shared, plain, atol=1e-5)
    for a, x in zip(got, p.model.parameters(), strict=True):
        assert torch.allclose(a, x.grad, atol=1e-4 * float(x.grad.abs().max()) + 1e-7)


def test_packing_keeps_the_budget_and_loses_nothing():
    draw = random.Random(0)
    items = []
    for _ in range(60):
        length, kind = draw.randint(1, 30), draw.randint(0, 1)
        size = draw.randint(1, 6)
        options = tuple((1, 2) for _ in range(size)) if kind else None
        items.append(TrainingExample((draw.randint(0, 2),) * length, (1,) * size, tuple(range(size)), options))
    groups = microbatch_groups(items, 100, "cpu")
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(60))
    for group in groups:
        mine = [items[i] for i in group]
        start, shares = shared_prefix([x.prompt for x in mine], [len(x.inputs) for x in mine], "cpu")
        left = max(len(x.prompt) + len(x.inputs) - share for x, share in zip(mine, shares, strict=True))
        assert len(group) == 1 or len(start) + len(group) * left <= 100
        assert len({x.options is None for x in mine}) == 1


def test_microbatches_do_not_change_an_update():
    one, many = policy(), policy(SMALL.model_copy(update={"microbatch_tokens": 64}))
    learn = rows(one, copies=2)
    first, second = one.update(learn, 0), many.update(learn, 0)
    assert first == pytest.approx(second, abs=1e-4)
    for name, value in weights(one).items():
        assert torch.allclose(value, weights(many)[name], atol=2e-4), name


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_recorded_probabilities_are_those_of_the_update(temperature):
    p = policy(temperature=temperature)
    metrics = p.update(rows(p, copies=3, temperature=temperature), 0)
    assert metrics["policy/ratio_error"] < 1e-4
    assert set(metrics) == {
        f"policy/{name}" for name in ("loss", "kl", "clip_fraction", "entropy", "grad_norm", "ratio_error")
    }


def test_advantages_move_probabilities_and_the_reference_holds_them():
    a = prompt(3)

    def after(kl: float) -> tuple[float, dict[str, float]]:
        p = policy(optim=OPTIM.model_copy(update={"kl": kl, "minibatch_rows": 64}))
        p.freeze_reference()
        before = exact(p, a)
        good = max(before, key=before.__getitem__)
        for step in range(4):
            drawn = p.act([a] * 32, range(100 * step, 100 * step + 32), 1.0)
            metrics = p.update([Row(a, d, 1.0 if d.action == good else -1.0) for d in drawn], step)
        return exact(p, a)[good] - before[good], metrics

    (free, _), (held, metrics) = after(0.0), after(50.0)
    assert free > 0.3 and held < free / 2 and metrics["policy/kl"] > 0


def test_without_kl_there_is_no_reference_copy():
    p = policy(optim=OPTIM.model_copy(update={"kl": 0.0}))
    p.freeze_reference()
    assert not p.fine_tuning.has_reference and p.update(rows(p), 0)["policy/kl"] == 0.0


def test_imitation_learns_to_copy():
    p = policy()

    def demonstrations(seed):
        draw = random.Random(seed)
        for _ in range(128):
            seen = draw.sample(WORDS, 4)
            wanted = draw.choice(seen)
            yield (
                Prompt(f"find the {wanted}", "You see.", tuple(f"take {w}" for w in seen)),
                f"take {wanted}",
            )

    metrics = [p.imitate(list(demonstrations(seed)), seed) for seed in range(14)]
    assert metrics[0]["warm_start/accuracy"] < 0.6 and metrics[-1]["warm_start/accuracy"] > 0.9
    assert metrics[-1]["warm_start/loss"] < metrics[0]["warm_start/loss"] / 3
    assert p.imitate([], 0) == {}


def test_same_seed_same_weights():
    def run():
        p = policy()
        p.imitate([(a, a.actions[0]) for a in map(prompt, range(8))], 1)
        p.update(rows(p), 2)
        return weights(p)

    assert same(run(), run())


# files


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loaded_policy_goes_on_bit_for_bit(tmp_path, dtype):
    p = policy(SMALL.model_copy(update={"dtype": dtype}))
    p.freeze_reference()
    p.update(rows(p), 0)
    p.save(tmp_path)
    loaded = policy(SMALL.model_copy(update={"dtype": dtype}), seed=5)
    loaded.load(tmp_path)
    assert same(weights(p), weights(loaded))
    learn = rows(p, start=50)
    assert learn == rows(loaded, start=50)
    assert p.update(learn, 1) == loaded.update(learn, 1)
    assert same(weights(p), weights(loaded))
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_a_prompt_is_tokenised_once_for_acting_and_learning(answer, monkeypatch):
    p, asked = policy(SMALL.model_copy(update={"answer": answer})), []
    encode = p.chat._encode
    monkeypatch.setattr(p.chat, "_encode", lambda text: asked.append(text) or encode(text))
    data = rows(p, count=6, copies=3)
    data = [row for row in data if row.decision.tokens]
    assert len(asked) == len({*asked}) and sum("text environment" in text for text in asked) == 6
    asked.clear()
    examples = [p._example(row) for row in data]
    assert not asked
    fresh = policy(SMALL.model_copy(update={"answer": answer}))
    assert examples == [fresh._example(row) for row in data]
    assert p.chat.kept_prompts.cache_info().currsize == 6
    p.update(data, 0)
    assert not p.chat.kept_prompts.cache_info().currsize


def test_without_the_list_of_actions_prompts_are_shorter_and_choices_the_same_kind():
    p = policy(SMALL.model_copy(update={"list_actions": False}))
    prompt = rows(p, count=1)[0].prompt
    text = p.chat.tokenizer.decode(list(p.chat.prompt_ids(prompt)))
    assert prompt.observation in text and "Admissible actions:" not in text
    listed = policy()
    assert "Admissible actions:" in listed.chat.tokenizer.decode(list(listed.chat.prompt_ids(prompt)))
    assert p.act([prompt], [0], 1.0)[0].action in prompt.actions
    free = policy(SMALL.model_copy(update={"list_actions": False, "answer": "free"}))
    assert "Admissible actions:" in free.chat.tokenizer.decode(list(free.chat.prompt_ids(prompt)))


def test_tokens_of_a_text_are_counted_once_and_never_more_are_kept_than_fit(monkeypatch):
    p, asked = policy(), []
    encode = p.chat._encode
    monkeypatch.setattr(p.chat, "_encode", lambda text: asked.append(text) or encode(text))
    assert [p.count_tokens(text) for text in ("take mug 1", "look", "take mug 1")] == [
        len(encode(text)) for text in ("take mug 1", "look", "take mug 1")
    ]
    assert asked == ["take mug 1", "look"]
    assert p.chat.count_tokens.cache_info().maxsize == 2**15 and p.chat.kept_prompts.cache_info().maxsize == 2**14


def test_a_loaded_policy_keeps_the_batches_that_it_was_saved_with(tmp_path):
    small = {"microbatch_tokens": 256, "generate_batch": 4}
    policy(SMALL.model_copy(update=small)).save(tmp_path)
    p = policy()
    p.load(tmp_path)
    assert (p._settings.pass_tokens, p._settings.slots, p.slots(1.0).capacity) == (256, 4, 4)
    p = policy(SMALL.model_copy(update={"microbatch_tokens": 128, "generate_batch": 8}))
    p.load(tmp_path)
    assert (p._settings.pass_tokens, p._settings.slots) == (128, 4)
    meta = json.loads((tmp_path / "policy.json").read_text())
    del meta["batches"]  # as in 0.1.0
    (tmp_path / "policy.json").write_text(json.dumps(meta))
    p.load(tmp_path)
    assert p._settings.pass_tokens == 128


def test_small_steps_are_not_lost_in_bfloat16():
    p = policy(SMALL.model_copy(update={"dtype": "bfloat16"}), OPTIM.model_copy(update={"learning_rate": 1e-6}))
    start = weights(p)
    learn = rows(p)
    p.update(learn, 0)
    masters = p._adam.state_tensors()
    moved = [float((masters[f"{n}/master"] - start[n].float()).abs().max()) for n, _ in p.model.named_parameters()]
    assert 1e-7 < max(moved) < 1e-4


def test_a_saved_folder_loads_in_plain_transformers(tmp_path):
    p = policy()
    p.save(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert same(weights(p), model.state_dict()) and tokenizer.chat_template
    again = policy(SMALL.model_copy(update={"model": str(tmp_path / "model")}))
    assert [d.action for d in decide(again)[1]] == [d.action for d in decide(p)[1]]


def test_files_of_another_policy_or_version_are_refused(tmp_path):
    p = policy()
    with pytest.raises(RunError, match=r"policy\.json"):
        p.load(tmp_path)
    for meta in ({"kind": "scorer", "format": 1}, {"kind": "causal-lm", "format": 99}, []):
        (tmp_path / "policy.json").write_text(json.dumps(meta))
        with pytest.raises(RunError, match="format 1"):
            p.load(tmp_path)
    p.save(tmp_path)
    (tmp_path / "optimiser.safetensors").write_bytes(b"no")
    with pytest.raises(RunError, match="damaged"):
        p.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "no/such/model/folder"}, "neither a folder"),
        ({"device": "cuda:99"}, "use cpu or auto"),
        ({"hidden_size": 33}, "use 32"),
    ],
)
def test_settings_that_cannot_be_had_say_the_way_out(settings, message):
    with pytest.raises(ConfigError, match=message):
        policy(SMALL.model_copy(update=settings))


def test_a_broken_folder_says_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        policy(SMALL.model_copy(update={"model": str(tmp_path)}))
