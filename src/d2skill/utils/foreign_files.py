"""Reading of files that anybody may have written: regular files of a bounded size, however they are broken.

Here is decided how reading can fail: `read_bytes` raises `OSError` alone, `unpacked`, `parse_json` and `parse_toml`
`ValueError` alone, each with its reason in words. `explained` turns whatever else the use of such a content raises into
an error of this package.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from d2skill.errors import D2SkillError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST_BYTES = 1 << 30
"""Bytes of a file that is read whole, and of one that was unpacked, at most"""
_PACKED_MOST = 1 << 26  # bytes that any file may unpack to; beyond, as many times its size as texts pack
_PACKED_TIMES = 200
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_MOST_DIGITS = 40
MOST_TOML = 1 << 18
"""Characters of settings, at most"""
_MOST_DOTS = 500
_PARTS = re.compile(r"[=\n,]")
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file to read; raises `OSError` for anything else, and never waits for a writer."""
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    kind = stat.S_IFMT(os.fstat(file.fileno()).st_mode)
    if kind != stat.S_IFREG:
        file.close()
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'of another kind')}, not a file", str(path))
    return file


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Returns the content of a regular file; raises `OSError` for anything else, and for a file of more bytes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > most else file.read(most + 1)
    if max(size, len(data)) > most:
        raise OSError(errno.EFBIG, f"it has more than the {size_of(most)} that are read", str(path))
    return data


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Returns the JSON of a regular file. Raises `OSError` or `ValueError`, and nothing else."""
    return parse_json(read_bytes(path, most))


def parse_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text. Raises `ValueError` for any other, and for a number that nobody can mean."""
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Returns the tables of a TOML text. Raises `ValueError` for any other text."""
    import tomllib  # not every command reads settings

    if len(text) > MOST_TOML or any(part.count(".") > _MOST_DOTS for part in _PARTS.split(text)):
        raise ValueError("it is too long, or a name in it has too many parts")  # which take tomllib quadratic time
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:
        raise ValueError("a number or a date in it is none that is read") from error


def unpacked(data: bytes) -> bytes:
    """Returns what gzip packed, and other data as they are. Raises `ValueError` for damage, and for far too much."""
    if not data.startswith(_GZIP):
        return data
    most = min(MOST_BYTES, max(_PACKED_MOST, _PACKED_TIMES * len(data)))
    parts, size = [], 0
    while data := data.lstrip(b"\0"):  # a file may have several members, and zeros after the last
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            try:
                part = member.decompress(data, _CHUNK)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            data = member.unused_data if member.eof else member.unconsumed_tail
            size += len(part)
            if size > most:
                raise ValueError(f"it unpacks to more than {size_of(most)}")
            if not (part or data or member.eof):
                raise ValueError("it ends too early")
            parts.append(part)
    return b"".join(parts)


def read_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Returns the arrays of a file of `numpy.savez`. Raises `OSError` or `ValueError`; nothing is unpickled.

    The file packs nothing, as `savez` leaves it, so the arrays are not larger than the file.
    """
    import numpy as np

    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    if member.compress_type != zipfile.ZIP_STORED or member.file_size > member.compress_size:
                        raise ValueError(f"{member.filename} in it is packed")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError):
            raise
        except Exception as error:
            raise ValueError(reason_of(error)) from None


@contextmanager
def explained(what: object, error: type[D2SkillError], way_out: str) -> Iterator[None]:
    """Turns whatever a block raises that reads a foreign content into one sentence.

    Errors of this package pass as they are. So a block holds the reading alone, and no code that could have a fault of
    its own.

    Args:
        what: What is read, such as a path: the sentence begins with it.
        error: Class of the error.
        way_out: The end of the sentence, what to do about it.
    """
    try:
        yield
    except (D2SkillError, BrokenPipeError):
        raise
    except Exception as problem:
        raise error(f"{what} cannot be read ({reason_of(problem)}): {way_out}") from problem


def reason_of(error: BaseException) -> str:
    """Returns the reason of an error in one line that is not long."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "the memory is not enough"
    if isinstance(error, UnicodeDecodeError):
        return f"it is no text in {error.encoding.upper()}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    first = text.strip().partition("\n")[0][:200]
    return f"it lacks {first}" if isinstance(error, KeyError) else first or type(error).__name__


def size_of(count: int) -> str:
    """Returns a number of bytes in words: "64 MB", "1 GB"."""
    return f"{count >> 30} GB" if count >= 1 << 30 else f"{count >> 20} MB"


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number in it has {len(digits)} digits")
    return int(digits)
