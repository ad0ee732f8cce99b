"""Command `doctor`: prints what settings need and what of it is missing on this machine."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from d2skill.config import toml_files
from d2skill.planning.diagnostics import diagnose

_STYLES = {"found": "green", "missing": "bold red", "optional": "dim"}


def doctor(config: str = "laptop") -> None:
    """Say what settings need and what of it is here, and how to fix what is not; status 1 if anything is missing.

    Nothing is downloaded and no key is shown. A server is asked whether it knows the model, which costs nothing or a
    word.

    Args:
        config: Preset or TOML file.
    """
    lines = diagnose(toml_files.load(config))
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"For {config}:", markup=False)
    width = max(len(line.subject) for line in lines)
    for line in lines:
        status = (f"{line.status:8}", _STYLES[line.status])
        fix = f"  ->  {line.fix}" if line.fix else ""
        console.print(Text.assemble(f"{line.subject:{width}}  ", status, f"  {line.detail}{fix}"))
    missing = [line.subject for line in lines if line.status == "missing"]
    summary = f"Missing: {', '.join(missing)}." if missing else "Nothing that these settings need is missing."
    console.print(summary, markup=False)
    if missing:
        sys.exit(1)
