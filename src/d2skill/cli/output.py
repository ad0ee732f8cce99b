"""Output of a command: one record, printed as text for people or as JSON for programs."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import tyro

from d2skill.utils.annotations import plain_union

STDOUT = Path("-")
_HELP = "Print one JSON document and nothing else"
_TO_FILE = f"{_HELP}; with the name of a .json file, write it there and print the text"

JSON = ("json", Annotated[bool, tyro.conf.arg(help=_HELP), tyro.conf.FlagCreatePairsOff], False)
"""The flag --json of a command whose flags are made from settings."""


@dataclass(frozen=True, slots=True)
class Output:
    """Result of a command: `record` is what --json prints, `show` prints it as text, `status` is the exit status."""

    record: Mapping[str, Any]
    show: Callable[[], None]
    status: int = 0

    def print(self, as_json: bool) -> None:
        """Prints the record or the text, and exits if the status is not 0."""
        if as_json:
            sys.stdout.write(dump(self.record))
            sys.stdout.flush()
        else:
            self.show()
        if self.status:
            sys.exit(self.status)


@contextmanager
def json_alone(as_json: bool) -> Iterator[None]:
    """Sends what is printed inside to stderr if stdout is for JSON alone; also what libraries write to descriptor 1."""
    if not as_json:
        yield
        return
    sys.stdout.flush()
    with ExitStack() as stack:
        with suppress(OSError):  # one of the two is closed: there is nothing to keep apart
            stdout = os.dup(1)
            stack.callback(os.close, stdout)
            os.dup2(2, 1)
            stack.callback(os.dup2, stdout, 1)
            stack.callback(_flush_all)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


def _flush_all() -> None:
    """Writes out what Python and the C library hold back for stdout."""
    import ctypes

    sys.stdout.flush()
    with suppress(OSError, AttributeError, TypeError):  # Windows has no such library without a name
        ctypes.CDLL(None).fflush(None)


def dump(record: Mapping[str, Any]) -> str:
    """Returns a record as JSON in printable ASCII; records, paths and arrays inside it become plain data."""
    text = json.dumps(record, indent=2, allow_nan=False, default=_plain)
    return text.replace("\x7f", "\\u007f") + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value) if isinstance(value, Path) else value.item()


def with_json(command: Callable[..., Any], *, to_file: bool = False) -> Callable[..., None]:
    """Returns a command with the flag --json if it returns an `Output`, and itself otherwise.

    With `to_file` the flag takes the name of a file as well, or "-" for none (`name_json`).
    """
    if command.__annotations__["return"] is not Output:
        return command
    kind: Any = plain_union(Path | None) if to_file else Annotated[bool, tyro.conf.FlagCreatePairsOff]
    note = tyro.conf.arg(help=_TO_FILE if to_file else _HELP, metavar="[FILE.json]" if to_file else None)

    @wraps(command)
    def run(*given: Any, **options: Any) -> None:
        target = options.pop("json")
        as_json = target is True or target == STDOUT
        with json_alone(as_json):
            output: Output = command(*given, **options)
        if to_file and target not in (None, STDOUT):
            from d2skill.utils.atomic_files import write_json

            write_json(target, json.loads(dump(output.record)))
        output.print(as_json)

    flag = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=None if to_file else False)
    signature = inspect.signature(command)
    del run.__wrapped__  # tyro would read the annotations there
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), flag])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "json": Annotated[kind, note], "return": None}
    return run


def name_json(arguments: Sequence[str]) -> list[str]:
    """Returns a command line whose --json names a file: "-" unless a name that ends in .json follows."""
    named: list[str] = []
    for word, following in pairwise([*arguments, ""]):
        named.append("--json=-" if word == "--json" and not following.endswith(".json") else word)
    return named
