"""Writes docs/settings.md and docs/commands.md from the code; with --check says whether they are up to date."""

import html
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from d2skill.cli.main import COMMANDS
from d2skill.config import Config
from d2skill.config.cli_flags import fields_of

DOCS = Path(__file__).parent.parent / "docs"
MADE = "<!-- made by tools/reference_pages.py -->"


def settings_page() -> str:
    """Returns the page with every setting, a table for each section."""
    head = f"""# Settings
{MADE}

Every setting of a run, with its default, which is that of the preset `laptop`. `bank.task_capacity`, for example, is
the flag `--bank.task-capacity 300`, and in a TOML file

```toml name=file
[bank]
task_capacity = 300
```

`d2skill train --config NAME` takes a file or a preset, and flags come on top; `d2skill config show NAME` prints all
that it sets. In Python, `load_config` takes the same.

"""
    return head + "\n".join(_sections(Config, "", "The run as a whole."))


def commands_page() -> str:
    """Returns the page with every command."""
    rows = "\n".join(f"| `d2skill {name}` | {_first_line(name)} |" for name in COMMANDS)
    return f"""# Commands
{MADE}

`d2skill COMMAND --help` explains a command and its options.

| command | does |
|---|---|
{rows}
"""


def _first_line(command: str) -> str:
    module, function = COMMANDS[command].split(":")
    return _cell((getattr(import_module(f"d2skill.cli.{module}"), function).__doc__ or "").partition("\n")[0])


def _sections(model: type[BaseModel], path: str, summary: str) -> Iterator[str]:
    """Yields the lines of a section and of those in it."""
    helps = {name: getattr(shape.__metadata__[0], "help", None) for name, shape, _ in fields_of(model)}
    own = {name: info for name, info in model.model_fields.items() if not isinstance(info.default, BaseModel)}
    yield f"## {path.rstrip('.') or 'run'}\n\n{summary}\n"
    yield "| setting | default | values | meaning |\n|---|---|---|---|"
    for name, info in own.items():
        limits = _limits(info.metadata)
        values = f"{_values(info.annotation)}{', ' + limits if limits else ''}"
        default = "none" if info.default is None else f"`{json.dumps(info.default)}`"
        yield f"| `{path}{name}` | {default} | {values} | {_cell(helps[name] or '')} |"
    yield ""
    for name, info in model.model_fields.items():
        if name not in own:
            section = type(info.default)
            yield from _sections(section, f"{path}{name}.", _cell(section.__doc__ or ""))


def _cell(text: str) -> str:
    """Returns a text for a cell of a table."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _values(annotation: Any) -> str:
    """Returns a type in words."""
    if get_origin(annotation) is Annotated:
        return _values(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    choices = [one for one in get_args(annotation) if one is not NoneType]
    if choices and get_origin(annotation) not in (dict, tuple):
        return " or ".join(_values(one) for one in choices)
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", dict: "table"}
    return names.get(get_origin(annotation) or annotation, "list of texts")


def _limits(metadata: list[Any]) -> str:
    """Returns the range of a number in words."""
    found = {sign: getattr(one, sign) for one in metadata for sign in ("ge", "gt", "le", "lt") if hasattr(one, sign)}
    words = {"ge": "from {:g}", "gt": "above {:g}", "le": "to {:g}", "lt": "and below {:g}"}
    return " ".join(words[sign].format(found[sign]) for sign in words if sign in found)


PAGES = {DOCS / "settings.md": settings_page, DOCS / "commands.md": commands_page}

if __name__ == "__main__":
    for path, page in PAGES.items():
        if "--check" not in sys.argv:
            path.write_text(page())
        elif path.read_text() != page():
            raise SystemExit(f"docs/{path.name} is not up to date: run python tools/reference_pages.py")
