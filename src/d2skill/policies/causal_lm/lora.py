"""LoRA adapters as models: policy.lm.model can be the folder of a peft adapter, which names its base model.

With policy.lm.lora_rank the adapter is trained further on its base (see fine_tuning); without, it is merged and all
weights are trained. Merging is in float32, whatever the precision of the model: peft would round what an adapter adds
before adding it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError
from d2skill.utils.foreign_files import read_json, reason_of

CONFIG = "adapter_config.json"
_MERGE = "merge it into its model with merge_and_unload of peft and name the folder that this is saved to"
_PREFIX = "base_model.model."
# fields of a LoraConfig that the settings hold, that the weights show, or that matter only before training
_FREE = {"r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"} | {
    *("task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version"),
    *("lora_dropout", "fan_in_fan_out", "megatron_config", "megatron_core", "runtime_config", "loftq_config"),
    *("eva_config", "corda_config", "lora_ga_config", "qalora_group_size"),
}
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")  # other initialisations change the weights of the base


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """Folder of an adapter, and the id or folder of its base model."""

    folder: Path
    base: str

    def mismatch(self, reason: object) -> ConfigError:
        """Returns the error that the adapter does not fit its base."""
        lines = [line.strip() for line in str(reason).splitlines() if line.strip()] or [type(reason).__name__]
        detail = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]  # torch puts errors below a title
        return ConfigError(
            f'policy.lm.model "{self.folder}" does not fit the model "{self.base}", which it says it is for '
            f"({detail.rstrip(' .')}): correct base_model_name_or_path in its {CONFIG}"
        )


def find_adapter(name: str) -> LoraAdapter | None:
    """Returns the adapter in a folder; None if there is no such folder, or no adapter in it.

    An adapter that names no base is for the model in base/ beside it, as in a checkpoint of the model "tiny". Raises
    ConfigError for one that is not LoRA or cannot be read, and for one whose base is not named or an adapter itself.
    """
    folder = Path(name)
    if not (folder / CONFIG).is_file():
        return None
    try:
        values = read_json(folder / CONFIG)
        kind, base = values["peft_type"], values.get("base_model_name_or_path")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{folder / CONFIG} is no configuration of peft ({reason_of(error)}): save the adapter again"
        ) from None
    if kind != "LORA":
        raise ConfigError(f'policy.lm.model "{name}" is an adapter of the kind {kind} and not LORA: {_MERGE}')
    beside = folder.absolute().parent / "base"
    if not base and beside.is_dir():
        base = str(beside)
    if not base:
        raise ConfigError(
            f'policy.lm.model "{name}" is an adapter that does not name its model: set base_model_name_or_path in its '
            f"{CONFIG}"
        )
    if (Path(base) / CONFIG).is_file():
        raise ConfigError(f'policy.lm.model "{name}" is an adapter for "{base}", which is an adapter itself: {_MERGE}')
    return LoraAdapter(folder, base)


def import_peft(wanted_by: str, otherwise: str = "") -> Any:
    """Returns the package peft. Raises ConfigError if it is not installed, which says what needs it."""
    try:
        return import_module("peft")
    except ImportError as error:
        raise ConfigError(f'{wanted_by} needs the package peft: pip install "d2skill[train]"{otherwise}') from error


def check_settings(adapter: LoraAdapter, settings: CausalLMConfig) -> None:
    """Raises ConfigError if an adapter has not the rank and scale of the settings, or features that they do not have.

    The layers that it adapts are checked later, together with its model (see `check_weights`).
    """
    peft, config = _peft(adapter), _lora_config(adapter)
    for name, value in (("lora_rank", config.r), ("lora_alpha", config.lora_alpha)):
        if getattr(settings, name) != value:
            raise _other_form(adapter, settings, name, value)
    plain = peft.LoraConfig()
    special = [
        field.name
        for field in fields(plain)
        if field.name not in _FREE
        and (getattr(config, field.name, None) or None) != (getattr(plain, field.name) or None)
        and not (field.name == "init_lora_weights" and config.init_lora_weights in _PLAIN_STARTS)
    ]
    if special:
        raise ConfigError(
            f'policy.lm.model "{adapter.folder}" is an adapter with {" and ".join(special)}, which cannot '
            "be trained further: set policy.lm.lora_rank to 0 to merge it and train all weights"
        )


def check_weights(
    adapter: LoraAdapter,
    settings: CausalLMConfig,
    weights: Mapping[str, Any],
    expected: Mapping[str, Any],
    modules: Iterable[str],
) -> None:
    """Raises ConfigError if the weights of an adapter are not those that the settings make in its model.

    Args:
        adapter: the adapter.
        settings: the settings that it is trained with.
        weights: its tensors by their names in files.
        expected: tensors of a new adapter with these settings, by the same names.
        modules: names of the model's modules.
    """
    shapes, expected_shapes = ({name: tuple(w.shape) for name, w in each.items()} for each in (weights, expected))
    if shapes == expected_shapes:
        return
    for name in sorted(shapes.keys() & expected_shapes.keys()):
        if shapes[name] != expected_shapes[name]:
            raise adapter.mismatch(f"{name} is of {shapes[name]} and not {expected_shapes[name]}")
    layers, expected_layers = (
        {name.removeprefix(_PREFIX).split(".lora_")[0] for name in each} for each in (shapes, expected_shapes)
    )
    if unknown := sorted(layers - set(modules)):
        raise adapter.mismatch(f"it has no layer {unknown[0]}")
    kinds, expected_kinds = (sorted({name.rpartition(".")[2] for name in each}) for each in (layers, expected_layers))
    if kinds == expected_kinds:
        raise ConfigError(
            f'policy.lm.model "{adapter.folder}" is an adapter of only some of the layers {",".join(kinds)}, which '
            "cannot be trained further: set policy.lm.lora_rank to 0 to merge it and train all weights"
        )
    raise _other_form(adapter, settings, "lora_targets", ",".join(kinds))


def _other_form(adapter: LoraAdapter, settings: CausalLMConfig, name: str, value: object) -> ConfigError:
    """Returns the error that a setting is not that of an adapter."""
    return ConfigError(
        f'policy.lm.model "{adapter.folder}" is an adapter of another form: set policy.lm.{name}, which is '
        f"{getattr(settings, name)}, to {value}, or policy.lm.lora_rank to 0 to merge it and train all weights"
    )


def load_weights(adapter: LoraAdapter) -> dict[str, Any]:
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
            f'the weights of policy.lm.model "{adapter.folder}" cannot be read ({reason_of(error)}): '
            "save the adapter again"
        ) from error
    return tensors


def merge(model: Any, adapter: LoraAdapter) -> dict[str, Any]:
    """Returns the weights of a model with an adapter merged into them; the model is used up.

    Raises ConfigError for an adapter that does not fit, or that peft cannot merge, and for one of the embeddings or the
    head where the model has one matrix for both, which merged would have to be two.
    """
    from torch.random import fork_rng

    peft, tensors, config = _peft(adapter), load_weights(adapter), _lora_config(adapter)
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
        with fork_rng(devices=[]), warnings.catch_warnings():  # leaves the global random state as it was
            warnings.simplefilter("ignore")
            adapted = peft.get_peft_model(model, config)
            known = adapted.load_adapter(str(adapter.folder), "default", torch_device="cpu")
            if unknown := [*known.missing_keys, *known.unexpected_keys]:
                raise adapter.mismatch(f"{unknown[0]} is not in both")
            merged = adapted.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise adapter.mismatch(error) from error
    if _shapes(merged) != before:
        raise adapter.mismatch("merged it has other weights")
    weights: dict[str, Any] = merged.state_dict()
    return weights


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def _peft(adapter: LoraAdapter) -> Any:
    return import_peft(f'policy.lm.model "{adapter.folder}", which is an adapter,')


def _lora_config(adapter: LoraAdapter) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about settings of later versions of peft, which it leaves out
            return _peft(adapter).PeftConfig.from_pretrained(str(adapter.folder))
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{adapter.folder / CONFIG} cannot be read ({reason_of(error)}): save the adapter again"
        ) from error
