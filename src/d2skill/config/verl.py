"""The settings of training through verl, on one node with many GPUs or on several."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from d2skill.config.base import Settings

if TYPE_CHECKING:
    from d2skill.config import Config

PROMPT_MARGIN = 512
"""Tokens of a prompt that `prompt.max_tokens` does not count: instructions, headings, line ends, the chat template."""


class VerlConfig(Settings):
    """Training through verl (engine verl; needs d2skill[verl] in an environment of its own, docs/cluster.md)."""

    nodes: int = Field(1, ge=1, le=10**4)
    """Nodes of the Ray cluster to train on"""
    gpus: int = Field(8, ge=1, le=1024)
    """GPUs of each node"""
    address: str | None = None
    """Ray cluster to join, auto or HOST:PORT; without one, Ray is started here"""
    strategy: Literal["fsdp2", "fsdp", "megatron"] = "fsdp2"
    """Sharding of the model in an update"""
    offload: bool = False
    """Keep weights and optimiser in host memory while they are not used"""
    rollout: str = "vllm"
    """Server of the answers: vllm, sglang, or a name that a plug-in of verl registers"""
    tensor_parallel: int = Field(1, ge=1, le=1024)
    """GPUs that share a copy of the model when they answer"""
    gpu_memory: float = Field(0.6, gt=0, lt=1)
    """Share of a GPU's memory that answering may take"""
    workers: int = Field(8, ge=1, le=10**4)
    """Processes that play episodes"""
    options: tuple[str, ...] = ()
    """Further settings of verl as on its command line, such as trainer.logger=[console,wandb]; they go over ours"""

    @field_validator("options")
    @classmethod
    def _no_code_of_models(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            off = re.fullmatch(r"[^=]*trust_remote_code=['\"]?(false|null)['\"]?", option, re.IGNORECASE)
            if "trust_remote_code" in option and not off:
                raise ValueError("verl.options has trust_remote_code, but no code of a model is run here: leave it out")
        return options

    @property
    def total_gpus(self) -> int:
        """GPUs of all nodes together."""
        return self.nodes * self.gpus

    def actor_option(self, name: str) -> str:
        """Returns the value that `options` give last to a setting below actor_rollout_ref.actor, "" without one."""
        pairs = (option.lstrip("+").partition("=") for option in self.options)
        return {key: value.strip("'\"") for key, _, value in pairs}.get(f"actor_rollout_ref.actor.{name}", "")


def row_tokens(config: Config) -> tuple[int, int]:
    """Returns how many tokens a prompt and an answer may have in verl; a longer prompt loses its beginning."""
    return config.prompt.max_tokens + PROMPT_MARGIN, config.policy.lm.max_new_tokens
