"""An index in a folder: a file for each array, which is mapped rather than read, and a table of contents."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2skill.errors import DataError
from d2skill.utils.atomic_files import write_folder, write_json

FORMAT = 1
"""The number of the format; it changes with what the arrays mean."""

_CONTENTS = "search_index.json"
_LOOKED_AT = 1 << 20  # bytes at either end of a file that are compared when it is opened


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays to a folder, which appears, or is replaced, when it is complete."""

    def fill(temporary: Path) -> None:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        marks = {name: _marks(temporary / f"{name}.npy") for name in arrays}
        write_json(temporary / _CONTENTS, {"format": FORMAT, "arrays": marks})

    write_folder(folder, fill)


def read_arrays(folder: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Maps the named arrays of a folder; raises `DataError` that says in a sentence why that is not possible.

    Sizes are compared, and checksums of what is near the ends of the files: whole files of small indexes.
    """
    try:
        contents = json.loads((folder / _CONTENTS).read_text(encoding="utf-8"))
        number = contents["format"]
        marks = {name: contents["arrays"][name] for name in names} if number == FORMAT else {}
    except FileNotFoundError:
        raise DataError(f"{folder} is no search index ({_CONTENTS} is missing): build it") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder / _CONTENTS} is damaged: build the search index again") from None
    if number != FORMAT:
        raise DataError(f"{folder} is a search index of format {number}, not {FORMAT}: build it again")
    return {name: _mapped(folder / f"{name}.npy", mark) for name, mark in marks.items()}


def _mapped(path: Path, mark: Any) -> NDArray[Any]:
    try:
        if _marks(path) != mark:
            raise ValueError("its content has changed")
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} is damaged ({reason}): build the search index again") from None


def _marks(path: Path) -> dict[str, int]:
    """Size and checksum of a file's ends."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        checksum = zlib.crc32(file.read(_LOOKED_AT))
        file.seek(max(0, size - _LOOKED_AT))
        return {"bytes": size, "checksum": zlib.crc32(file.read(_LOOKED_AT), checksum)}
