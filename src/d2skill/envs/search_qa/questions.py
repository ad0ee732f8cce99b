"""Questions with their golden answers, from FlashRAG's JSON lines or Search-R1's parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from d2skill.errors import ConfigError, DataError
from d2skill.utils.foreign_files import explained, parse_json, read_bytes, reason_of
from d2skill.utils.text import short, storable

SUFFIXES = (".jsonl", ".parquet")
"""Ends of the names of question files"""

_WAY_OUT = "mend the file, or keep it out of the data folder"


@dataclass(frozen=True, slots=True)
class QAQuestion:
    """A question of a set: its id there, its text and its golden answers, each of which is right."""

    id: str
    text: str
    answers: tuple[str, ...]
    set: str


def read_questions(path: Path, set: str) -> list[QAQuestion]:
    """Returns the questions of a file, which belong to a set, or each to the one that its `data_source` names.

    A line is an object with question and golden_answers, a list or a text; Search-R1's `reward_model` does in place of
    golden_answers. Without an id, a question has the number of its line. Raises `DataError` for a file or a line that
    is broken, and `ConfigError` for a parquet file where pyarrow is not installed.
    """
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    questions = [_question(row, place, number, set) for number, place, row in rows]
    if not questions:
        raise DataError(f"{path} has no questions: {_WAY_OUT}")
    return questions


def _json_rows(path: Path) -> Iterator[tuple[int, str, object]]:
    with explained(path, DataError, _WAY_OUT):
        lines = read_bytes(path).split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            yield number, place, parse_json(line)
        except ValueError as error:
            raise DataError(f"{place} is no JSON ({reason_of(error)}): {_WAY_OUT}") from None


def _parquet_rows(path: Path) -> Iterator[tuple[int, str, object]]:
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigError(f"{path} is read by pyarrow, which is not installed: pip install pyarrow") from None
    wanted = ("id", "question", "golden_answers", "data_source", "reward_model")
    with explained(path, DataError, _WAY_OUT):
        file = parquet.ParquetFile(BytesIO(read_bytes(path)))
        table = file.read(columns=[name for name in file.schema_arrow.names if name in wanted])
        rows = table.to_pylist()
    yield from ((number, f"{path}, row {number}", row) for number, row in enumerate(rows, 1))


def _question(row: object, place: str, number: int, set: str) -> QAQuestion:
    if not isinstance(row, Mapping):
        raise DataError(f"{place} is {short(row)}, no object with question and golden_answers: {_WAY_OUT}")
    text, source, own_id = row.get("question"), row.get("data_source"), row.get("id")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place} has the question {short(text)}, not a text: {_WAY_OUT}")
    given = row.get("golden_answers")
    if given is None:
        given = _within(row, "reward_model", "ground_truth", "target")
    answers = [given] if isinstance(given, str) else given
    if not isinstance(answers, list) or not answers or not all(isinstance(one, str) and one for one in answers):
        raise DataError(f"{place} has the golden_answers {short(given)}, not a list of texts: {_WAY_OUT}")
    if own_id is not None and (isinstance(own_id, bool) or not isinstance(own_id, (str, int)) or own_id == ""):
        raise DataError(f"{place} has the id {short(own_id)}, not a text: {_WAY_OUT}")
    if source is not None and (not isinstance(source, str) or not source.strip()):
        raise DataError(f"{place} has the data_source {short(source)}, not the name of a set: {_WAY_OUT}")
    name = str(number if own_id is None else own_id)
    return QAQuestion(storable(name), storable(text), tuple(map(storable, answers)), storable(source or set))


def _within(value: object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def read_folder(folder: Path, corpus: Path) -> dict[str, list[QAQuestion]]:
    """Returns the questions of all question files in a folder, by set; the file of the passages is none of them.

    A set may be in several files. Raises `DataError` if an id comes twice in a set, `ConfigError` if there is no such
    folder, and both as `read_questions`.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: name the one with the questions, such as nq.jsonl, with --data")
    sets: dict[str, dict[str, QAQuestion]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith(".jsonl.gz") and not path.with_suffix("").exists():
            raise ConfigError(f"{path} is packed, and files here are read unpacked: run gunzip {path.name} there")
        if path.suffix in SUFFIXES and not path.name.startswith(".") and path.resolve() != corpus.resolve():
            for question in read_questions(path, path.stem):
                known = sets.setdefault(question.set, {})
                if question.id in known:
                    raise DataError(f"{path} has the id {question.id} of {question.set} once more: {_WAY_OUT}")
                known[question.id] = question
    return {name: list(questions.values()) for name, questions in sets.items()}
