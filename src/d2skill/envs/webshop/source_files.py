"""Source files of a WebShop data set, as the original downloads them: finds, reads and digests them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from d2skill.errors import ConfigError, DataError
from d2skill.utils.foreign_files import read_json
from d2skill.utils.shared_cache import content_digest

Size = Literal["small", "full"]

ORIGIN = "https://github.com/princeton-nlp/WebShop"
_NAMES: dict[Size, tuple[str, str, str]] = {
    "small": ("items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json"),
    "full": ("items_shuffle.json", "items_ins_v2.json", "items_human_ins.json"),
}
_SETUP_FLAGS: dict[Size, str] = {"small": "small", "full": "all"}
_CHUNK = 1 << 22  # characters that are read at once
_LARGEST = 1 << 32  # bytes of a file that is read whole: the full set's has 0.3 GB
_SEPARATORS = re.compile(r"[ \t\r\n,]*")


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """Paths of one data set: products, attributes with synthetic instructions, instructions by people."""

    products: Path
    attributes: Path
    people: Path

    @classmethod
    def find(cls, folder: Path, size: Size | None = None) -> SourceFiles:
        """Returns the files in a folder; without a `size` the small set if it is there, else the full one.

        Raises `ConfigError` with the names of missing files and the way to download them.
        """
        folder = folder.expanduser()
        sizes: list[Size] = [size] if size else ["small", "full"]
        missing = {each: [name for name in _NAMES[each] if not (folder / name).is_file()] for each in sizes}
        chosen = min(sizes, key=lambda each: len(missing[each]))
        if missing[chosen]:
            raise ConfigError(
                f"{folder} lacks {' and '.join(missing[chosen])} of WebShop: download it with "
                f"`./setup.sh -d {_SETUP_FLAGS[chosen]}` of {ORIGIN}"
            )
        return cls(*(folder / name for name in _NAMES[chosen]))

    def digest(self, memory: Path) -> str:
        """Returns a digest of the content of all files.

        Those of large files are remembered in `memory`, a JSON file.
        """
        combined = hashlib.sha256()
        for path in (self.products, self.attributes, self.people):
            combined.update(content_digest(path, memory).encode())
        return combined.hexdigest()


def stream_array(path: Path) -> Iterator[Any]:
    """Yields the values of a JSON array one by one, so that a file larger than memory can be read.

    Raises `DataError` for a file that holds no array.
    """
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8") as file:
        text = file.read(_CHUNK).lstrip().removeprefix("\ufeff")
        if not text.startswith("["):
            raise DataError(f"{path} is no list of products: download it again from {ORIGIN}")
        end = 1
        while True:
            separators = _SEPARATORS.match(text, end)
            start = separators.end() if separators else end
            if text[start : start + 1] == "]":
                return
            try:
                value, end = decode(text, start)
            except ValueError:
                more = file.read(max(_CHUNK, len(text) - start))
                if not more:
                    raise DataError(f"{path} is cut off or broken: download it again from {ORIGIN}") from None
                text, end = text[start:] + more, 0
            else:
                yield value


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object of a JSON file; raises `DataError` for any other file."""
    try:
        value = read_json(path, _LARGEST)
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f"{path} is no JSON object: download it again from {ORIGIN}")
    return value
