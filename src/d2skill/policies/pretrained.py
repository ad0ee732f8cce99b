"""Where the model of a causal-lm policy comes from: a folder, or an id on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from d2skill.errors import ConfigError


def device_named(name: str) -> Any:
    """Returns a torch device; "auto" is a GPU if there is one. Raises ConfigError for one not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'policy.lm.device is "{name}", not to be had here: use cpu or auto') from error


def read_pretrained(name: str, dtype: str) -> tuple[Any, Any]:
    """Returns model and tokenizer of an id or folder; the weights are read last, when all else is well.

    Raises ConfigError for a model that is not to be had, or that has no chat template or no end of text.
    """
    try:
        AutoConfig.from_pretrained(name)  # fails sooner than the tokenizer, which asks the hub twice
        tokenizer = AutoTokenizer.from_pretrained(name)
        if not tokenizer.chat_template:
            raise ConfigError(
                f'policy.lm.model "{name}" has no chat template: use an instruction-tuned model, or put a '
                "chat_template.jinja into its folder"
            )
        return read_model(name, dtype), tokenizer
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        where = f"cannot be read ({first})" if Path(name).is_dir() else "is no folder, nor to be had from the hub"
        raise ConfigError(
            f'policy.lm.model "{name}" {where}: check its name, the network and HF_HUB_OFFLINE, or use "tiny"'
        ) from error


def read_model(name: str, dtype: str) -> Any:
    """Returns the model of an id or folder. Raises OSError or ValueError.

    The weights are copied out of the mapped file: there they lie at odd addresses, and sums over them round otherwise
    than over weights that were made in memory, so that a resumed run would drift from an unbroken one.
    """
    with without_bars():
        model = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype))
    for weight in model.parameters():
        weight.data = weight.data.clone()
    return model


@contextmanager
def without_bars() -> Iterator[None]:
    """Keeps the progress bars of Transformers out of a run's display; the caller's choice comes back after."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Returns the tokens that end a text, the tokenizer's first. Raises ConfigError if there are none."""
    found = [tokenizer.eos_token_id]
    for config in (model.generation_config, model.config):
        ids = getattr(config, "eos_token_id", None)
        found += ids if isinstance(ids, list) else [ids]
    ends = list(dict.fromkeys(int(token) for token in found if token is not None))
    if not ends:
        raise ConfigError("policy.lm.model has no end of text: set eos_token in its tokenizer_config.json")
    return ends
