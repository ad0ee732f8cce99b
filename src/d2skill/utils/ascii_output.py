"""Text for terminals that know no Unicode: symbols become ASCII ones, other characters their code, nothing is lost."""

from __future__ import annotations

import codecs
import io
from typing import TextIO

_SYMBOLS = {
    **dict.fromkeys("─━—–−", "-"),
    **dict.fromkeys("│┃", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼╇╈╪╞╡┡┩┳┻╋", "+"),
    **dict(zip("▁▂▃▄▅▆▇█", "12345678", strict=True)),
    "±": "+-",
    "→": "->",
    "←": "<-",
    "…": "...",
    "·": ".",
    "•": "*",
    "×": "x",
    "≥": ">=",
    "≤": "<=",
    " ": " ",
    **dict.fromkeys("╸╺", "-"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("‘’", "'"),
}


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Returns the ASCII text for characters that an encoding does not have, as an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_SYMBOLS.get(one, one.encode("ascii", "backslashreplace").decode()) for one in found), error.end


def never_fail(stream: TextIO) -> None:
    """Makes a stream write what its encoding lacks in ASCII, in place of an error."""
    if isinstance(stream, io.TextIOWrapper):
        codecs.register_error("d2skill", _in_ascii)
        stream.reconfigure(errors="d2skill")
