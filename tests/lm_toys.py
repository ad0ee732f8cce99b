"""What tests of language models share: a small world of prompts, and small models that answer them."""

import random

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from d2skill.config import CausalLMConfig, OptimConfig, WarmStartConfig  # noqa: E402
from d2skill.policies.causal_lm.policy import CausalLMPolicy  # noqa: E402
from d2skill.policies.causal_lm.tiny_model import make_tokenizer  # noqa: E402
from d2skill.types import Prompt, Row  # noqa: E402

WORDS = ("apple", "bread", "knife", "mug", "plate", "lamp")
SMALL = CausalLMConfig(hidden_size=32, layers=2, heads=2, device="cpu", max_new_tokens=12)
OPTIM = OptimConfig(learning_rate=1e-3, kl=0.1, minibatch_rows=8)
WARM = WarmStartConfig(learning_rate=3e-3, epochs=1)


def texts():
    return ["You see a " + ", a ".join(WORDS) + ". look around, go to desk 1, take it; find the"]


def policy(settings=SMALL, optim=OPTIM, warm=WARM, seed=0, **extra):
    return CausalLMPolicy(settings, optim, warm, seed, texts, **extra)


def prompt(i: int) -> Prompt:
    draw = random.Random(i)
    seen = draw.sample(WORDS, draw.randint(1, 4))
    actions = ("look", "look around", *(f"take {w} {n}" for w in seen for n in (1, 12)), "go to desk 1")
    history = tuple(("You see a desk.", "go to desk 1") for _ in range(draw.randint(0, 3)))
    return Prompt(f"find the {seen[0]}", "You see a " + ", a ".join(seen), actions, history)


def decide(p, count=12, copies=1, temperature=1.0, start=0):
    prompts = [prompt(i % count) for i in range(count * copies)]
    return prompts, p.act(prompts, range(start, start + len(prompts)), temperature)


def rows(p, **kwargs):
    prompts, decisions = decide(p, **kwargs)
    return [Row(a, d, float(i % 3 - 1)) for i, (a, d) in enumerate(zip(prompts, decisions, strict=True))]


def weights(p):
    return {name: value.clone() for name, value in p.model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def exact(p, a: Prompt) -> dict[str, float]:
    """The log-probability of each action, one plain forward pass for each, the mask worked out by prefix."""
    ids = p.chat.prompt_ids(a)
    answers = [p.chat.action_ids(action) for action in a.actions]
    out = {}
    for action, answer in zip(a.actions, answers, strict=True):
        with torch.no_grad():
            logits = p.model(torch.tensor([[*ids, *answer]])).logits[0].double()
        total = 0.0
        for i, token in enumerate(answer):
            allowed = sorted({other[i] for other in answers if other[:i] == answer[:i]})
            row = logits[len(ids) + i - 1, allowed].log_softmax(-1)
            total += float(row[allowed.index(token)])
        out[action] = total
    return out


def changed(settings=SMALL, **values):
    return CausalLMConfig.model_validate({**settings.model_dump(), **values})


def write_model(folder, kind="Qwen2", dtype="float32", seed=0, ends=(), **extra):
    """Saves a model of an architecture with random weights, grouped queries and a ChatML tokenizer."""
    tokenizer = make_tokenizer(texts())
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 2048,
        "initializer_range": 0.1,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **extra,
    }
    config = getattr(transformers, f"{kind}Config")(**sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, f"{kind}ForCausalLM")(config).to(getattr(torch, dtype))
    if ends:
        model.generation_config.eos_token_id = [*ends]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([list(ids)])).logits.float()
