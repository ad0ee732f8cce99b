"""Text that others wrote, on its way to a terminal: it cannot steer one, and is never read as markup.

Skills of a received bank, texts of an environment, answers of a server, names of folders and sentences that quote them
go through `visible`: `Terminal` (utils/terminal.py) has it inside, `shown` is for any console, `logger` for warnings.
"""

from __future__ import annotations

import io
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from d2skill.utils.key_mask import mask_keys

if TYPE_CHECKING:
    import logging
    from types import TracebackType

    from rich.text import Text

_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and line feed, delete, C1: they begin escape sequences
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional: they show text in another order
    "\u2028\u2029\ufff9-\ufffb"  # other lines, and notes between them
    "\ud800-\udfff]"  # lone surrogates, which no encoding can write
)
_LINKS = re.compile(r"<(?=[A-Za-z/!?])|\]\(|\]:")


def visible(text: str) -> str:
    r"""Returns a text with each character that steers a terminal, or shows nothing, as its escape, as in JSON: \u001b.

    >>> visible("red\x1b[31m and [bold]")
    'red\\u001b[31m and [bold]'
    """
    text = mask_keys(text)  # the last guard: the client of a server has masked its answers already
    if text.isascii() and text.isprintable():
        return text
    text = _STEERS.sub(lambda found: _escape(found[0]), text.replace("\r\n", "\n"))
    if text.isascii():
        return text
    from d2skill.utils.invisible import show_invisible  # here, as most texts need none of its tables

    return show_invisible(text, _escape)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def shown(text: object, style: str = "") -> Text:
    """Returns a text for rich to show as it is, without markup and with all that steers a terminal visible."""
    from rich.text import Text

    return Text(visible(str(text)), style)


def markdown(text: str) -> str:
    """Returns a text of Markdown as visible, with what would be HTML, links and pictures as plain characters."""
    return _LINKS.sub(lambda found: "&lt;" if found[0] == "<" else f"]\\{found[0][1]}", visible(text))


def command(*words: object) -> str:
    """Returns a command of d2skill in backticks, with its words quoted for a shell where they must be."""
    return f"`{shlex.join(['d2skill', *map(str, words)])}`"


def shown_path(path: Path) -> Path:
    """Returns a path for a sentence: relative to the current folder if it lies in it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def logger(name: str) -> logging.Logger:
    """Returns the logger of a module, whose messages are visible."""
    import logging

    made = logging.getLogger(name)
    made.addFilter(_make_visible)
    return made


def _make_visible(record: logging.LogRecord) -> bool:
    record.msg, record.args = visible(record.getMessage()), None
    return True


@contextmanager
def screened(needed: bool) -> Iterator[None]:
    """Makes what is printed inside visible, if that is needed: it comes out at the end, without colours."""
    if not needed:
        yield
        return
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        sys.stdout.write(visible(out.getvalue()))
        sys.stderr.write(visible(err.getvalue()))


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints the traceback of an exception to stderr, as `sys.excepthook` does, visibly."""
    import traceback

    sys.stderr.write(visible("".join(traceback.format_exception(kind, error, trace))))
