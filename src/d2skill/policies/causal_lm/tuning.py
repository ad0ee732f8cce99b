"""What of a model trains, and what it is held to: all weights and a frozen copy, or an adapter and its own start.

A low-rank adapter adds (alpha / rank) B A to the weights W of a layer. Three choices of it:
1. The reference policy takes no second copy of the model. An adapter that was never trained adds nothing, and its
   reference is the model with the adapter off. After imitation the reference is a frozen copy of the adapter as it was
   then, in the same model. To merge the imitated adapter into W instead would round W, in bfloat16 by more than a step
   of training, and every checkpoint would have to hold the merged weights.
2. Adapters are float32, whatever W is, so that small steps are not lost.
3. There is no dropout, for the same reason as elsewhere: probabilities recorded are those recomputed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError, RunError
from d2skill.policies.causal_lm.loading import attention_kinds, read_model, without_bars
from d2skill.policies.causal_lm.lora import Adapter, adapter_at, import_peft, read_tensors, require_same

TRAINED, REFERENCE = "default", "reference"
"""Names of the two adapters; peft keeps the one called default at the top of a folder."""
_SAMPLE = 64


class Tuning(Protocol):
    """A model, of which something trains, and its reference policy."""

    model: Any

    @property
    def frozen(self) -> bool:
        """Whether there is a reference."""

    def freeze(self) -> None:
        """Makes the model as it is now the reference."""

    def reference(self) -> Any:
        """Returns a context in which to use the model that it gives, without gradients, as the reference."""

    def save(self, folder: Path, tokenizer: Any) -> dict[str, Any]:
        """Writes weights and reference; returns what `check` needs to know of them."""

    def check(self, folder: Path, meta: dict[str, Any]) -> None:
        """Raises RunError if what `save` wrote is not for this model and these settings."""

    def base(self, folder: Path) -> Path | None:
        """Returns the folder of the model to begin with, None if it is the present one."""

    def restore(self, folder: Path, frozen: bool) -> None:
        """Takes over the rest of what `save` wrote. Raises OSError, ValueError, KeyError or SafetensorError."""


def make_tuning(model: Any, settings: CausalLMConfig, seed: int) -> Tuning:
    """Returns the tuning that the settings ask for; an adapter is drawn with `seed`. Raises ConfigError."""
    return LowRankTuning(model, settings, seed) if settings.lora_rank else FullTuning(model, settings)


class FullTuning:
    """All weights train. model/ and reference/ are Transformers folders."""

    def __init__(self, model: Any, settings: CausalLMConfig) -> None:
        self.model, self._settings = model, settings
        self._copy: Any = None

    @property
    def frozen(self) -> bool:
        """See Tuning."""
        return self._copy is not None

    def freeze(self) -> None:
        """See Tuning."""
        self._copy = copy.deepcopy(self.model).requires_grad_(False)

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """See Tuning."""
        with torch.no_grad():
            yield self._copy

    def save(self, folder: Path, tokenizer: Any) -> dict[str, Any]:
        """See Tuning."""
        with without_bars():
            self.model.save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
            if self._copy is not None:
                self._copy.save_pretrained(folder / "reference")
        return {}

    def check(self, folder: Path, meta: dict[str, Any]) -> None:
        """See Tuning."""
        if "lora" in meta:
            rank = meta["lora"]["lora_rank"]
            raise RunError(f"checkpoint {folder} is an adapter: set policy.lm.lora_rank, which is 0, to {rank}")

    def base(self, folder: Path) -> Path | None:
        """See Tuning."""
        return folder / "model"

    def restore(self, folder: Path, frozen: bool) -> None:
        """See Tuning."""
        self._copy = None
        if frozen:
            kinds = attention_kinds(self._settings, self.model.device)
            reference = read_model(str(folder / "reference"), self._settings.dtype, kinds)
            self._copy = reference.to(self.model.device).eval().requires_grad_(False)


class LowRankTuning:
    """Only an adapter trains. adapter/ is a folder of peft; base/ beside it is the model, if it was made here.

    Where policy.lm.model is an adapter, this is where training starts. Raises ConfigError without peft, if no layer has
    the names asked for, and for an adapter that is not of the form of the settings or not for this model.
    """

    def __init__(self, model: Any, settings: CausalLMConfig, seed: int) -> None:
        self._lib = peft = require_peft()
        names = [name.strip() for name in settings.lora_targets.split(",")]
        self._settings, self._fingerprint, self._frozen = settings, fingerprint(model), False
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
                warnings.simplefilter("ignore", FutureWarning)  # of Transformers, about what peft asks it
                self._peft = peft.get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(
                f'policy.lm.lora_targets "{settings.lora_targets}" names layers that cannot get an adapter: use '
                f"all-linear, or some of {','.join(sorted(linear))}"
            ) from error
        start = adapter_at(settings.model)
        if settings.model != "tiny":
            base = start.base if start else settings.model
            config.base_model_name_or_path = str(Path(base).resolve()) if Path(base).is_dir() else base
        self.model = self._peft.get_base_model()
        if start:
            self._start_at(start)

    @property
    def frozen(self) -> bool:
        """See Tuning."""
        return self._frozen

    def _start_at(self, adapter: Adapter) -> None:
        given, own = read_tensors(adapter), self._tensors(TRAINED)
        require_same(adapter, self._settings, given, own, (name for name, _ in self.model.named_modules()))
        self._fill(TRAINED, given)

    def _tensors(self, adapter: str) -> dict[str, torch.Tensor]:
        """Returns the weights of an adapter by the names they have in files."""
        found = self._lib.get_peft_model_state_dict(self._peft, adapter_name=adapter, save_embedding_layers=False)
        return {name: weight.detach().contiguous() for name, weight in found.items()}

    def _fill(self, adapter: str, tensors: dict[str, torch.Tensor]) -> None:
        if tensors.keys() != self._tensors(adapter).keys():
            raise ValueError("the weights of the adapter are not those of these settings")
        self._lib.set_peft_model_state_dict(self._peft, tensors, adapter_name=adapter)

    def _refer(self, tensors: dict[str, torch.Tensor]) -> None:
        """Makes weights the reference, frozen beside those that train."""
        if REFERENCE not in self._peft.peft_config:
            with torch.random.fork_rng(devices=[]):
                self._peft.add_adapter(REFERENCE, copy.copy(self._peft.peft_config[TRAINED]))
        self._fill(REFERENCE, tensors)
        self._peft.base_model.set_adapter(TRAINED)

    def freeze(self) -> None:
        """See Tuning."""
        tensors = self._tensors(TRAINED)
        trained = any(bool(weight.any()) for name, weight in tensors.items() if "lora_B" in name)
        if trained or REFERENCE in self._peft.peft_config:
            self._refer(tensors)
        self._frozen = True

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """See Tuning. What was computed before can still be taken backwards after, but not inside."""
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
        """See Tuning."""
        for adapter in self._peft.peft_config:
            where = folder / "adapter" / ("" if adapter == TRAINED else adapter)
            where.mkdir(parents=True, exist_ok=True)
            save_file(self._tensors(adapter), where / "adapter_model.safetensors", metadata={"format": "pt"})
            config = copy.copy(self._peft.peft_config[adapter])
            config.inference_mode = True
            config.save_pretrained(str(where))
        tokenizer.save_pretrained(folder / "adapter")
        if self._settings.model == "tiny":
            weights = {
                name.replace(".base_layer.", "."): weight
                for name, weight in self.model.state_dict().items()
                if ".lora_" not in name
            }
            with without_bars():
                self.model.save_pretrained(folder / "base", state_dict=weights)
            tokenizer.save_pretrained(folder / "base")
        return {"lora": {**self._named(), "model": self._settings.model, "base": self._fingerprint}}

    def _named(self) -> dict[str, Any]:
        return self._settings.model_dump(include={"lora_rank", "lora_alpha", "lora_targets"})

    def check(self, folder: Path, meta: dict[str, Any]) -> None:
        """See Tuning."""
        if "lora" not in meta:
            raise RunError(f"checkpoint {folder} has all weights and no adapter: set policy.lm.lora_rank to 0")
        lora = meta["lora"]
        for name, value in self._named().items():
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
        """See Tuning."""
        return folder / "base" if (folder / "base").is_dir() else None

    def restore(self, folder: Path, frozen: bool) -> None:
        """See Tuning."""
        where = folder / "adapter"
        self._fill(TRAINED, load_file(where / "adapter_model.safetensors"))
        if REFERENCE in self._peft.peft_config:
            self._peft.delete_adapter(REFERENCE)
        if (where / REFERENCE).is_dir():
            self._refer(load_file(where / REFERENCE / "adapter_model.safetensors"))
        self._frozen = frozen


def fingerprint(model: Any) -> str:
    """Returns a checksum of names, shapes and a sample of all weights, the same in float32 and bfloat16."""
    digest = blake2b(digest_size=16)
    for name, weight in model.named_parameters():
        step = max(1, weight.numel() // _SAMPLE)
        sample = weight.detach().flatten()[::step][:_SAMPLE].to(torch.bfloat16).float().cpu()
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + sample.numpy().tobytes())
    return digest.hexdigest()


def require_peft() -> Any:
    """Returns the package peft, which adapters that train need. Raises ConfigError if it is not installed."""
    return import_peft("policy.lm.lora_rank", ", or set it to 0")
