"""Embedding models of random weights, saved as real ones are: what tests load where the real ones cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

WORDS = "put a clean mug in the cabinet heat some egg and it fridge cool apple query : you see desk lamp".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<|endoftext|>"]


def tokenizer(template: str, padding_side: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    own = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    used = [(name, vocabulary[name]) for name in SPECIAL if name in template]
    own.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "additional_special_tokens": [name for name, _ in used]}
    return PreTrainedTokenizerFast(tokenizer_object=own, padding_side=padding_side, model_max_length=64, **names)


def bert(folder: Path, seed: int = 0, **files: object) -> Path:
    """An encoder like MiniLM."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer("[CLS] $A [SEP]", "right").save_pretrained(folder)
    return write(folder, **files)


def qwen3(folder: Path, seed: int = 0, **files: object) -> Path:
    """A causal model like Qwen3-Embedding: the end of the text is a token, padding is on the left."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    Qwen3Model(config).save_pretrained(folder)
    tokenizer("$A <|endoftext|>", "left").save_pretrained(folder)
    return write(folder, **files)


def sentence_files(pooling: dict[str, object], *extra: str) -> dict[str, object]:
    """What sentence-transformers writes beside a model: the modules, their pooling, and modules after them."""
    kinds = ["Transformer", "Pooling", *extra, "Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    return {"modules.json": modules, "1_Pooling/config.json": pooling}


def write(folder: Path, **files: object) -> Path:
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return folder
