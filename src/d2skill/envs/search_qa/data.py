"""The data folder of search QA: question files, each a set, and the passages, corpus.jsonl."""

from __future__ import annotations

import os
from pathlib import Path

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.questions import QAQuestion, read_folder
from d2skill.errors import ConfigError

VARIABLE = "SEARCH_QA_DATA"
"""The environment variable with the data folder."""


def data_folder(data: Path | None) -> Path:
    """Returns the data folder of search QA, the environment variable's without one. Raises `ConfigError` for none."""
    folder = str(data) if data is not None else os.environ.get(VARIABLE, "")
    if not folder:
        raise ConfigError(f"search-qa needs its questions: name their folder with --data or ${VARIABLE}")
    return Path(folder).expanduser()


def read_sets(folder: Path, settings: SearchQAConfig) -> dict[str, list[QAQuestion]]:
    """Returns the questions of a data folder, by set. Raises `ConfigError` if none is of the sets to cut."""
    questions = read_folder(folder, corpus_file(folder, settings))
    if not any(name in questions for name in settings.sets):
        there = ", ".join(questions) or "no set at all"
        raise ConfigError(
            f"{folder} has no questions of {', '.join(settings.sets)}, but of {there}: "
            "name sets with --env.search-qa.sets, or another folder with --data"
        )
    return questions


def corpus_file(folder: Path, settings: SearchQAConfig) -> Path:
    """Returns the file of the passages, whether it is there or not."""
    return (settings.corpus or folder / "corpus.jsonl").expanduser()


def describe(data: Path | None, settings: SearchQAConfig) -> str:
    """Returns in words what there is to play. Raises `ConfigError` and `DataError` as an environment does."""
    folder = data_folder(data)
    counts = ", ".join(f"{name} {len(questions):,}" for name, questions in read_sets(folder, settings).items())
    if settings.retriever == "http":
        return f"{counts} in {folder}, passages at {settings.url}"
    if not (corpus := corpus_file(folder, settings)).is_file():
        raise ConfigError(f"{corpus} is missing, which has the passages: name another with --env.search-qa.corpus")
    return f"{counts} in {folder}, passages in {corpus}"
