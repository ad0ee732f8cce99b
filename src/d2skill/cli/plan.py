"""Command `plan`: prints the memory, hours and money that a run would take."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from d2skill.cli.bank.tables import print_rows, say
from d2skill.cli.output import JSON, Output, json_alone
from d2skill.config import cli_flags, toml_files
from d2skill.errors import ConfigError
from d2skill.planning.devices import format_bytes
from d2skill.planning.plan import PlanOptions
from d2skill.planning.plan import plan as plan_run

_DESCRIPTION = """Say what a run would take: parameters, memory, tokens, calls, hours and money.

Nothing is loaded, downloaded or asked; settings are flags, as in train. The part lengths says what is assumed."""
_IN_BYTES = ("memory", "host memory", "disk")


def plan(arguments: list[str]) -> None:
    """Estimate what a run would take: memory, tokens, hours and money; the flags are those of train."""
    given, config = cli_flags.parse_with(
        arguments, "d2skill plan", _DESCRIPTION, [*cli_flags.fields_of(PlanOptions), JSON]
    )
    try:
        options = PlanOptions(**{name: getattr(given, name) for name in PlanOptions.model_fields})
    except ValidationError as error:
        raise ConfigError(f"--{toml_files.explain(error)}") from None
    with json_alone(given.json):
        report = plan_run(config, options)
    Output(report, partial(_print, report)).print(given.json)


def _print(report: Mapping[str, Any]) -> None:
    """Prints the plan part by part, and under each what it is based on."""
    for name, part in report.items():
        if not isinstance(part, Mapping):
            continue
        say(name)
        rows: list[tuple[str, str]] = []
        for key, value in part.items():
            if key == "from" or (not value and value is not False):
                continue
            if isinstance(value, Mapping):
                values = ", ".join(f"{each} {_text(name, key, number)}" for each, number in value.items() if number)
                rows.append((f"  {key}", values))
            else:
                lines = value if isinstance(value, list) else [_text(name, key, value)]
                rows += [(f"  {key}", line) for line in lines]
        print_rows([*rows, ("  based on", str(part["from"]))])
        say("")


def _text(part: str, key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if (part in _IN_BYTES and not key.endswith("at once")) or key == "weights":
        return format_bytes(value)
    if part == "time":
        return f"{value:,.1f} h" if value >= 1 else f"{60 * value:,.1f} min"
    return f"{value:,}"
