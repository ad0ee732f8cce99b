"""Where the model of a causal-lm policy comes from: a folder, that of an adapter too, or an id on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import is_flash_attn_2_available, logging

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError
from d2skill.policies.causal_lm.chat_template import bare_tokens
from d2skill.policies.causal_lm.lora import Adapter, adapter_at, merge, require_form

FLASH = "flash_attention_2"


def attention_kinds(settings: CausalLMConfig, device: Any) -> tuple[str | None, ...]:
    """Returns the kinds of attention to try, in order; None leaves it to Transformers: sdpa, if the model has it.

    Raises ConfigError if flash attention is asked for and is not to be had.
    """
    if settings.attention in ("eager", "sdpa"):
        return (settings.attention,)
    if device.type != "cuda":
        lacks = "a GPU"
    elif settings.dtype != "bfloat16":
        lacks = "policy.lm.dtype bfloat16"
    else:
        lacks = "" if is_flash_attn_2_available() else "the package flash-attn"
    if settings.attention == "auto":
        return (None,) if lacks else (FLASH, None)
    if lacks:
        raise ConfigError(f'policy.lm.attention is "{FLASH}", which needs {lacks}: use auto')
    return (FLASH,)


def read_pretrained(name: str, settings: CausalLMConfig, device: Any, prompt_tokens: int = 0) -> tuple[Any, Any]:
    """Returns model and tokenizer of an id or folder; the weights are read last, when all else is well.

    For the folder of an adapter the model is that with the adapter merged, or with policy.lm.lora_rank the bare one,
    and the tokenizer is the adapter's if it has one.

    Raises ConfigError for a model that is not to be had, or that has no chat template, no end of text, too short a
    context (see check_context) or not the attention asked for, and for an adapter that does not go with it.
    """
    kinds = attention_kinds(settings, device)
    adapter = adapter_at(name)
    if adapter and settings.lora_rank:
        require_form(adapter, settings)
    base = adapter.base if adapter else name
    try:
        config = AutoConfig.from_pretrained(base)  # fails sooner than the tokenizer, which asks the hub twice
        tokenizer = AutoTokenizer.from_pretrained(name if (Path(name) / "tokenizer_config.json").is_file() else base)
        if not tokenizer.chat_template:
            raise ConfigError(
                f'policy.lm.model "{name}" has no chat template: use an instruction-tuned model, or put a '
                "chat_template.jinja into its folder"
            )
        check_context(name, config, tokenizer, settings, prompt_tokens)
        if adapter and not settings.lora_rank:
            return _read_merged(adapter, settings.dtype, kinds), tokenizer
        return read_model(base, settings.dtype, kinds), tokenizer
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        where = f"cannot be read ({first})" if Path(base).is_dir() else "is no folder, nor to be had from the hub"
        what = f'"{name}" {where}: check its name, the network and HF_HUB_OFFLINE, or use "tiny"'
        if adapter:
            what = (
                f'"{name}" is an adapter for "{base}", which {where}: check the network and HF_HUB_OFFLINE, or correct '
                "base_model_name_or_path in its adapter_config.json"
            )
        raise ConfigError(f"policy.lm.model {what}") from error


def _read_merged(adapter: Adapter, dtype: str, kinds: Sequence[str | None]) -> Any:
    """Returns the model of an adapter with this merged into it, for which it is read in float32 and in `dtype`."""
    weights = merge(read_model(adapter.base, "float32"), adapter)
    model = read_model(adapter.base, dtype, kinds)
    model.load_state_dict(weights)
    return model


def read_model(name: str, dtype: str, kinds: Sequence[str | None] = (None,)) -> Any:
    """Returns the model of an id or folder with the first of some kinds of attention that it has.

    The weights are copied out of the mapped file: there they lie at odd addresses, and sums over them round otherwise
    than over weights that were made in memory, so that a resumed run would drift from an unbroken one. Raises OSError
    or ValueError, and ConfigError if the model has none of the kinds.
    """
    *others, last = kinds
    for kind in others:
        try:
            return _read(name, dtype, kind)
        except (ImportError, ValueError):
            continue
    try:
        return _read(name, dtype, last)
    except (ImportError, ValueError) as error:
        if last and "attention" in str(error).lower():
            raise ConfigError(f'policy.lm.model "{name}" has no attention of the kind "{last}": use auto') from error
        raise


def _read(name: str, dtype: str, kind: str | None) -> Any:
    given = {} if kind is None else {"attn_implementation": kind}
    with without_bars():
        model = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype), **given)
    for weight in model.parameters():
        weight.data = weight.data.clone()
    return model


def context_of(config: Any) -> int:
    """Returns how many tokens a model reads, as far as its configuration says.

    Of a sliding window that is less than half: within that, all rows of a batch look at all they have, however they
    are padded.
    """
    context = int(getattr(config, "max_position_embeddings", None) or 2**20)
    window = _window(config)
    return min(context, (window - 1) // 2) if window else context


def _window(config: Any) -> int | None:
    """Returns how far back the tokens of a model look, if there is a limit."""
    kinds = getattr(config, "layer_types", None)
    return getattr(config, "sliding_window", None) if kinds is None or "sliding_attention" in kinds else None


def check_context(name: str, config: Any, tokenizer: Any, settings: CausalLMConfig, prompt_tokens: int) -> None:
    """Raises ConfigError if prompts of so many tokens, or the bare instructions, and an answer are over the context."""
    least, context = bare_tokens(tokenizer, settings.answer), context_of(config)
    prompt = max(least, prompt_tokens)
    if prompt + settings.max_new_tokens > context:
        lower = "" if least + settings.max_new_tokens > context else "prompt.max_tokens or "
        window = _window(config)
        why = f", less than half of its sliding window of {window}" if window else ""
        raise ConfigError(
            f'policy.lm.model "{name}" reads {context} tokens{why}, too few for a prompt of {prompt} and an answer of '
            f"{settings.max_new_tokens}: lower {lower}policy.lm.max_new_tokens, or use another model"
        )


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
