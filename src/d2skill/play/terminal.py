"""The terminal: lines in, with completion, and text out that cannot act on it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

ReadLine = Callable[[str, Sequence[str]], str]
"""Asks for a line with a prompt and texts that it may be completed to. Raises `EOFError` when there is none."""

_SEPARATOR = " [SEP] "
"""What stands between the parts of a text that was made for a language model in one line, as in WebShop's pages"""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def line_reader(console: Console) -> ReadLine:
    """Returns what reads lines from standard input: with completion in a terminal, with an echo from a pipe."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if not sys.stdin.isatty():
        return lambda prompt, completions: _piped_line(console, prompt)
    try:
        import readline
    except ImportError:  # Windows, and some builds of Python
        return lambda prompt, completions: input(prompt)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    readline.set_completer_delims("\n")  # an action is one thing to complete, spaces and all

    def ask(prompt: str, completions: Sequence[str]) -> str:
        def complete(text: str, state: int) -> str | None:
            found = [completion for completion in completions if completion.startswith(text.lstrip())]
            return found[state] if state < len(found) else None

        readline.set_completer(complete)
        return input(prompt)

    return ask


def _piped_line(console: Console, prompt: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    say(console, f"{prompt}{line.rstrip()}", style="bold")
    return line


def say(console: Console, text: str, style: str = "") -> None:
    """Prints a text as it is, whatever markup it holds."""
    console.print(Text(plain(text), style=style))


def in_lines(text: str) -> str:
    """Returns a text with each of its parts on a line."""
    return text.replace(_SEPARATOR, "\n")


def plain(text: str) -> str:
    """Replaces what a terminal would act on, such as escape sequences."""
    return _CONTROL.sub("\ufffd", text)
