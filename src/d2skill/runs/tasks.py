"""The tasks of a run, for training and validation, by id, so that another run can take the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from d2skill.config import Config
from d2skill.errors import ConfigError, DataError
from d2skill.protocols import Environment, FindsBrokenTasks
from d2skill.utils.arguments import items_of
from d2skill.utils.atomic_files import read_json
from d2skill.utils.rng import derive, generator
from d2skill.utils.text import counted, short


class TaskSet(BaseModel):
    """Tasks of one split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    task_ids: Annotated[tuple[str, ...], Field(min_length=1)]


class RunTasks(BaseModel):
    """The tasks of a run: those to train on and the validation panel, which have none in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TaskSet
    validation: TaskSet

    @classmethod
    def read(cls, path: Path) -> RunTasks:
        """Reads a tasks.json. Raises `RunError` for a missing file, `ConfigError` for one of another kind."""
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise ConfigError(
                f"{path} lists no tasks ({where}: {first['msg']}): it should look like tasks.json of a run"
            ) from None

    @classmethod
    def choose(cls, environment: Environment, config: Config) -> RunTasks:
        """Returns the tasks of a new run: what env.tasks lists, or the drawn panel and all else of the split.

        Raises `ConfigError` when a listed task does not exist, when a task is in both lists, and when none are left;
        `DataError` that names all broken tasks, unless env.skip_broken leaves them out.
        """
        if config.env.tasks is not None:
            chosen = cls.read(config.env.tasks)
            chosen._verify(environment, config.env.tasks)
        else:
            split, panel_split = config.env.train_split, config.env.validation_split
            panel = select_panel(environment, panel_split, config.validation.tasks)
            chosen = cls(
                training=TaskSet(split=split, task_ids=tuple(_others(environment, split, panel))),
                validation=TaskSet(split=panel_split, task_ids=tuple(panel)),
            )
        if not isinstance(environment, FindsBrokenTasks):
            return chosen
        broken = environment.broken_tasks((*chosen.validation.task_ids, *chosen.training.task_ids))
        if broken and not config.env.skip_broken:
            raise DataError(
                f"{counted(len(broken), 'task')} cannot be played: {'; '.join(broken.values())}. Mend or remove "
                f"{'it' if len(broken) == 1 else 'them'}, or leave out what is broken by --skip-broken"
            )
        return chosen._without(broken)

    def record(self) -> dict[str, Any]:
        """Returns the content of tasks.json."""
        return self.model_dump(mode="json")

    def _without(self, broken: Collection[str]) -> RunTasks:
        """Returns the lists without some tasks. Raises `DataError` when nothing is left of one."""
        if not broken:
            return self
        parts = {"training": self.training, "validation": self.validation}
        left = {name: [id for id in part.task_ids if id not in broken] for name, part in parts.items()}
        if empty := [name for name, ids in left.items() if not ids]:
            raise DataError(f"every task for {empty[0]} is broken: name another folder with --data")
        kept = {name: TaskSet(split=part.split, task_ids=tuple(left[name])) for name, part in parts.items()}
        return RunTasks(**kept)

    def _verify(self, environment: Environment, path: Path) -> None:
        for part in (self.training, self.validation):
            known = set(environment.task_ids(part.split))
            unknown = [task_id for task_id in part.task_ids if task_id not in known]
            if unknown:
                raise ConfigError(
                    f'{path} lists {len(unknown)} tasks that split "{part.split}" does not have, first {unknown[0]}: '
                    "is it a list for another environment or other data?"
                )
        both = set(self.training.task_ids) & set(self.validation.task_ids)
        if both:
            raise ConfigError(f"{path} lists {min(both)} for training and for validation: take it out of one")


def select_panel(environment: Environment, split: str, tasks: int) -> list[str]:
    """Returns the ids of a panel: the same for every run and seed, drawn from the split by a hash of the ids.

    A split that has fewer tasks is taken whole. Raises `ConfigError` for an empty split.
    """
    ids = _ids_of(environment, split)
    if not ids:
        raise ConfigError(f'split "{split}" has no tasks: choose another with --env.validation-split')
    return sorted(sorted(ids, key=lambda task_id: derive("panel", task_id))[:tasks])


def _ids_of(environment: Environment, split: str) -> list[str]:
    """Returns the ids of a split's tasks. Raises `ConfigError` for one that is no text."""
    named = f"task_ids({split!r}) of {type(environment).__name__}"
    ids: list[str] = items_of(environment.task_ids(split), f"a list of ids, which {named} has to return")
    if strange := [task_id for task_id in ids if not isinstance(task_id, str)]:
        raise ConfigError(f"{named} returns {short(strange[0])} among the ids: ids are texts, such as '{split}/7'")
    return ids


def sample_tasks(ids: Sequence[str], count: int, seed: int) -> list[str]:
    """Returns different tasks drawn at random, in the order of drawing; all of them when there are fewer."""
    drawn = generator(seed, "tasks").choice(len(ids), min(count, len(ids)), replace=False)
    return [ids[i] for i in drawn]


def _others(environment: Environment, split: str, panel: Sequence[str]) -> list[str]:
    """Returns the tasks of the split that the panel leaves. Raises `ConfigError` when there are none."""
    held_out = set(panel)
    ids = [task_id for task_id in _ids_of(environment, split) if task_id not in held_out]
    if not ids:
        raise ConfigError(
            f'split "{split}" has no tasks to train on beside the validation panel: choose another with '
            "--env.train-split, or a smaller panel with --validation.tasks"
        )
    return ids
