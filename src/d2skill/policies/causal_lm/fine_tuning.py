"""Fine-tuning: the parameters of a model that train, and its reference policy. In full, or with a LoRA adapter.

A low-rank adapter adds (alpha / rank) B A to the weights W of a layer. Three choices of it:
1. The reference policy takes no second copy of the model: it is the model with the adapter off, or after imitation
   with a frozen copy of the adapter. Merging the imitated adapter into W would round W, in bfloat16 by more than a step
   of training, and every checkpoint would have to hold the merged weights.
2. Adapters are float32, whatever W is, so that small steps are not lost.
3. There is no dropout, so that the probabilities of an update are those recorded.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError, RunError
from d2skill.policies.causal_lm.architectures import execution_path, set_path
from d2skill.policies.causal_lm.loading import attention_kinds, hidden_progress_bars, load_model
from d2skill.policies.causal_lm.lora import check_weights, find_adapter, import_peft, load_weights

TRAINED, REFERENCE = "default", "reference"
"""Names of the two adapters; peft keeps the one called default at the top of a folder."""
_SAMPLE = 64


class FullFineTuning:
    """Trains all weights; the reference is a copy of the model. model/ and reference/ are Transformers folders."""

    def __init__(self, model: Any, settings: CausalLMConfig) -> None:
        self.model, self._settings = model, settings
        self.has_reference = False
        self._reference: Any = None

    def freeze_reference(self) -> None:
        """Makes the present model the reference."""
        self.has_reference, self._reference = True, copy.deepcopy(self.model).requires_grad_(False)

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """Yields the reference model; no gradients are recorded meanwhile."""
        with torch.no_grad():
            yield self._reference

    def save(self, folder: Path, tokenizer: Any) -> dict[str, Any]:
        """Writes weights and reference; returns what `check` has to know of them."""
        with hidden_progress_bars():
            self.model.save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
            if self.has_reference:
                self._reference.save_pretrained(folder / "reference")
        return {}

    def check(self, folder: Path, meta: dict[str, Any]) -> None:
        """Raises RunError if a checkpoint is not for this model and these settings."""
        if "lora" in meta:
            rank = meta["lora"]["lora_rank"]
            raise RunError(f"checkpoint {folder} is an adapter: set policy.lm.lora_rank, which is 0, to {rank}")

    def base(self, folder: Path) -> Path | None:
        """Returns the folder of the model in a checkpoint; None if the checkpoint goes on from the present model."""
        return folder / "model"

    def restore(self, folder: Path, has_reference: bool) -> None:
        """Restores the rest of a checkpoint. Raises OSError, ValueError, KeyError or SafetensorError."""
        self.has_reference, self._reference = has_reference, None
        if has_reference:
            kinds = attention_kinds(self._settings, self.model.device)
            reference = load_model(str(folder / "reference"), self._settings.dtype, kinds)
            set_path(reference, execution_path(self.model))
            self._reference = reference.to(self.model.device).eval().requires_grad_(False)


class LoraFineTuning:
    """Trains only an adapter. adapter/ is a folder of peft; base/ beside it is the model, if it was made here.

    Training starts from policy.lm.model if that is an adapter, else from one drawn with `seed`. Raises ConfigError
    without peft, if no layer has the names asked for, and for an adapter that does not fit the settings or this model.
    """

    def __init__(self, model: Any, settings: CausalLMConfig, seed: int) -> None:
        self._lib = peft = require_peft()
        names = [name.strip() for name in settings.lora_targets.split(",")]
        self._settings, self._fingerprint, self.has_reference = settings, fingerprint(model), False
        config = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=0.0,
            target_modules="all-linear" if names == ["all-linear"] else names,
        )
        linear = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
        try:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                torch.manual_seed(seed % 2**63)
                warnings.simplefilter("ignore", FutureWarning)  # of Transformers, about a call of peft
                self._peft = peft.get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(
                f'policy.lm.lora_targets "{settings.lora_targets}" names layers that cannot get an adapter: use '
                f"all-linear, or some of {','.join(sorted(linear))}"
            ) from error
        start = find_adapter(settings.model)
        if settings.model != "tiny":
            base = start.base if start else settings.model
            config.base_model_name_or_path = str(Path(base).resolve()) if Path(base).is_dir() else base
        self.model = self._peft.get_base_model()
        if start:
            weights, modules = load_weights(start), (name for name, _ in self.model.named_modules())
            check_weights(start, settings, weights, self._weights(TRAINED), modules)
            self._set_weights(TRAINED, weights)

    def _weights(self, adapter: str) -> dict[str, torch.Tensor]:
        """Returns the weights of an adapter by the names they have in files."""
        found = self._lib.get_peft_model_state_dict(self._peft, adapter_name=adapter, save_embedding_layers=False)
        return {name: weight.detach().contiguous() for name, weight in found.items()}

    def _set_weights(self, adapter: str, weights: dict[str, torch.Tensor]) -> None:
        if weights.keys() != self._weights(adapter).keys():
            raise ValueError("the weights of the adapter are not those of these settings")
        self._lib.set_peft_model_state_dict(self._peft, weights, adapter_name=adapter)

    def _set_reference(self, weights: dict[str, torch.Tensor]) -> None:
        """Makes weights the reference adapter, frozen beside the one that trains."""
        if REFERENCE not in self._peft.peft_config:
            with torch.random.fork_rng(devices=[]):
                self._peft.add_adapter(REFERENCE, copy.copy(self._peft.peft_config[TRAINED]))
        self._set_weights(REFERENCE, weights)
        self._peft.base_model.set_adapter(TRAINED)

    def freeze_reference(self) -> None:
        """Makes the present adapter the reference."""
        weights = self._weights(TRAINED)
        trained = any(bool(weight.any()) for name, weight in weights.items() if "lora_B" in name)
        if trained or REFERENCE in self._peft.peft_config:
            self._set_reference(weights)
        self.has_reference = True

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """Yields the model as the reference, without gradients.

        A backward pass of what was computed before has to wait until afterwards.
        """
        layers, copied = self._peft.base_model, REFERENCE in self._peft.peft_config
        if copied:
            layers.set_adapter(REFERENCE)
        else:
            layers.disable_adapter_layers()
        try:
            with torch.no_grad():
                yield self.model
        finally:
            if copied:
                layers.set_adapter(TRAINED)
            else:
                layers.enable_adapter_layers()

    def save(self, folder: Path, tokenizer: Any) -> dict[str, Any]:
        """Writes the adapters, and the model if it was made here; returns what `check` has to know of them."""
        for adapter in self._peft.peft_config:
            target = folder / "adapter" / ("" if adapter == TRAINED else adapter)
            target.mkdir(parents=True, exist_ok=True)
            save_file(self._weights(adapter), target / "adapter_model.safetensors", metadata={"format": "pt"})
            config = copy.copy(self._peft.peft_config[adapter])
            config.inference_mode = True
            config.save_pretrained(str(target))
        tokenizer.save_pretrained(folder / "adapter")
        if self._settings.model == "tiny":
            weights = {
                name.replace(".base_layer.", "."): weight
                for name, weight in self.model.state_dict().items()
                if ".lora_" not in name
            }
            with hidden_progress_bars():
                self.model.save_pretrained(folder / "base", state_dict=weights)
            tokenizer.save_pretrained(folder / "base")
        return {"lora": {**self._form(), "model": self._settings.model, "base": self._fingerprint}}

    def _form(self) -> dict[str, Any]:
        """Returns the settings that a checkpoint and a run have to have in common."""
        return self._settings.model_dump(include={"lora_rank", "lora_alpha", "lora_targets"})

    def check(self, folder: Path, meta: dict[str, Any]) -> None:
        """Raises RunError if a checkpoint is not for this model and these settings."""
        if "lora" not in meta:
            raise RunError(f"checkpoint {folder} has all weights and no adapter: set policy.lm.lora_rank to 0")
        lora = meta["lora"]
        for name, value in self._form().items():
            if lora[name] != value:
                raise RunError(
                    f"checkpoint {folder} is an adapter of another form: set policy.lm.{name}, which is {value}, to "
                    f"{lora[name]}"
                )
        if self.base(folder) is None and lora["base"] != self._fingerprint:
            raise RunError(
                f'checkpoint {folder} is an adapter for the model "{lora["model"]}" as it was in training, which '
                f'policy.lm.model "{self._settings.model}" is not: set policy.lm.model to that one'
            )

    def base(self, folder: Path) -> Path | None:
        """Returns the folder of the base model in a checkpoint; None if it is the present one."""
        return folder / "base" if (folder / "base").is_dir() else None

    def restore(self, folder: Path, has_reference: bool) -> None:
        """Restores the adapters of a checkpoint. Raises OSError, ValueError, KeyError or SafetensorError."""
        source = folder / "adapter"
        self._set_weights(TRAINED, load_file(source / "adapter_model.safetensors"))
        if REFERENCE in self._peft.peft_config:
            self._peft.delete_adapter(REFERENCE)
        if (source / REFERENCE).is_dir():
            self._set_reference(load_file(source / REFERENCE / "adapter_model.safetensors"))
        self.has_reference = has_reference


FineTuning = FullFineTuning | LoraFineTuning


def fingerprint(model: Any) -> str:
    """Returns a checksum of names, shapes and a sample of all weights, the same in float32 and bfloat16."""
    digest = blake2b(digest_size=16)
    for name, weight in model.named_parameters():
        step = max(1, weight.numel() // _SAMPLE)
        sample = weight.detach().flatten()[::step][:_SAMPLE].to(torch.bfloat16).float().cpu()
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + sample.numpy().tobytes())
    return digest.hexdigest()


def require_peft() -> Any:
    """Returns the package peft, which training an adapter needs. Raises ConfigError if it is not installed."""
    return import_peft("policy.lm.lora_rank", ", or set it to 0")
