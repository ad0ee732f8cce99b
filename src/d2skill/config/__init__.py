"""Settings of a run: one frozen tree, read from TOML, every field a flag; the docstrings of fields are `--help`.

Defaults are the laptop run. The published settings are the presets in `presets/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from d2skill.config.bank import BankConfig, CreditConfig, RetrievalConfig
from d2skill.config.base import EndpointConfig, Settings
from d2skill.config.embedder import EmbedderConfig
from d2skill.config.environment import EnvConfig, HousesConfig, PromptConfig, SearchQAConfig, WebshopConfig
from d2skill.config.parts import PARTS, POLICY, folder_of
from d2skill.config.policy import (
    CausalLMConfig,
    OptimConfig,
    PolicyConfig,
    ScorerConfig,
    ServedConfig,
    WarmStartConfig,
    step_sizes,
)
from d2skill.config.reflect import ReflectConfig
from d2skill.config.training import AdvantageConfig, RewardConfig, RolloutConfig, TrainConfig, ValidationConfig
from d2skill.config.verl import VerlConfig

__all__ = [
    "AdvantageConfig",
    "BankConfig",
    "CausalLMConfig",
    "Config",
    "CreditConfig",
    "EmbedderConfig",
    "EndpointConfig",
    "EnvConfig",
    "HousesConfig",
    "OptimConfig",
    "PolicyConfig",
    "PromptConfig",
    "ReflectConfig",
    "RetrievalConfig",
    "RewardConfig",
    "RolloutConfig",
    "ScorerConfig",
    "SearchQAConfig",
    "ServedConfig",
    "Settings",
    "TrainConfig",
    "ValidationConfig",
    "VerlConfig",
    "WarmStartConfig",
    "WebshopConfig",
    "step_sizes",
]


def _names(given: Any) -> Any:
    """Returns names as a list, each once: a flag may have several in one word, with commas between."""
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        return given
    return list(dict.fromkeys(name.strip() for word in words for name in word.split(",") if name.strip()))


class Config(Settings):
    """Train a policy together with its skill bank.

    >>> from d2skill import Config
    >>> config = Config(seed=3, train={"iterations": 5})
    >>> config.train.iterations, config.rollout.group_size
    (5, 8)
    """

    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Seed of the run; the same seed on the same machine gives the same run"""
    out: Path | None = None
    """Run folder; without one, runs/ENV-DATE-TIME"""
    engine: Literal["local", "verl"] = "local"
    """local: this machine, by this package alone; verl: GPUs of one or more nodes, through verl (docs/cluster.md)"""
    processes: int | None = Field(None, ge=1, le=1024)
    """Processes that play, of the scorer; without a number one for each core, at most 8, and one for a short run. The
    results do not depend on it"""
    track: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    """Trackers that get the metrics, such as tensorboard,wandb: of tensorboard, wandb, mlflow, trackio and
    package.module:Class (docs/trackers.md)"""
    env: EnvConfig = EnvConfig()
    policy: PolicyConfig = PolicyConfig()
    train: TrainConfig = TrainConfig()
    rollout: RolloutConfig = RolloutConfig()
    prompt: PromptConfig = PromptConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    optim: OptimConfig = OptimConfig()
    reward: RewardConfig = RewardConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    bank: BankConfig = BankConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    credit: CreditConfig = CreditConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    reflect: ReflectConfig = ReflectConfig()
    validation: ValidationConfig = ValidationConfig()
    verl: VerlConfig = VerlConfig()

    @model_validator(mode="after")
    def _halves_fit(self) -> Config:
        if self.rollout.with_skills > self.rollout.group_size:
            raise ValueError(
                f"rollout.with_skills is {self.rollout.with_skills}, more than rollout.group_size "
                f"{self.rollout.group_size}: half the group is usual"
            )
        return self

    @model_validator(mode="after")
    def _trial_needs_worth(self) -> Config:
        asked = [name for name, on in (("bank.trial", self.bank.trial > 0), ("bank.retire", self.bank.retire)) if on]
        if not asked:
            return self
        if 0 < self.rollout.with_skills == self.rollout.group_size:
            raise ValueError(
                f"{asked[0]} judges skills by their gain over the baseline half, and rollout.with_skills "
                f"{self.rollout.with_skills} leaves none: turn {asked[0]} off, or lower rollout.with_skills"
            )
        if self.bank.worth == "none":
            raise ValueError(
                f"{asked[0]} judges skills by what they are worth, and with bank.worth none all are worth the same: "
                f"turn {asked[0]} off, or choose another bank.worth"
            )
        return self

    @property
    def following(self) -> set[str]:
        """Names of the settings that are what others make of them where none is given, as `resolved` does."""
        normalise = self.advantage.model_copy(update={"normalise": None}).chosen(self.bank.skills)
        names = {"advantage.normalise"} if self.advantage.normalise in (None, normalise) else set()
        if self.policy.kind in POLICY.built_in:
            adapter = self.policy.kind == "causal-lm" and self.policy.lm.lora_rank > 0
            unset = (one.model_copy(update={"learning_rate": None}) for one in (self.optim, self.warm_start))
            default = step_sizes(self.policy.kind, *unset, adapter=adapter)  # type: ignore[arg-type]
            given = {"optim": self.optim.learning_rate, "warm_start": self.warm_start.learning_rate}
            for (name, rate), chosen in zip(given.items(), default, strict=True):
                if rate in (None, chosen):
                    names.add(f"{name}.learning_rate")
        return names

    def resolved(self) -> Config:
        """Returns the settings as a run records them: step sizes chosen by the policy, paths absolute.

        With absolute paths, and the folders of the modules of one's own, the run can be resumed and evaluated from
        another folder.
        """
        adapter = self.policy.kind == "causal-lm" and self.policy.lm.lora_rank > 0
        training, imitation = self.optim.learning_rate, self.warm_start.learning_rate
        if self.policy.kind in POLICY.built_in:  # a policy of one's own has settings of its own
            training, imitation = step_sizes(self.policy.kind, self.optim, self.warm_start, adapter=adapter)
        chosen: dict[str, dict[str, Any]] = {
            "optim": {"learning_rate": training},
            "warm_start": {"learning_rate": imitation},
            "advantage": {"normalise": self.advantage.chosen(self.bank.skills)},
            "env": _absolute(data=self.env.data, tasks=self.env.tasks),
            "bank": _absolute(start=self.bank.start),
        }
        for part in PARTS:
            section = getattr(self, part.section)
            folder = folder_of(section.kind, section.folder and section.folder.absolute())
            chosen.setdefault(part.section, {})["folder"] = folder
        sections = {name: getattr(self, name).model_copy(update=update) for name, update in chosen.items()}
        return self.model_copy(update=sections)


def _absolute(**paths: Path | None) -> dict[str, Path]:
    return {name: path.absolute() for name, path in paths.items() if path is not None}
