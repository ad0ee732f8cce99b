"""Loading of pretrained models: a folder, the folder of a LoRA adapter, or an id of the Hugging Face Hub."""

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
from d2skill.policies.causal_lm.chat_template import count_instruction_tokens
from d2skill.policies.causal_lm.lora import check_settings, find_adapter, merge

FLASH = "flash_attention_2"


def attention_kinds(settings: CausalLMConfig, device: Any) -> tuple[str | None, ...]:
    """Returns the kinds of attention to try, in order; None leaves it to Transformers: sdpa, if the model has it.

    Raises ConfigError if flash attention is asked for and is not available.
    """
    if settings.attention in ("eager", "sdpa"):
        return (settings.attention,)
    if device.type != "cuda":
        missing = "a GPU"
    elif settings.dtype != "bfloat16":
        missing = "policy.lm.dtype bfloat16"
    else:
        missing = "" if is_flash_attn_2_available() else "the package flash-attn"
    if settings.attention == "auto":
        return (None,) if missing else (FLASH, None)
    if missing:
        raise ConfigError(f'policy.lm.attention is "{FLASH}", which needs {missing}: use auto')
    return (FLASH,)


def load_pretrained(name: str, settings: CausalLMConfig, device: Any, prompt_tokens: int = 0) -> tuple[Any, Any]:
    """Returns model and tokenizer of an id or folder; the weights are read last, after all checks.

    For the folder of an adapter the model is its base with the adapter merged, or the bare base if policy.lm.lora_rank
    is set; the tokenizer is the adapter's if it has one.

    Args:
        name: id on the Hub, or folder of a model or an adapter.
        settings: precision, attention, and the form of an adapter that trains.
        device: device that the model will be moved to.
        prompt_tokens: budget of a prompt, which the context has to hold.

    Raises:
        ConfigError: for a model that is not available, or that has no chat template, too short a context or not the
            attention asked for, and for an adapter that does not go with it.
    """
    kinds = attention_kinds(settings, device)
    adapter = find_adapter(name)
    if adapter and settings.lora_rank:
        check_settings(adapter, settings)
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
        if not adapter or settings.lora_rank:
            return load_model(base, settings.dtype, kinds), tokenizer
        weights = merge(load_model(base, "float32"), adapter)
        model = load_model(base, settings.dtype, kinds)
        model.load_state_dict(weights)
        return model, tokenizer
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        where = f"cannot be read ({first})" if Path(base).is_dir() else "is neither a folder nor a model on the hub"
        what = f'"{name}" {where}: check its name, the network and HF_HUB_OFFLINE, or use "tiny"'
        if adapter:
            what = (
                f'"{name}" is an adapter for "{base}", which {where}: check the network and HF_HUB_OFFLINE, or correct '
                "base_model_name_or_path in its adapter_config.json"
            )
        raise ConfigError(f"policy.lm.model {what}") from error


def load_model(name: str, dtype: str, kinds: Sequence[str | None] = (None,)) -> Any:
    """Returns the model of an id or folder with the first of some kinds of attention that it has.

    Raises OSError or ValueError, and ConfigError if the model has none of the kinds.
    """
    *others, last = kinds
    for kind in others:
        try:
            return _load(name, dtype, kind)
        except (ImportError, ValueError):
            continue
    try:
        return _load(name, dtype, last)
    except (ImportError, ValueError) as error:
        if last and "attention" in str(error).lower():
            raise ConfigError(f'policy.lm.model "{name}" has no attention of the kind "{last}": use auto') from error
        raise


def _load(name: str, dtype: str, kind: str | None) -> Any:
    options = {} if kind is None else {"attn_implementation": kind}
    with hidden_progress_bars():
        model = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype), **options)
    # Sums over weights in a mapped file, where they lie at odd addresses, round otherwise than over weights that were
    # made in memory: a resumed run would drift from an unbroken one.
    for weight in model.parameters():
        weight.data = weight.data.clone()
    return model


def context_length(config: Any) -> int:
    """Returns the number of tokens that a model reads, as far as its configuration says.

    With a sliding window it is less than half of the window: within that, all sequences of a batch see all their
    tokens, however they are padded.
    """
    context = int(getattr(config, "max_position_embeddings", None) or 2**20)
    window = _sliding_window(config)
    return min(context, (window - 1) // 2) if window else context


def _sliding_window(config: Any) -> int | None:
    """Returns the number of last tokens that a token can see, if there is a limit."""
    kinds = getattr(config, "layer_types", None)
    return getattr(config, "sliding_window", None) if kinds is None or "sliding_attention" in kinds else None


def check_context(name: str, config: Any, tokenizer: Any, settings: CausalLMConfig, prompt_tokens: int) -> None:
    """Raises ConfigError if the context of a model is too short for a prompt and an answer.

    Args:
        name: name of the model, for the message.
        config: its configuration in Transformers.
        tokenizer: its tokenizer.
        settings: format and length of answers.
        prompt_tokens: budget of a prompt; the instructions alone are the least that it has to hold.
    """
    least, context = count_instruction_tokens(tokenizer, settings.answer), context_length(config)
    prompt = max(least, prompt_tokens)
    if prompt + settings.max_new_tokens > context:
        lower = "" if least + settings.max_new_tokens > context else "prompt.max_tokens or "
        window = _sliding_window(config)
        why = f", less than half of its sliding window of {window}" if window else ""
        raise ConfigError(
            f'policy.lm.model "{name}" reads {context} tokens{why}, too few for a prompt of {prompt} and an answer of '
            f"{settings.max_new_tokens}: lower {lower}policy.lm.max_new_tokens, or use another model"
        )


@contextmanager
def hidden_progress_bars() -> Iterator[None]:
    """Hides the progress bars of Transformers meanwhile, and restores the caller's choice."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Returns the tokens that end a text, the tokenizer's first. Raises ConfigError if there are none."""
    ids = [tokenizer.eos_token_id]
    for config in (model.generation_config, model.config):
        configured = getattr(config, "eos_token_id", None)
        ids += configured if isinstance(configured, list) else [configured]
    ends = list(dict.fromkeys(int(token) for token in ids if token is not None))
    if not ends:
        raise ConfigError("policy.lm.model has no end of text: set eos_token in its tokenizer_config.json")
    return ends
