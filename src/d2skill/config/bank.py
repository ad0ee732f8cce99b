"""Settings of the skill bank: utilities, capacity, trials, retrieval."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from d2skill.config.base import Settings, ShortFlag
from d2skill.types import Granularity


class CreditConfig(Settings):
    """Utilities (Eq. 3)."""

    step: Literal["success", "act"] | None = None
    """Signal of a step skill: success, of the whole trajectory (the paper); or act, that what it says became possible
    while it was shown; each less what the baseline half achieved. Without one, act for consolidated skills"""
    beta_task: float = Field(0.5, gt=0, le=1)
    """β of task skills"""
    beta_step: float = Field(0.5, gt=0, le=1)
    """β of step skills"""


class BankConfig(Settings):
    """The skill bank."""

    def on_trial(self, with_skills: int) -> int:
        """Returns how many members of a skill half of this size are shown skills on trial as well."""
        return ceil(self.trial * with_skills)

    def capacity(self, granularity: Granularity) -> int:
        """Returns the most active skills of a granularity: what is set, or else 300, and 10,000 consolidated ones."""
        chosen = self.task_capacity if granularity == "task" else self.step_capacity
        return chosen or (300 if self.skills == "paper" else 10_000)

    skills: Annotated[Literal["consolidated", "paper"], ShortFlag("--skills")] = "consolidated"
    """consolidated: knowledge that is counted over all trajectories, read as a procedure, and shown until it is done or
    refuted; paper: notes on single failures, retrieved anew at each step, as published"""
    task_capacity: int | None = Field(None, ge=1, le=10**7)
    """Task skills kept, at most; without a number 300, and 10,000 consolidated ones"""
    step_capacity: int | None = Field(None, ge=1, le=10**7)
    """Step skills kept, at most; without a number 300, and 10,000 consolidated ones"""
    protect: int = Field(10, ge=0, le=10**6)
    """T_prot, iterations in which a new skill cannot be evicted"""
    duplicate: float = Field(0.95, gt=0, le=1)
    """A new skill is a near-duplicate, and not added, if key and text are at least this similar to one in the bank"""
    worth: Literal["utility", "posterior", "none"] = "utility"
    """Value that ranks and evicts skills: utility (Eq. 3); posterior, the mean of all signals, shrunk to the pool's;
    or none, the same for all, so with retrieval.eta 0 similarity alone ranks and the oldest are evicted first"""
    retire: bool = False
    """Take out skills that are probably worse than nothing: the 95 % interval of their worth lies below 0"""
    retire_after: float = Field(4, ge=1, le=10**6)
    """Iterations with signals (effective sample size) that retiring a skill needs"""
    trial: float = Field(0, ge=0, le=1)
    """Share of the skill half that is shown new skills first, on trial; with 0 new skills are active at once"""
    trial_after: float = Field(2, ge=1, le=10**6)
    """Iterations with signals (effective sample size) that a trial needs before it can end"""
    trial_iterations: int = Field(20, ge=1, le=10**6)
    """Iterations after which a trial ends in any case"""
    suspicion: Literal["off", "flag", "hold"] = "flag"
    """A new skill, or one of bank.start, that reads like an instruction to the model: flag it in display and summary,
    hold it until `d2skill bank admit`, or off; `d2skill bank list` flags it in any case. A prompt quotes it like any
    other; `d2skill bank import` holds by default"""
    wait: float = Field(0, ge=0, le=604_800)
    """Seconds to wait while another process writes the same journal; after that it is an error"""
    start: Path | None = None
    """Run folder or journal whose bank the run starts with; without one, an empty bank"""
    seen_tasks: bool = False
    """Start with bank.start even if its skills come from tasks of the validation panel, which flatters them"""
    probe: int = Field(8, ge=0, le=10**5)
    """Decisions per iteration that are scored again without each of their skills, to see if the policy heeds it"""


class RetrievalConfig(Settings):
    """Retrieval (Eq. 8)."""

    k_task: int = Field(3, ge=0, le=1000)
    """Task skills shown, at most"""
    k_step: int = Field(3, ge=0, le=1000)
    """Step skills shown, at most"""
    gate: float | None = Field(None, ge=-1, le=1)
    """Similarity gate τ_sim: least cosine at which a skill is retrieved; without one, the embedder's own gates"""
    candidates: int = Field(10, ge=1, le=10**5)
    """m, the most similar skills that are ranked"""
    alpha: float = Field(0.1, ge=0, le=1)
    """α, weight of similarity against utility"""
    eta: float = Field(0.05, ge=0, le=1000)
    """η, weight of exploration"""
    distinct: bool = True
    """The same text is not shown twice, though skills of several keys have it; the paper does not say"""
    index: Literal["exact", "ann"] = "exact"
    """exact: a query is compared with all keys; ann: from 100,000 skills on, with those that a graph finds (needs
    d2skill[ann]; `d2skill bank verify` says how many it finds)"""
