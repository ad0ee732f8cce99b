"""Loading of pretrained models: folders, GGUF files, folders of LoRA adapters, and ids of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import is_flash_attn_2_available, logging

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError
from d2skill.policies.causal_lm.architectures import likely_paths, model_class, text_config
from d2skill.policies.causal_lm.chat_template import count_instruction_tokens
from d2skill.policies.causal_lm.lora import check_settings, find_adapter, merge
from d2skill.policies.causal_lm.model_files import check_weight_files, gguf_file, source

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
        config = _read_config(base)  # fails sooner than the tokenizer, which asks the hub twice
        model_class(name, config)
        tokenizer = read_tokenizer(name if (Path(name) / "tokenizer_config.json").is_file() else base)
        if not tokenizer.chat_template:
            raise ConfigError(
                f'policy.lm.model "{name}" has no chat template: use an instruction-tuned model, or put a '
                "chat_template.jinja into its folder"
            )
        check_context(name, config, tokenizer, settings, prompt_tokens)
        if Path(base).is_dir() and not gguf_file(base):
            check_weight_files(Path(base), base)
        if not adapter or settings.lora_rank:
            return load_model(base, settings.dtype, kinds), tokenizer
        weights = merge(load_model(base, "float32"), adapter)
        model = load_model(base, settings.dtype, kinds)
        model.load_state_dict(weights)
        return model, tokenizer
    except ConfigError:
        raise
    except Exception as error:  # whatever Transformers raises for files that anybody may have written
        raise _not_readable(name, base, error) from error


def _read_config(name: str, **options: Any) -> Any:
    """Returns the configuration of an id, folder or GGUF file."""
    place, of_gguf = source(name)
    with _readable_gguf(name, of_gguf):
        return AutoConfig.from_pretrained(place, trust_remote_code=False, **of_gguf, **options)


def read_tokenizer(name: str) -> Any:
    """Returns the tokenizer of an id, folder or GGUF file."""
    place, of_gguf = source(name)
    with _readable_gguf(name, of_gguf):
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False, **of_gguf)


@contextmanager
def _readable_gguf(name: str, of_gguf: dict[str, Any]) -> Iterator[None]:
    """Turns whatever is raised by the reading of a damaged GGUF file into a ConfigError."""
    try:
        yield
    except Exception as error:
        if not of_gguf or isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f'policy.lm.model "{name}" cannot be read ({_first_line(error)}): get the GGUF file again, or use a '
            "folder of safetensors"
        ) from error


def _not_readable(name: str, base: str, error: Exception) -> ConfigError:
    """Returns the error that a model cannot be read, with the way out that fits the reason."""
    first, adapter = _first_line(error), base != name
    if "does not recognize this architecture" in str(error):
        return ConfigError(
            f'policy.lm.model "{name}" is of a type that Transformers {transformers.__version__} does not know '
            f"({first}): pip install -U transformers, or use another model"
        )
    if "trust_remote_code" in str(error):
        return ConfigError(
            f'policy.lm.model "{name}" comes with code of its own, which is not run here: use a model that '
            "Transformers has itself"
        )
    if isinstance(error, ImportError):
        return ConfigError(f'policy.lm.model "{name}" needs a package that is not installed: {first}')
    if isinstance(error, SafetensorError):
        return ConfigError(
            f'the weights of policy.lm.model "{name}" cannot be read ({first}): delete them and get the model again '
            "with hf download"
        )
    where = f"cannot be read ({first})" if Path(base).exists() else "is neither a folder nor a model on the hub"
    what = f'"{name}" {where}: check its name, the network and HF_HUB_OFFLINE, or use "tiny"'
    if adapter:
        what = (
            f'"{name}" is an adapter for "{base}", which {where}: check the network and HF_HUB_OFFLINE, or correct '
            "base_model_name_or_path in its adapter_config.json"
        )
    return ConfigError(f"policy.lm.model {what}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def describe_model(name: str) -> str:
    """Returns the class of a model and the way it is computed, from its configuration on this machine alone.

    The weights are not read, but that their files are there and whole is checked. Raises ConfigError for a model that
    cannot be trained here.
    """
    adapter = find_adapter(name)
    base = adapter.base if adapter else name
    try:
        config = _read_config(base, local_files_only=True)
    except ConfigError:
        raise
    except Exception as error:
        raise _not_readable(name, base, error) from error
    kind = model_class(name, config)
    if Path(base).is_dir():
        check_weight_files(Path(base), base)
    way = "" if likely_paths(kind, config)[0] == "batched" else ", whose prompts are read one by one, which is slow"
    return f"{kind.__name__}{way}"


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
    options: dict[str, Any] = {} if kind is None else {"attn_implementation": kind}
    place, of_gguf = source(name)
    with hidden_progress_bars(), _readable_gguf(name, of_gguf):
        model = AutoModelForCausalLM.from_pretrained(
            place, trust_remote_code=False, dtype=getattr(torch, dtype), **of_gguf, **options
        )
    if of_gguf:
        _forget_quantisation(model)
    # Sums over weights in a mapped file, where they lie at odd addresses, round otherwise than over weights that were
    # made in memory: a resumed run would drift from an unbroken one.
    for weight in model.parameters():
        weight.data = weight.data.clone()
    return model


def _forget_quantisation(model: Any) -> None:
    """Makes a model that was dequantised when it was read a plain one, which can be saved."""
    for owner, names in ((model, ("hf_quantizer", "quantization_method")), (model.config, ("quantization_config",))):
        for name in names:
            if name in vars(owner):
                delattr(owner, name)
    model.is_quantized = False


def context_length(config: Any) -> int:
    """Returns the number of tokens that a model reads, as far as its configuration says.

    With a sliding window it is less than half of the window: within that, all sequences of a batch see all their
    tokens, however they are padded.
    """
    config = text_config(config)
    context = int(getattr(config, "max_position_embeddings", None) or 2**20)
    window = _sliding_window(config)
    return min(context, (window - 1) // 2) if window else context


def _sliding_window(config: Any) -> int | None:
    """Returns the number of last tokens that a token can see, if there is a limit."""
    config = text_config(config)
    kinds = getattr(config, "layer_types", None)
    window: int | None = None
    if kinds is None or "sliding_attention" in kinds:
        window = getattr(config, "sliding_window", None)
    if kinds is not None and "chunked_attention" in kinds:
        window = getattr(config, "attention_chunk_size", None)
    return window


def check_context(name: str, config: Any, tokenizer: Any, settings: CausalLMConfig, prompt_tokens: int) -> None:
    """Raises ConfigError if the context of a model is too short for a prompt and an answer.

    Args:
        name: name of the model, for the message.
        config: its configuration in Transformers.
        tokenizer: its tokenizer.
        settings: format and length of answers.
        prompt_tokens: budget of a prompt; the instructions alone are the least that it has to hold.
    """
    least, context = count_instruction_tokens(tokenizer, settings.answer, name), context_length(config)
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
    for config in (model.generation_config, model.config, text_config(model.config)):
        configured = getattr(config, "eos_token_id", None)
        ids += configured if isinstance(configured, list) else [configured]
    ends = list(dict.fromkeys(int(token) for token in ids if token is not None))
    if not ends:
        raise ConfigError("policy.lm.model has no end of text: set eos_token in its tokenizer_config.json")
    return ends
