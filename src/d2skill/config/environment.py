"""Settings of environments and prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from d2skill.config.base import Settings, ShortFlag
from d2skill.config.embedder import EmbedderConfig
from d2skill.config.parts import ENVIRONMENT, Table, require_own_kind

_MOST_GAMES = 10**6


class HousesConfig(Settings):
    """Generated houses (env.kind houses)."""

    floor_plans: int = Field(12, ge=1, le=10**4)
    """Floor plans that training sees; as many others are kept for the split valid_unseen"""
    games_per_plan: int = Field(40, ge=1, le=10**4)
    """Training games in each floor plan"""
    receptacles: int = Field(24, ge=8, le=40)
    """Receptacles in a room, at most; with alfworld_rooms their mean"""
    distractors: int = Field(14, ge=0, le=60)
    """Objects in a room beside those of the target's type; with alfworld_rooms their mean"""
    spare_targets: int = Field(0, ge=0, le=3)
    """Objects of the target's type beyond what the task needs, at most (0 to 3 in ALFWorld; mean 1)"""
    habit: float = Field(0.64, ge=0, le=1)
    """Probability that an object lies in its home, one place in each floor plan (0.64 in ALFWorld's scenes)"""
    second_habit: float = Field(0.29, ge=0, le=1)
    """Probability that it lies in one of two other usual places (0.29 in ALFWorld); else it lies anywhere"""
    alfworld_rooms: bool = False
    """Size and fill rooms as in ALFWorld: kitchens are largest, some cabinets stand open; else all rooms are alike"""
    alfworld_homes: bool = False
    """Put objects where ALFWorld has them, mostly in the open; otherwise mostly in closed receptacles"""
    alfworld_errands: bool = False
    """Draw task types as often as in ALFWorld; objects to clean, heat or cool may then start at their destination"""
    shared_spots: float = Field(0, ge=0, le=0.5)
    """Share of receptacles that are reached together with another (0.19 in ALFWorld)"""
    seed: int = Field(0, ge=-(2**63), le=2**63 - 1)
    """Seed of the houses themselves, apart from the seed of the run"""

    @model_validator(mode="after")
    def _habits_fit(self) -> HousesConfig:
        if self.habit + self.second_habit > 1:
            raise ValueError(
                f"env.houses.habit {self.habit} and second_habit {self.second_habit} add up to more than 1: lower one"
            )
        if self.floor_plans * self.games_per_plan > _MOST_GAMES:
            raise ValueError(
                f"env.houses.floor_plans {self.floor_plans} and games_per_plan {self.games_per_plan} make more than "
                f"{_MOST_GAMES:,} games: lower one"
            )
        return self


class WebshopConfig(Settings):
    """WebShop (env.kind webshop)."""

    goals: Literal["synthetic", "human"] = "synthetic"
    """Instructions made from products' attributes and options, or written by people"""
    queries: int = Field(4, ge=0, le=100)
    """Searches made from the instruction, listed as actions for a policy that chooses; a policy that answers freely can
    search for anything"""
    rich: bool = False
    """Pages in the original's text_rich form, in lines with marked buttons, else in its text form"""
    split_by: Literal["goal", "product"] = "goal"
    """Cut train, validation and test by goal, so that they share products, or by product, so that they share none"""
    seed: int = Field(0, ge=-(2**63), le=2**63 - 1)
    """Seed of prices, price limits and splits, apart from the seed of the run; 0 gives the original's goals"""


class SearchQAConfig(Settings):
    """Search-augmented question answering (env.kind search-qa)."""

    turns: int = Field(4, ge=1, le=1000)
    """Searches and answers of an episode, at most; the last has to be an answer"""
    passages: int = Field(3, ge=1, le=1000)
    """Passages that a search shows"""
    shape: Annotated[Literal["search-r1", "verl-agent"], ShortFlag("--env.shape")] = "search-r1"
    """Form of what a search shows: as Search-R1 has it, or as verl-agent has it, a JSON string"""
    reference: Annotated[bool, ShortFlag("--env.reference")] = False
    """Play as the reference does, with its faults, for comparison; each answer of the policy is taken whole"""
    sets: tuple[str, ...] = ("nq", "triviaqa", "popqa")
    """Sets of questions, files of the data folder, that are cut into train, validation and test; others there are
    panels of their own"""
    queries: int = Field(6, ge=0, le=1000)
    """Searches made from the question and what was found, listed as actions for a policy that chooses; 0 lists none, as
    for a policy that answers freely, which can search for anything"""
    answers: int = Field(40, ge=0, le=10_000)
    """Answers taken from the passages, listed as actions for a policy that chooses; 0 lists none"""
    retriever: Literal["bm25", "dense", "http"] = "bm25"
    """Search: bm25, exact as Lucene's; dense, vectors of env.search_qa.embedder; http, a server as Search-R1 has it"""
    corpus: Path | None = None
    """Passages as JSON lines with id and contents; without it, corpus.jsonl of the data folder"""
    url: str | None = None
    """Address of the server (http), such as http://127.0.0.1:8000/retrieve"""
    timeout: float = Field(30, gt=0, le=86_400)
    """Seconds that a request may take, with its retries (http)"""
    embedder: EmbedderConfig = EmbedderConfig()
    seed: int = Field(0, ge=-(2**63), le=2**63 - 1)
    """Seed of the splits, apart from the seed of the run"""


class EnvConfig(Settings):
    """The environment that the agent acts in."""

    kind: Annotated[str, ShortFlag("--env")] = "houses"
    """houses, alfworld, webshop, search-qa, package.module:Class, or gymnasium:package.module:Class"""
    data: Annotated[Path | None, ShortFlag("--data")] = None
    """Folder with the data of the environment; alfworld also looks at $ALFWORLD_DATA, webshop at $WEBSHOP_DATA,
    search-qa at $SEARCH_QA_DATA"""
    args: Table = Field({})
    """Arguments of an environment of your own, or its settings; also one by one, as in --env.args.size 3"""
    folder: Path | None = None
    """Folder that the module of your own environment lies in, beside the current one; a run records it"""
    max_steps: int = Field(20, ge=1, le=10**5)
    """Steps after which an episode ends without success"""
    train_split: str = "train"
    """Split to train on"""
    validation_split: str = "valid_seen"
    """Split of the fixed validation panel"""
    tasks: Path | None = None
    """The tasks.json of another run, to take its tasks by id; without it the panel is drawn, training has the rest"""
    skip_broken: Annotated[bool, ShortFlag("--skip-broken")] = False
    """Leave out tasks whose files are broken; without it a run with such tasks names them and does not begin"""
    houses: HousesConfig = HousesConfig()
    webshop: WebshopConfig = WebshopConfig()
    search_qa: SearchQAConfig = SearchQAConfig()

    @model_validator(mode="after")
    def _args_are_used(self) -> EnvConfig:
        require_own_kind(ENVIRONMENT, self.kind, self.args)
        return self


class PromptConfig(Settings):
    """Content of a prompt."""

    history: int = Field(20, ge=0, le=10**5)
    """L, the number of past (observation, action) pairs in the prompt"""
    max_tokens: int = Field(4096, ge=64, le=10**7)
    """Token budget; over it the oldest history goes first, then the lowest-ranked skills"""
    until_done: bool = True
    """Show a consolidated step skill until it is done or refuted, and then the next alternative; if false, only once"""
