"""The model "tiny": a small Qwen2 with random weights, and a tokenizer trained on an environment's text.

It lets training run, and be tested, without a download. The tokenizer is of Qwen2's own kind, byte pairs, so that any
text can be encoded and checkpoints load in plain Transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError
from d2skill.prompts import render
from d2skill.types import Prompt, Skill, SkillText

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<think>", "</think>", "<action>", "</action>")
VOCABULARY = 2048
"""Size of the vocabulary, at most: at the default width, the model has under a million weights in all."""
# The pattern by which Qwen2 splits text before it looks for byte pairs.
_PIECE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_tokenizer(texts: Iterable[str]) -> Qwen2Tokenizer:
    """Returns a Qwen2 tokenizer with a ChatML template: byte pairs learnt from `texts` and the words of prompts."""
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([*texts, *_prompt_texts()], trainer)
    learnt = json.loads(backend.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(merge) for merge in learnt["merges"]],
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        unk_token=None,
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.add_tokens(list(TAGS))
    tokenizer.chat_template = CHATML
    return tokenizer


def make_tiny_model(
    settings: CausalLMConfig, texts: Sequence[str], seed: int, attention: str | None = None
) -> tuple[Qwen2ForCausalLM, Qwen2Tokenizer]:
    """Returns a Qwen2 with random weights, on the CPU, and its tokenizer.

    The global random state of torch is left as it was. The tokenizer has to be Qwen2's own: AutoTokenizer puts that in
    the place of any other in the folder of a Qwen2.

    Args:
        settings: width, depth, heads and precision.
        texts: sample texts of the environment, for the tokenizer.
        seed: draws the weights, which depend on nothing else.
        attention: kind of attention in Transformers, None for its default.
    """
    unit = 2 * settings.heads
    if settings.hidden_size % unit:
        raise ConfigError(
            f"policy.lm.hidden_size is {settings.hidden_size}, not a multiple of twice policy.lm.heads: "
            f"use {unit * max(1, settings.hidden_size // unit)}"
        )
    tokenizer = make_tokenizer(texts)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=3 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=settings.hidden_size**-0.5 / 2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        model = Qwen2ForCausalLM._from_config(config, dtype=getattr(torch, settings.dtype))
    if attention:
        model.set_attn_implementation(attention)
    return model, tokenizer


def _prompt_texts() -> list[str]:
    """Returns the texts that prompts add to those of an environment: instructions, headings and roles."""
    skill = Skill("", "task", SkillText("", "", ""), "")
    prompt = Prompt("", "", ("",), (("", ""),), (skill,), (skill,))
    messages = [*render(prompt, "choice"), *render(prompt, "free")]
    return [f"{message['role']}\n{message['content']}\nassistant\n" for message in messages]
