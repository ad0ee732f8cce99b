"""Environments without training: check-env."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from tyro.conf import Positional

from d2skill.config import EnvConfig


def check_env(
    kind: Positional[str],
    data: Path | None = None,
    split: str = "train",
    episodes: Annotated[int, tyro.conf.arg(help="Episodes to play.")] = 5,
) -> None:
    """Check an environment against the protocol and say in words what is wrong; exit status 1 if anything is.

    Args:
        kind: As --env: houses, alfworld, package.module:Class, gymnasium:package.module:Class.
        data: Folder with its data.
        split: Split whose tasks are played.
        episodes: Episodes to play.
    """
    from d2skill.envs import make_environment
    from d2skill.envs.check import check_environment

    findings = check_environment(make_environment(EnvConfig(kind=kind, data=data)), split, episodes)
    for finding in findings:
        mark = "ok   " if finding.ok else "WRONG"
        detail = f": {finding.detail}" if finding.detail else ""
        Console().print(f"{mark} {finding.what}{detail}", markup=False, highlight=False, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        sys.exit(1)
