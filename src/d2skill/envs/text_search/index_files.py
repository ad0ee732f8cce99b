"""Files of an index: a folder with a file for each array, mapped rather than read, and a table of contents.

Strings are kept as two arrays as well: their UTF-8 bytes on end, and where each ends.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2skill.errors import DataError
from d2skill.utils.atomic_files import write_folder, write_json
from d2skill.utils.foreign_files import read_json

FORMAT = 1
"""Version of the format; it changes with the meaning of the arrays."""

_CONTENTS = "search_index.json"
_CHECKED = 1 << 20  # bytes at either end of a file that its checksum covers


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays to a folder, which appears, or is replaced, when it is complete."""

    def fill(temporary: Path) -> None:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        checksums = {name: _checksum(temporary / f"{name}.npy") for name in arrays}
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


def encode_strings(strings: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns bytes and ends: string i is `bytes[ends[i] : ends[i + 1]]`."""
    parts = [string.encode("utf-8", "surrogatepass") for string in strings]
    ends = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=ends[1:])
    return np.frombuffer(b"".join(parts), np.uint8), ends


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
        if _checksum(path) != checksum:
            raise ValueError("its content has changed")
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} is damaged ({reason}): build the search index again") from None


def _checksum(path: Path) -> dict[str, int]:
    """Returns the size of a file and the checksum of its ends."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        checksum = zlib.crc32(file.read(_CHECKED))
        file.seek(max(0, size - _CHECKED))
        return {"bytes": size, "checksum": zlib.crc32(file.read(_CHECKED), checksum)}
