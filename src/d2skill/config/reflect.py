"""Settings of reflection: kind of reflector, its model, its budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from d2skill.config.base import EndpointConfig, Settings
from d2skill.config.parts import REFLECTOR, Kind, Table, require_own_kind


class ReflectConfig(Settings):
    """Reflection on failures (Eq. 7)."""

    kind: Annotated[str, Kind(REFLECTOR)] = "contrast"
    """contrast: compares a failure with a success, needs no model; llm: asks a model (needs d2skill[llm]); policy: asks
    the policy itself, which has to be a language model; or package.module:Class"""
    settings: Table = Field({})
    """Settings of a reflector of your own; also one by one, as in --reflect.settings.most 3"""
    folder: Path | None = None
    """Folder that the module of your own reflector lies in, beside the current one; a run records it"""
    threshold: float = Field(0.5, ge=0, le=1)
    """τ_ref: groups whose skill half succeeds less often are reflected on"""
    max_groups: int = Field(10, ge=0, le=10**5)
    """R, groups reflected on in one iteration, at most, drawn at random from those that qualify"""
    guard_answers: bool = True
    """Let no skill hold an answer of a task that it comes from, where the environment tells its answers (search-qa)"""
    endpoint: EndpointConfig = EndpointConfig()
    prompt_tokens: int = Field(6000, ge=500, le=10**7)
    """Tokens of trajectories in a question to the model, about; longer trajectories lose their middle"""
    answer_tokens: int = Field(1000, ge=100, le=10**6)
    """Tokens of an answer, at most; a model that reasons first needs more"""
    max_calls: int | None = Field(None, ge=0, le=10**9)
    """Budget of a run in questions (llm); after any of the three budgets is used up, contrast reflects"""
    max_tokens: int | None = Field(None, ge=0, le=10**13)
    """Budget of a run in tokens, in and out (llm)"""
    max_cost: float | None = Field(None, ge=0, le=10**12)
    """Budget of a run in money (llm), in the currency of the prices"""
    price_in: float = Field(0, ge=0, le=10**9)
    """Price of a million tokens of questions"""
    price_out: float = Field(0, ge=0, le=10**9)
    """Price of a million tokens of answers"""

    @model_validator(mode="after")
    def _costs_are_known(self) -> ReflectConfig:
        if self.max_cost is not None and not self.price_in and not self.price_out:
            raise ValueError("reflect.max_cost needs reflect.price_in and price_out, the prices of a million tokens")
        require_own_kind(REFLECTOR, self.kind, self.settings)
        return self
