"""Search QA as an `Environment` (kind `search-qa`): a folder with questions and passages, a task for each question."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.data import data_folder, read_sets
from d2skill.envs.search_qa.expert import ScriptedAsker
from d2skill.envs.search_qa.free_asker import FreeAsker
from d2skill.envs.search_qa.questions import QAQuestion
from d2skill.envs.search_qa.reference import ReferenceSession
from d2skill.envs.search_qa.retrieval import make_retriever
from d2skill.envs.search_qa.session import Desk, SearchQASession
from d2skill.envs.search_qa.splits import PARTS, split_sets
from d2skill.errors import ConfigError, DataError
from d2skill.protocols import Expert, Session
from d2skill.types import Task

_LISTED = {name: getattr(SearchQAConfig(), name) for name in ("queries", "answers", "reference")}


class SearchQAEnvironment:
    """Questions over a corpus of passages; see `Environment`, `SupportsExpert` and `KnowsAnswers`.

    All sessions share one search, with a cache of what it found. Raises `ConfigError` when no data folder is named or
    it has none of the sets, `DataError` for files that are broken.
    """

    def __init__(self, data: Path | None, settings: SearchQAConfig) -> None:
        folder = data_folder(data)
        questions = read_sets(folder, settings)
        self._settings = settings
        self._splits: dict[str, list[QAQuestion]] = {}
        self._split_of: dict[str, str] = {}
        self._questions: dict[str, QAQuestion] = {}
        for one in chain(*questions.values()):
            if self._questions.setdefault(_id(one), one) is not one:
                raise DataError(f"{folder} has two questions {_id(one)}, of two sets: name a set without a slash")
        own = {name: questions.pop(name) for name in settings.sets if name in questions}
        parts = split_sets(own, chain(*questions.values()), settings.seed)
        for part in reversed(PARTS):
            self._splits[part] = list(chain(*parts[part].values()))
            self._splits |= {f"{part}-{name}": members for name, members in parts[part].items()}
            self._split_of |= {_id(question): part for question in self._splits[part]}
        for name, members in questions.items():
            if name in self._splits:
                raise DataError(f"{folder} has a set {name}, which is the name of a split: name its file otherwise")
            self._splits[name] = members
            self._split_of |= {_id(question): name for question in members}
        self._ids = {name: tuple(map(_id, members)) for name, members in self._splits.items()}
        self._lists = bool(settings.queries and settings.answers and not settings.reference)
        retriever = make_retriever(settings, folder)
        self._desk = Desk(retriever, settings)
        self._listing = Desk(retriever, settings.model_copy(update=_LISTED))  # for the expert

    def task_ids(self, split: str) -> Sequence[str]:
        """Returns the ids of a split's questions. Raises `ConfigError` for an unknown split.

        The splits are train, validation and test, each also for a set alone, as in test-nq, and each other set.
        """
        if split not in self._ids:
            raise ConfigError(f'there is no split "{split}": name one of {", ".join(self._ids)}')
        return self._ids[split]

    def start(self, task_id: str) -> Session:
        """Starts a fresh episode. Raises `ConfigError` for an id that names no question."""
        question = self._question(task_id)
        task = Task(task_id, question.text, self._split_of[task_id], question.set)
        kind = ReferenceSession if self._settings.reference else SearchQASession
        return kind(self._desk, question, task)

    def golden_answers(self, task_id: str) -> Sequence[str]:
        """Returns the answers of a question that are right, for a guard of skills and for tables; no session tells."""
        return self._question(task_id).answers

    def expert(self, task: Task, hints: Sequence[str], seed: int) -> Expert:
        """Returns a scripted player that searches with the question, trying first what the hints name."""
        asker = ScriptedAsker(hints, seed)
        return asker if self._lists else FreeAsker(self._listing.observe, task.text, asker)

    def questions(self, split: str) -> Sequence[QAQuestion]:
        """Returns the questions of a split, in the order of `task_ids`."""
        return [self._questions[task_id] for task_id in self.task_ids(split)]

    def _question(self, task_id: str) -> QAQuestion:
        if task_id not in self._questions:
            count, example = len(self._questions), next(iter(self._questions))
            raise ConfigError(
                f"there is no question {task_id} among {count:,}: name one of `task_ids`, such as {example}"
            )
        return self._questions[task_id]


def _id(question: QAQuestion) -> str:
    return f"{question.set}/{question.id}"
