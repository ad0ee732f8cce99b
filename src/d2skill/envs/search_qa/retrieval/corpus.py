"""Corpus: passages in a file of JSON lines that is mapped into memory, and read one at a time.

A line has `id` and `contents`, as Search-R1's files have them, or `id`, `title` and `text`. Where lines begin is kept
in the user's cache, by the content of the file, so that 21 million passages are opened at once and none of them is an
object in memory until it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.text_search import read_arrays, write_arrays
from d2skill.errors import ConfigError, DataError
from d2skill.utils.foreign_files import open_regular, parse_json, reason_of
from d2skill.utils.foreign_text import logger
from d2skill.utils.shared_cache import cache_folder, content_digest, open_or_make
from d2skill.utils.text import storable

VERSION = 1
"""Part of a cache's name: another way to read or to index passages makes another cache."""

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 24  # bytes that are looked through at once
_FIRST_WORD, _LATER_WORDS = 10.0, 30.0  # seconds after which long work is told
_FORM = 'a line is like {"id": "0", "contents": "\\"Title\\"\\nText"}'
_log = logger(__name__)


class Corpus:
    """The passages of a file, by their place in it. Threads and forked processes can share it."""

    def __init__(self, path: Path, content: mmap, starts: NDArray[np.int64], cache: Path) -> None:
        """Wraps a mapped file; see `open`.

        Args:
            path: The file, for errors.
            content: All of it.
            starts: Where each line begins, and at last the size of the file.
            cache: Folder for what is made of these passages, by the content of the file.
        """
        self.path = path
        self.cache = cache
        """Folder for what is made of these passages, by the content of the file."""
        self._content = content
        self._starts = starts.data

    @classmethod
    def open(cls, path: Path) -> Corpus:
        """Maps a file. Raises `ConfigError` for one that cannot be read, `DataError` for one that holds no passages."""
        root = cache_folder("search_qa")
        with suppress(OSError):  # `open_or_make` warns of it
            root.mkdir(parents=True, exist_ok=True)
        try:
            with open_regular(path) as file:
                head = file.read(2)
                content = mmap(file.fileno(), 0, access=ACCESS_READ) if head else None
            digest = content_digest(path, root / "digests.json")
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({reason_of(error)}): correct env.search_qa.corpus") from None
        if content is None:
            raise DataError(f"{path} holds no passages: it is empty")
        if head == _GZIP:
            raise DataError(f"{path} is packed: unpack it with gunzip, since passages are read from it one by one")
        cache = root / f"{VERSION}-{digest[:32]}"
        starts = open_or_make(
            cache / "lines", lambda folder: _read_starts(folder, len(content)), lambda f: _write_starts(f, content)
        )
        corpus = cls(path, content, starts, cache)
        corpus.passage(0)
        return corpus

    def __len__(self) -> int:
        """Returns the number of passages."""
        return len(self._starts) - 1

    def passage(self, row: int, score: float = 0.0) -> Passage:
        """Returns a passage by its place, with a score. Its id is the place if the line has none.

        Raises `DataError` for a line that is no passage.
        """
        line = self._content[self._starts[row] : self._starts[row + 1]]
        try:
            return passage_of(parse_json(line), str(row), score)
        except ValueError as error:
            raise DataError(f"passage {row + 1} of {self.path} is none ({reason_of(error)}): {_FORM}") from None

    def __iter__(self) -> Iterator[Passage]:
        """Yields all passages in their order."""
        return map(self.passage, range(len(self)))


def passage_of(record: Any, default_id: str = "", score: float = 0.0) -> Passage:
    """Returns the passage of a record with `contents`, or with `title` and `text`.

    Raises `ValueError`, with the reason, for anything else.
    """
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    contents, text, id = record.get("contents"), record.get("text"), record.get("id", default_id)
    if contents is None and isinstance(text, str):
        contents = f'"{record.get("title") or ""}"\n{text}'
    if not isinstance(contents, str):
        raise ValueError("it has no contents")
    if not isinstance(id, str | int):
        raise ValueError("its id is no text")
    return Passage(storable(str(id)), storable(contents), score)


class LongWork:
    """Tells how far long work is, now and then."""

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        """Begins work, `what` being the beginning of a sentence; of `total` steps some may be done before."""
        self._what, self._total = what, total
        self._before, self._begun = done, monotonic()
        self._next = self._begun + _FIRST_WORD

    def at(self, done: int) -> None:
        """Notes that so many steps are done."""
        now = monotonic()
        if now < self._next or done <= self._before:
            return
        self._next = now + _LATER_WORDS
        left = (self._total - done) * (now - self._begun) / (done - self._before)
        _log.warning(
            "%s: %s of %s passages, about %.1f min left", self._what, f"{done:,}", f"{self._total:,}", left / 60
        )


def _read_starts(folder: Path, size: int) -> NDArray[np.int64]:
    starts: NDArray[np.int64] = read_arrays(folder, ["starts"])["starts"]
    if len(starts) < 2 or starts[-1] != size:
        raise DataError(f"{folder} is of another file")
    return starts


def _write_starts(folder: Path, content: mmap) -> None:
    """Finds where the lines of a file begin, leaving out empty ones, and at last its size."""
    parts = [np.zeros(1, np.int64)]
    for start in range(0, len(content), _CHUNK):
        chunk = np.frombuffer(content[start : start + _CHUNK], np.uint8)
        parts.append(np.flatnonzero(chunk == ord("\n")) + (start + 1))
    bounds = np.concatenate([*parts, [len(content)]])
    sizes = np.diff(bounds)
    blank = np.zeros(len(sizes), bool)
    for row in np.flatnonzero(sizes <= 3).tolist():  # a passage is longer
        blank[row] = not content[bounds[row] : bounds[row + 1]].strip()
    starts = bounds[:-1][~blank]
    if not len(starts):
        raise DataError("the corpus holds no passages: it has empty lines alone")
    write_arrays(folder, {"starts": np.append(starts, len(content))})
