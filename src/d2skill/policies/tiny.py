"""The model "tiny": a small Qwen3 with random weights and a word tokenizer made from an environment's text.

It is what lets the whole of training run, and be tested, without a download. A token is a word with the space
before it, one digit, or one other sign, so that decoding gives back the text exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError
from d2skill.prompts import render
from d2skill.types import Prompt, Skill, SkillText

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|pad|>", "<|unk|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<think>", "</think>", "<action>", "</action>")
MAX_WORDS = 1800
"""Words kept at most, the most frequent ones: at the default width, under a million weights in all."""
_PIECE = " ?[A-Za-z]+| ?[0-9]|\n| ?[^\\sA-Za-z0-9]|\\s"


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Returns a word-level tokenizer with a ChatML template, made of the words of `texts` and prompts."""
    split = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    counts: Counter[str] = Counter()
    for text in (*texts, *_scaffold()):
        counts.update(piece.strip(" ") for piece, _ in split.pre_tokenize_str(text))
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))[: MAX_WORDS // 2]
    words = [*map(str, range(10)), *"\n\t .,:;'\"!?()<>/-_", *ranked]
    pieces = dict.fromkeys((*SPECIAL, *TAGS, *(form for word in words for form in (word, f" {word}") if word)))
    backend = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<|unk|>"))
    backend.pre_tokenizer = split
    backend.decoder = decoders.Fuse()
    backend.add_tokens(list(TAGS))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        unk_token="<|unk|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def make_tiny(
    settings: CausalLMConfig, texts: Sequence[str], seed: int
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """Returns a Qwen3 of the width, depth and heads in the settings, on the CPU, and its tokenizer.

    The weights depend on `seed` alone; the global random state of torch is left as it was. It is a Qwen3 because
    AutoTokenizer puts Qwen2's own tokenizer in the place of any other in the folder of a Qwen2.
    """
    unit = 2 * settings.heads
    if settings.hidden_size % unit:
        raise ConfigError(
            f"policy.lm.hidden_size is {settings.hidden_size}, not a multiple of twice policy.lm.heads: "
            f"use {unit * max(1, settings.hidden_size // unit)}"
        )
    tokenizer = make_tokenizer(texts)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=3 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.hidden_size // settings.heads,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=settings.hidden_size**-0.5 / 2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        model = Qwen3ForCausalLM._from_config(config, dtype=getattr(torch, settings.dtype))
    return model, tokenizer


def _scaffold() -> list[str]:
    """Returns the words that prompts add to an environment's text."""
    skill = Skill("", "task", SkillText("", "", ""), "")
    prompt = Prompt("", "", ("",), (("", ""),), (skill,), (skill,))
    messages = [*render(prompt, "choice"), *render(prompt, "free")]
    return [f"{message['role']}\n{message['content']}\nassistant\n" for message in messages]
