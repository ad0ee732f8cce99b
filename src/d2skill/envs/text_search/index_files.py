"""Files of an index: a folder with a file for each array, mapped rather than read, and a table of contents.

Strings are kept as two arrays as well: their UTF-8 bytes on end, and where each ends.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2skill.errors import DataError
from d2skill.utils.atomic_files import write_folder, write_json
from d2skill.utils.foreign_files import read_json
from d2skill.utils.shared_cache import checksum_of_ends

FORMAT = 1
"""Version of the format; it changes with the meaning of the arrays."""

_CONTENTS = "search_index.json"
_WIDEST = 64  # bytes of strings that are sorted as a table


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays to a folder, which appears, or is replaced, when it is complete."""

    def fill(temporary: Path) -> None:
        for name, values in arrays.items():
            np.save(temporary / f"{name}.npy", values, allow_pickle=False)
        checksums = {name: checksum_of_ends(temporary / f"{name}.npy") for name in arrays}
        write_json(temporary / _CONTENTS, {"format": FORMAT, "arrays": checksums})

    write_folder(folder, fill)


def read_arrays(folder: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Maps the named arrays of a folder; raises `DataError` if one is missing, damaged or of another format.

    Sizes are compared, and checksums of both ends of each file, which is all of a small one.
    """
    try:
        contents = read_json(folder / _CONTENTS)
        version = contents["format"]
        checksums = {name: contents["arrays"][name] for name in names} if version == FORMAT else {}
    except FileNotFoundError:
        raise DataError(f"{folder} is no search index ({_CONTENTS} is missing): build it") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder / _CONTENTS} is damaged: build the search index again") from None
    if version != FORMAT:
        raise DataError(f"{folder} is a search index of format {version}, not {FORMAT}: build it again")
    return {name: _map(folder / f"{name}.npy", checksum) for name, checksum in checksums.items()}


def encode_strings(strings: Iterable[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns bytes and ends: string i is `bytes[ends[i] : ends[i + 1]]`."""
    content, ends = bytearray(), array("q", [0])
    for string in strings:
        content += string.encode("utf-8", "surrogatepass")
        ends.append(len(content))
    return np.frombuffer(content, np.uint8), np.frombuffer(ends, np.int64)


def string_ranks(content: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int32]:
    """Returns the place of each string of `encode_strings` in their order; equal ones are in the order given."""
    sizes = np.diff(ends)
    width = max(1, int(sizes.max(initial=0)))
    if width > _WIDEST or not content.all():  # a table of bytes would be too large, or lose zeros at the end
        strings = StringArray(content, ends)
        order: Any = sorted(range(len(strings)), key=strings.__getitem__)
    else:
        table = np.zeros((len(sizes), width), np.uint8)
        for column in range(width):
            rows = np.flatnonzero(sizes > column)
            table[rows, column] = content[ends[rows] + column]
        order = np.argsort(table.view(f"S{width}").ravel(), kind="stable")
    ranks = np.empty(len(sizes), np.int32)
    ranks[order] = np.arange(len(sizes), dtype=np.int32)
    return ranks


class StringArray:
    """Strings by their number, decoded from the arrays of `encode_strings` one at a time."""

    def __init__(self, content: NDArray[Any], ends: NDArray[Any]) -> None:
        self._content = content.data
        self._ends = ends.data

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        return str(self._bytes(number), "utf-8", "surrogatepass")

    def find(self, string: str) -> int | None:
        """Returns the number of a string among sorted ones, None if it is not there."""
        wanted = string.encode("utf-8", "surrogatepass")
        number = bisect_left(range(len(self)), wanted, key=self._bytes)
        return number if number < len(self) and self._bytes(number) == wanted else None

    def _bytes(self, number: int) -> bytes:
        return bytes(self._content[self._ends[number] : self._ends[number + 1]])


def _map(path: Path, checksum: Any) -> NDArray[Any]:
    try:
        if checksum_of_ends(path) != checksum:
            raise ValueError("its content has changed")
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} is damaged ({reason}): build the search index again") from None
