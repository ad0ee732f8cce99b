"""Models that are named by a LoRA adapter, a folder of peft. The base is the one that the adapter says it is for.

With policy.lm.lora_rank the adapter goes on training on its base (see tuning); without it is merged and all weights
train. The merging is in float32, whatever the model is then: peft would round what an adapter adds before adding it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError

CONFIG = "adapter_config.json"
_MERGE = "merge it into its model with merge_and_unload of peft and name the folder that this is saved to"
_PREFIX = "base_model.model."
# what of a LoraConfig the settings say, the weights show, or only matters before training
_FREE = {"r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"} | {
    *("task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version"),
    *("lora_dropout", "fan_in_fan_out", "megatron_config", "megatron_core", "runtime_config", "loftq_config"),
    *("eva_config", "corda_config", "lora_ga_config", "qalora_group_size"),
}
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")  # others have changed the weights of the model


@dataclass(frozen=True, slots=True)
class Adapter:
    """The folder of an adapter and the id or folder of the model it is for."""

    folder: Path
    base: str

    def misfit(self, reason: object) -> ConfigError:
        """Returns the error that the adapter is not for its base."""
        lines = [line.strip() for line in str(reason).splitlines() if line.strip()] or [type(reason).__name__]
        said = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]  # torch has its errors below
        said = said.rstrip(" .")
        return ConfigError(
            f'policy.lm.model "{self.folder}" does not fit the model "{self.base}", which it says it is for ({said}): '
            f"correct base_model_name_or_path in its {CONFIG}"
        )


def adapter_at(name: str) -> Adapter | None:
    """Returns the adapter in a folder; None if there is no such folder, or no adapter in it.

    An adapter that names no base is for the model in base/ beside it, as in a checkpoint of the model "tiny". Raises
    ConfigError for one that is not LoRA or cannot be read, and for one whose base is not named or an adapter itself.
    """
    folder = Path(name)
    if not (folder / CONFIG).is_file():
        return None
    try:
        values = json.loads((folder / CONFIG).read_text("utf-8"))
        kind, base = values["peft_type"], values.get("base_model_name_or_path")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder / CONFIG} is of no adapter of peft ({error!r}): save the adapter again") from None
    if kind != "LORA":
        raise ConfigError(f'policy.lm.model "{name}" is an adapter of the kind {kind} and not LORA: {_MERGE}')
    beside = folder.absolute().parent / "base"
    if not base and beside.is_dir():
        base = str(beside)
    if not base:
        raise ConfigError(
            f'policy.lm.model "{name}" is an adapter that does not tell its model: set base_model_name_or_path in its '
            f"{CONFIG}"
        )
    if (Path(base) / CONFIG).is_file():
        raise ConfigError(f'policy.lm.model "{name}" is an adapter for "{base}", which is one itself: {_MERGE}')
    return Adapter(folder, base)


def import_peft(wanted_by: str, otherwise: str = "") -> Any:
    """Returns the package peft. Raises ConfigError if it is not installed, which says what wants it."""
    try:
        return import_module("peft")
    except ImportError as error:
        raise ConfigError(f'{wanted_by} needs the package peft: pip install "d2skill[train]"{otherwise}') from error


def require_form(adapter: Adapter, settings: CausalLMConfig) -> None:
    """Raises ConfigError if an adapter is not of the rank and scale of the settings, or does more than they can say.

    Which layers it has only shows when it meets its model, see `require_same`.
    """
    peft, found = _peft(adapter), _lora_config(adapter)
    for name, value in (("lora_rank", found.r), ("lora_alpha", found.lora_alpha)):
        if getattr(settings, name) != value:
            raise ConfigError(_set(adapter, settings, name, value))
    plain = peft.LoraConfig()
    special = [
        field.name
        for field in fields(plain)
        if field.name not in _FREE
        and (getattr(found, field.name, None) or None) != (getattr(plain, field.name) or None)
        and not (field.name == "init_lora_weights" and found.init_lora_weights in _PLAIN_STARTS)
    ]
    if special:
        raise ConfigError(
            f'policy.lm.model "{adapter.folder}" is an adapter with {" and ".join(special)}, which cannot go on '
            "training here: set policy.lm.lora_rank to 0 to merge it and train all weights"
        )


def require_same(
    adapter: Adapter,
    settings: CausalLMConfig,
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    modules: Iterable[str],
) -> None:
    """Raises ConfigError if weights of an adapter are not those that the settings make in a model with some modules.

    `found` and `wanted` are tensors by their names in files.
    """
    shapes, wanted_shapes = ({name: tuple(w.shape) for name, w in each.items()} for each in (found, wanted))
    if shapes == wanted_shapes:
        return
    for name in sorted(shapes.keys() & wanted_shapes.keys()):
        if shapes[name] != wanted_shapes[name]:
            raise adapter.misfit(f"{name} is of {shapes[name]} and not {wanted_shapes[name]}")
    if strange := sorted(_layers(shapes) - set(modules)):
        raise adapter.misfit(f"it has no layer {strange[0]}")
    kinds, own = (sorted({layer.rpartition(".")[2] for layer in _layers(each)}) for each in (shapes, wanted_shapes))
    if kinds == own:
        raise ConfigError(
            f'policy.lm.model "{adapter.folder}" is an adapter of only some of the layers {",".join(kinds)}, which '
            "cannot go on training here: set policy.lm.lora_rank to 0 to merge it and train all weights"
        )
    raise ConfigError(_set(adapter, settings, "lora_targets", ",".join(kinds)))


def _layers(names: Iterable[str]) -> set[str]:
    return {name.removeprefix(_PREFIX).split(".lora_")[0] for name in names}


def _set(adapter: Adapter, settings: CausalLMConfig, name: str, value: object) -> str:
    return (
        f'policy.lm.model "{adapter.folder}" is an adapter of another form: set policy.lm.{name}, which is '
        f"{getattr(settings, name)}, to {value}, or policy.lm.lora_rank to 0 to merge it and train all weights"
    )


def read_tensors(adapter: Adapter) -> dict[str, Any]:
    """Returns the weights of an adapter by their names in files. Raises ConfigError if they cannot be read."""
    peft = _peft(adapter)
    if not any((adapter.folder / f"adapter_model.{ending}").is_file() for ending in ("safetensors", "bin")):
        raise ConfigError(
            f'policy.lm.model "{adapter.folder}" has no adapter_model.safetensors: save the adapter again'
        )
    try:
        tensors: dict[str, Any] = peft.utils.load_peft_weights(str(adapter.folder), device="cpu")
    except Exception as error:  # of pickle and safetensors alike
        raise ConfigError(
            f'the weights of policy.lm.model "{adapter.folder}" cannot be read ({error}): save the adapter again'
        ) from error
    return tensors


def merge(model: Any, adapter: Adapter) -> dict[str, Any]:
    """Returns the weights of a model, which is used up, with an adapter merged into them.

    Raises ConfigError for an adapter that does not fit, or that peft cannot merge, and for one of the embeddings or the
    head where the model has one matrix for both, which merged would have to be two.
    """
    peft, tensors, config = _peft(adapter), read_tensors(adapter), _lora_config(adapter)
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    if None not in ends and ends[0].weight is ends[1].weight:
        names = tuple(f"{_PREFIX}{name}." for name, part in model.named_modules() if part in ends)
        if any(name.startswith(names) for name in tensors):
            raise ConfigError(
                f'policy.lm.model "{adapter.folder}" adapts the embeddings or the head of "{adapter.base}", which are '
                "one matrix there, so that it cannot be merged: name another adapter"
            )
    before = _shapes(model)
    try:
        with _drawing_nothing():
            adapted = peft.get_peft_model(model, config)
            known = adapted.load_adapter(str(adapter.folder), "default", torch_device="cpu")
            if strange := [*known.missing_keys, *known.unexpected_keys]:
                raise adapter.misfit(f"{strange[0]} is not in both")
            merged = adapted.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise adapter.misfit(error) from error
    if _shapes(merged) != before:
        raise adapter.misfit("merged it has other weights")
    weights: dict[str, Any] = merged.state_dict()
    return weights


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def _peft(adapter: Adapter) -> Any:
    return import_peft(f'policy.lm.model "{adapter.folder}", which is an adapter,')


def _lora_config(adapter: Adapter) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings of later versions of peft, which it leaves out
            return _peft(adapter).PeftConfig.from_pretrained(str(adapter.folder))
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{adapter.folder / CONFIG} cannot be read ({error}): save the adapter again") from error


@contextmanager
def _drawing_nothing() -> Iterator[None]:
    """Leaves the random state as it was and keeps the warnings of peft to itself."""
    from torch.random import fork_rng

    with fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
