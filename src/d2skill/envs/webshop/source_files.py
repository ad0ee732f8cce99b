"""The files that the original WebShop downloads: which they are, how they are read, how their content is told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from d2skill.errors import ConfigError, DataError
from d2skill.utils.atomic_files import write_text

Size = Literal["small", "full"]

ORIGIN = "https://github.com/princeton-nlp/WebShop"
_NAMES: dict[Size, tuple[str, str, str]] = {
    "small": ("items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json"),
    "full": ("items_shuffle.json", "items_ins_v2.json", "items_human_ins.json"),
}
_FLAG: dict[Size, str] = {"small": "small", "full": "all"}
_CHUNK = 1 << 22
_REMEMBERED = 1 << 26


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of one data set: products, attributes with synthetic instructions, instructions by people."""

    products: Path
    attributes: Path
    people: Path

    @classmethod
    def find(cls, folder: Path, size: Size | None = None) -> Sources:
        """Returns the files in a folder, without a `size` the small set if it is there, else the full one.

        Raises `ConfigError` that names what is missing and where it is from.
        """
        folder = folder.expanduser()
        tried: list[Size] = [size] if size else ["small", "full"]
        lacking = {one: [name for name in _NAMES[one] if not (folder / name).is_file()] for one in tried}
        chosen = min(tried, key=lambda one: len(lacking[one]))
        if missing := lacking[chosen]:
            raise ConfigError(
                f"{folder} lacks {' and '.join(missing)} of WebShop: download it with `./setup.sh -d {_FLAG[chosen]}` "
                f"of {ORIGIN}"
            )
        return cls(*(folder / name for name in _NAMES[chosen]))

    def digest(self, memory: Path | None) -> str:
        """Returns what tells this content from any other.

        Reading gigabytes takes long, so `memory`, a file, keeps the digests of large files with their size and time.
        """
        return _digest([self.products, self.attributes, self.people], memory)


def stream(path: Path) -> Iterator[Any]:
    """Yields the values of a JSON array one by one, so that a file larger than memory can be read.

    Raises `DataError` for a file that is none.
    """
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8") as file:
        text = file.read(_CHUNK).lstrip().removeprefix("\ufeff")
        if not text.startswith("["):
            raise DataError(f"{path} is no list of products: download it again from {ORIGIN}")
        at = 1
        while True:
            start = _next(text, at)
            if text[start : start + 1] == "]":
                return
            try:
                value, at = decode(text, start)
            except ValueError:
                more = file.read(max(_CHUNK, len(text) - start))
                if not more:
                    raise DataError(f"{path} is cut off or broken: download it again from {ORIGIN}") from None
                text, at = text[start:] + more, 0
            else:
                yield value


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds; raises `DataError` for any other file."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f"{path} is no JSON object: download it again from {ORIGIN}")
    return value


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,":
        at += 1
    return at


def _digest(paths: list[Path], memory: Path | None) -> str:
    known = _remembered(memory)
    whole = hashlib.sha256()
    for path in paths:
        state = path.stat()
        stamp = [str(path.resolve()), state.st_size, state.st_mtime_ns]
        digest = next((entry[3] for entry in known if entry[:3] == stamp), None)
        if digest is None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if memory is not None and state.st_size >= _REMEMBERED:
                known = [entry for entry in known if entry[0] != stamp[0]] + [[*stamp, digest]]
                try:
                    write_text(memory, json.dumps(known))
                except OSError:
                    memory = None
        whole.update(digest.encode())
    return whole.hexdigest()


def _remembered(memory: Path | None) -> list[list[Any]]:
    try:
        known = json.loads(memory.read_bytes()) if memory is not None else []
    except (OSError, ValueError):
        return []
    return [entry for entry in known if isinstance(entry, list) and len(entry) == 4] if isinstance(known, list) else []
