"""Files of named arrays that can be made again, so one that is damaged or missing is read as none.

First a header in JSON, then the arrays, each from a multiple of 64 bytes on. The checksum of an array is BLAKE2 of the
sums of its pieces of 64 KB as unsigned 64-bit numbers. It reads at the speed of the memory, 9 GB a second where CRC-32
reads 2.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from d2skill.utils.atomic_files import replace_shared
from d2skill.utils.foreign_files import open_regular, parse_json

Array = npt.NDArray[Any]

_BEGINNING = b"d2skill arrays 1"
_START = struct.Struct("<16sQ8s")  # beginning, bytes of the header, digest of the header
_ALIGNMENT = 64
_PIECE = 1 << 16
_MAPPED = 1 << 26  # bytes from which on a file is mapped into memory rather than read


class ArrayFile(NamedTuple):
    """Values of the header, and the arrays by name, which cannot be written to."""

    values: dict[str, Any]
    arrays: dict[str, Array]


def write(path: Path, kind: str, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> bool:
    """Replaces a file in one step. Returns False if the folder or disk does not allow it.

    Several processes may do so at once, and may have the file open; the last one's file stays.

    Args:
        path: The file.
        kind: What is in it, and for what.
        values: Values for JSON.
        arrays: Arrays by name.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    listed = [(name, array.dtype.str, array.shape, _checksum(array)) for name, array in arrays.items()]
    header = json.dumps([kind, values, listed], separators=(",", ":")).encode()
    start = _START.pack(_BEGINNING, len(header), _digest(header)) + header

    def parts() -> Iterator[bytes | memoryview]:
        pieces: list[bytes | memoryview] = [start, *(one.reshape(-1).view(np.uint8).data for one in arrays.values())]
        for piece in pieces:
            yield piece
            yield bytes(-len(piece) % _ALIGNMENT)

    with suppress(OSError):
        replace_shared(path, parts())
        return True
    return False


def read(path: Path, kind: str) -> ArrayFile | None:
    """Returns the content of a file; None if it is missing, damaged, cut off or of another kind."""
    try:
        with open_regular(path) as file:
            large = path.stat().st_size >= _MAPPED
            data = np.asarray(np.memmap(file, np.uint8, "r")) if large else np.frombuffer(file.read(), np.uint8)
        beginning, size, digest = _START.unpack(data[: _START.size].tobytes())
        end = _START.size + size
        header = data[_START.size : end].tobytes()
        if beginning != _BEGINNING or digest != _digest(header):
            return None
        of_kind, values, listed = parse_json(header)
        if of_kind != kind:
            return None
        arrays = {}
        for name, dtype, shape, checksum in listed:
            end += -end % _ALIGNMENT
            begin, end = end, end + np.dtype(dtype).itemsize * int(np.prod(shape))
            arrays[name] = data[begin:end].view(dtype).reshape(shape)
            if _checksum(arrays[name]) != checksum:
                return None
    except Exception:  # whatever a damaged or hostile file leads to, it can be made again
        return None
    return ArrayFile(values, arrays)


def _checksum(array: Array) -> str:
    data = array.reshape(-1).view(np.uint8)
    whole = len(data) // _PIECE * _PIECE
    sums = data[:whole].view(np.uint64).reshape(-1, _PIECE // 8).sum(axis=1, dtype=np.uint64)
    return _digest(sums.tobytes() + data[whole:].tobytes()).hex()


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()
