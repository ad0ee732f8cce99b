"""The settings of the skill bank: what it keeps, retrieves and embeds, and who writes into it."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from d2skill.config.base import EndpointConfig, Settings


class CreditConfig(Settings):
    """Utilities (Eq. 3)."""

    beta_task: float = Field(0.5, gt=0, le=1)
    """β of task skills"""
    beta_step: float = Field(0.5, gt=0, le=1)
    """β of step skills"""


class BankConfig(Settings):
    """The skill bank."""

    def on_trial(self, with_skills: int) -> int:
        """Returns how many members of a skill half of this size are shown skills on trial as well."""
        return ceil(self.trial * with_skills)

    task_capacity: int = Field(300, ge=1)
    """Task skills kept, at most"""
    step_capacity: int = Field(300, ge=1)
    """Step skills kept, at most"""
    protect: int = Field(10, ge=0)
    """T_prot, iterations in which a new skill cannot be evicted"""
    duplicate: float = Field(0.95, gt=0, le=1)
    """A new skill is a near-duplicate, and not added, if key and text are at least this similar to one in the bank"""
    worth: Literal["utility", "posterior", "none"] = "utility"
    """What ranks and evicts: the utility of Eq. 3; the posterior mean of the signals, shrunk towards the pool's; or
    none, all are worth the same, so with retrieval.eta 0 similarity alone ranks and the oldest are evicted first"""
    retire: bool = False
    """Take out skills that are probably worse than nothing, by the 95 % interval of what they brought"""
    retire_after: float = Field(4, ge=1)
    """Iterations of evidence that this takes"""
    trial: float = Field(0, ge=0, le=1)
    """Share of the skill half that tries new skills before all get them; with 0 they are in the bank at once"""
    trial_after: float = Field(2, ge=1)
    """Iterations of evidence that end a trial, at least"""
    trial_iterations: int = Field(20, ge=1)
    """Iterations in which a skill on trial has to show its worth"""
    wait: float = Field(0, ge=0)
    """Seconds to wait for another process that writes the same journal; then, or with 0 at once, that is an error"""
    start: Path | None = None
    """Run folder or journal whose bank the run starts with; without one, an empty bank"""
    seen_tasks: bool = False
    """Start with it even if its evidence is from tasks of the validation panel, which flatters the skills"""
    probe: int = Field(8, ge=0)
    """Decisions an iteration that are weighed again without each skill, to see whether the policy heeds it"""


class RetrievalConfig(Settings):
    """Retrieval (Eq. 8)."""

    k_task: int = Field(3, ge=0)
    """Task skills shown, at most"""
    k_step: int = Field(3, ge=0)
    """Step skills shown, at most"""
    gate: float | None = Field(None, ge=-1, le=1)
    """τ_sim, least similarity; without one, the gates calibrated for the embedder"""
    candidates: int = Field(10, ge=1)
    """m, the most similar skills that are ranked"""
    alpha: float = Field(0.1, ge=0, le=1)
    """α, weight of similarity against utility"""
    eta: float = Field(0.05, ge=0)
    """η, weight of exploration"""


class EmbedderConfig(Settings):
    """Vectors for retrieval keys."""

    kind: Literal["hashed", "transformers", "openai"] = "hashed"
    """hashed: words and word pairs, needs nothing; transformers: an embedding model here; openai: one at a server"""
    dimension: int = Field(512, ge=16)
    """Length of a hashed vector; models have their own"""
    model: str = "Qwen/Qwen3-Embedding-0.6B"
    """Model id or folder (transformers)"""
    prompt: str | None = None
    """What a model gets before each text; without one, its own default, which most have none of"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights (transformers); vectors are float32 always"""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto, a GPU if there is one (transformers)"""
    batch_tokens: int | None = Field(None, ge=64)
    """Tokens in one forward pass (transformers), longer texts excepted; without one, 1024 on a CPU, 16384 on a GPU"""
    endpoint: EndpointConfig = EndpointConfig()
    batch_texts: int = Field(128, ge=1)
    """Texts in one request (openai), at most"""
    cache: str | None = None
    """Folder that keeps a model's vectors by text; without one, that of the user's caches; none turns it off"""
    cache_mb: int = Field(512, ge=1)
    """Megabytes of it for one model, at most; what was not used for longest goes first"""
    task_gate: float | None = Field(None, ge=-1, le=1)
    """τ_sim of task keys; without one, that known for the embedder (`d2skill calibrate` measures it)"""
    step_gate: float | None = Field(None, ge=-1, le=1)
    """τ_sim of step keys; without one, that known for the embedder"""


class ReflectConfig(Settings):
    """Reflection on failures (Eq. 7)."""

    kind: Literal["contrast", "llm", "policy"] = "contrast"
    """contrast: compares a failure with a success, needs no model; llm: asks a model (needs d2skill[llm]); policy: asks
    the policy itself, which has to be one that writes"""
    threshold: float = Field(0.5, ge=0, le=1)
    """τ_ref: groups whose skill half succeeds less often are reflected on"""
    max_groups: int = Field(10, ge=0)
    """R, groups reflected on in one iteration, at most, drawn at random from those that qualify"""
    endpoint: EndpointConfig = EndpointConfig()
    prompt_tokens: int = Field(6000, ge=500)
    """About how many tokens of trajectories llm shows the model; longer ones lose their middle"""
    answer_tokens: int = Field(1000, ge=100)
    """Tokens of an answer to llm, at most; a model that thinks first needs more"""
    max_calls: int | None = Field(None, ge=0)
    """Questions that llm may ask in a run; then, as after the next two, failures are left to contrast"""
    max_tokens: int | None = Field(None, ge=0)
    """Tokens, in and out, that llm may use in a run"""
    max_cost: float | None = Field(None, ge=0)
    """What llm may cost in a run, in the currency of the prices"""
    price_in: float = Field(0, ge=0)
    """Price of a million tokens of questions"""
    price_out: float = Field(0, ge=0)
    """Price of a million tokens of answers"""

    @model_validator(mode="after")
    def _costs_are_known(self) -> ReflectConfig:
        if self.max_cost is not None and not self.price_in and not self.price_out:
            raise ValueError("reflect.max_cost needs reflect.price_in and price_out, the prices of a million tokens")
        return self
