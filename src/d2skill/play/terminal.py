"""Input and output of a terminal: lines with completion, and text that cannot steer it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from d2skill.utils.foreign_text import shown, visible

ReadLine = Callable[[str, Sequence[str]], str]
"""Reads a line, given a prompt and texts that it may be completed to. Raises `EOFError` at the end of the input."""

_SEPARATOR = " [SEP] "
"""Separator of the parts of a text in one line, as in WebShop's pages."""


def line_reader(console: Console) -> ReadLine:
    """Returns a reader of standard input: with completion in a terminal, with an echo from a pipe."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if not sys.stdin.isatty():
        return lambda prompt, completions: _read_piped_line(console, prompt)
    try:
        import readline
    except ImportError:  # Windows, and some builds of Python
        return lambda prompt, completions: input(prompt)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    readline.set_completer_delims("\n")  # an action is completed as a whole, with its spaces

    def read_line(prompt: str, completions: Sequence[str]) -> str:
        def complete(text: str, state: int) -> str | None:
            matches = [completion for completion in completions if completion.startswith(text.lstrip())]
            matches = [match for match in matches if match == visible(match)]
            return matches[state] if state < len(matches) else None

        readline.set_completer(complete)
        return input(prompt)

    return read_line


def _read_piped_line(console: Console, prompt: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    print_text(console, f"{prompt}{line.rstrip()}", style="bold")
    return line


def print_text(console: Console, text: str, style: str = "") -> None:
    """Prints a text as it is, without markup and with its control characters visible."""
    console.print(shown(text, style))


def split_lines(text: str) -> str:
    """Returns a text with each of its parts on a line."""
    return text.replace(_SEPARATOR, "\n")
