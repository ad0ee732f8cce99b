"""Command `doctor`: prints what settings need and what of it is missing on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.text import Text

from d2skill.cli.output import Output
from d2skill.config import toml_files
from d2skill.planning.diagnostics import Diagnosis, diagnose
from d2skill.utils.foreign_text import shown
from d2skill.utils.terminal import Terminal

_STYLES = {"found": "green", "missing": "bold red", "optional": "dim"}


def doctor(config: str = "laptop", model: str = "", data: Path | None = None) -> Output:
    """Say what settings need and what of it is here, and how to fix what is not; status 1 if anything is missing.

    Nothing is downloaded and no key is shown. A server is asked whether it knows the model, which costs nothing or a
    word.

    Args:
        config: Preset or TOML file.
        model: Language model to look at with these settings: an id, a folder or a GGUF file.
        data: Folder with the data of the environment, as of `train`.
    """
    settings = toml_files.load(config)
    if data:
        settings = settings.model_copy(update={"env": settings.env.model_copy(update={"data": data})})
    if model:
        lm = settings.policy.lm.model_copy(update={"model": model})
        policy = settings.policy.model_copy(update={"kind": "causal-lm", "lm": lm})
        settings = settings.model_copy(update={"policy": policy})
    lines = diagnose(settings)
    missing = [line.subject for line in lines if line.status == "missing"]
    record = {"config": config, "things": lines, "missing": missing}
    return Output(
        record, partial(_print, f"{config} with {model}" if model else config, lines, missing), status=bool(missing)
    )


def _print(config: str, lines: Sequence[Diagnosis], missing: Sequence[str]) -> None:
    """Prints what was looked for, one a line, and what is missing."""
    console = Terminal(soft_wrap=True)
    console.print(f"For {config}:")
    width = max(len(line.subject) for line in lines)
    for line in lines:
        status = (f"{line.status:8}", _STYLES[line.status])
        fix = f"  ->  {line.fix}" if line.fix else ""
        console.print(Text.assemble(shown(f"{line.subject:{width}}  "), status, shown(f"  {line.detail}{fix}")))
    summary = f"Missing: {', '.join(missing)}." if missing else "Nothing that these settings need is missing."
    console.print(summary)
