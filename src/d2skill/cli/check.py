"""Commands check-env, check-policy, check-reflector, check-embedder, check-tracker: a part against its contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import BaseModel, ValidationError
from tyro.conf import Positional

from d2skill import testing
from d2skill.cli.bank.tables import say
from d2skill.cli.output import Output
from d2skill.config import Config, toml_files
from d2skill.config.parts import TRACKER, find_part, make_part, takes
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.errors import ConfigError
from d2skill.policies import make_policy
from d2skill.protocols import Policy
from d2skill.reflectors import make_reflector
from d2skill.testing.samples import sample_prompts
from d2skill.trackers.base import TrackedRun
from d2skill.utils.foreign_files import parse_json

_Section = TypeVar("_Section", bound=BaseModel)
_Table = Annotated[
    str,
    tyro.conf.arg(metavar="JSON", help="Settings of a part of your own: a table in JSON."),
]


def check_env(
    kind: Positional[str],
    data: Path | None = None,
    split: str = "train",
    episodes: Annotated[int, tyro.conf.arg(help="Episodes to play.")] = 5,
    config: str = "laptop",
    args: _Table = "",
) -> Output:
    """Check an environment against the protocol and say in words what is wrong; exit status 1 if anything is.

    Args:
        kind: As --env: houses, alfworld, webshop, search-qa, package.module:Class, gymnasium:package.module:Class.
        data: Folder with its data.
        split: Split whose tasks are played.
        episodes: Episodes to play.
        config: Preset or TOML file with the settings of the environment.
        args: Settings of an environment of your own.
    """
    given = _section(toml_files.load(config).env, kind, "args", args, **({"data": data} if data else {}))
    return _output(kind, testing.check_environment(make_environment(given), split, episodes))


def check_policy(kind: Positional[str], settings: _Table = "", learns: bool = True, config: str = "laptop") -> Output:
    """Check a policy against the protocol and say in words what is wrong; exit status 1 if anything is.

    It decides and learns on prompts of a tiny environment.

    Args:
        kind: As --policy: scorer, causal-lm, served, package.module:Class.
        settings: Settings of a policy of your own.
        learns: Whether it is meant to learn, which served is not.
        config: Preset or TOML file with other settings.
    """
    learns = learns and kind != "served"
    base = toml_files.load(config)
    chosen = _section(base.policy, kind, "settings", settings, train=learns)
    policy = _policy(base.model_copy(update={"policy": chosen}))
    return _output(kind, testing.check_policy(policy, learns=learns))


def check_reflector(kind: Positional[str], settings: _Table = "", config: str = "laptop") -> Output:
    """Check a reflector against the protocol and say in words what is wrong; exit status 1 if anything is.

    It reflects on failures in a tiny environment. One behind a server is asked.

    Args:
        kind: As --reflect.kind: contrast, llm, policy, package.module:Class.
        settings: Settings of a reflector of your own.
        config: Preset or TOML file with other settings.
    """
    base = toml_files.load(config)
    chosen = _section(base.reflect, kind, "settings", settings)
    reflector = make_reflector(chosen, policy=_policy(base) if kind == "policy" else None)
    return _output(kind, testing.check_reflector(reflector))


def check_embedder(kind: Positional[str], settings: _Table = "", config: str = "laptop") -> Output:
    """Check an embedder against the protocol and say in words what is wrong; exit status 1 if anything is.

    Args:
        kind: As --embedder.kind: hashed, transformers, openai, package.module:Class.
        settings: Settings of an embedder of your own.
        config: Preset or TOML file with other settings.
    """
    chosen = _section(toml_files.load(config).embedder, kind, "settings", settings)
    return _output(kind, testing.check_embedder(make_embedder(chosen)))


def check_tracker(kind: Positional[str], settings: _Table = "") -> Output:
    """Check a tracker against the protocol and say in words what is wrong; exit status 1 if anything is.

    It is told of a run of three iterations, in a folder that is removed afterwards.

    Args:
        kind: As --track: tensorboard, wandb, mlflow, trackio, package.module:Class.
        settings: Settings of a tracker of your own.
    """
    with TemporaryDirectory() as folder:
        run = TrackedRun(Path(folder), Config())
        more: dict[str, Any] = {"run": run} if takes(find_part(TRACKER, kind), "run") else {}
        tracker = make_part(TRACKER, kind, _table("settings", settings), **more)
        return _output(kind, testing.check_tracker(tracker))


def _policy(config: Config) -> Policy:
    return make_policy(config, lambda: [prompt.observation for prompt in sample_prompts()])


def _section(base: _Section, kind: str, table: str, text: str, **changes: Any) -> _Section:
    """Returns a section of the settings with a kind and its table; raises `ConfigError` if they do not fit."""
    same = {table: getattr(base, table)} if getattr(base, "kind") == kind else {table: {}}  # noqa: B009
    given = {"kind": kind, **same, **({table: _table(table, text)} if text else {}), **changes}
    try:
        return type(base).model_validate(base.model_dump() | given)
    except ValidationError as error:
        raise ConfigError(toml_files.explain(error)) from None


def _table(name: str, text: str) -> dict[str, Any]:

    try:
        table = parse_json(text or "{}")
    except ValueError:
        table = None
    if not isinstance(table, dict):
        raise ConfigError(f"--{name} {text} is no table in JSON: write it as in --{name} '{{\"depth\": 3}}'")
    return table


def _output(kind: str, findings: Sequence[testing.Finding]) -> Output:
    def show() -> None:
        for finding in findings:
            say(str(finding))

    ok = all(finding.ok for finding in findings)
    return Output({"kind": kind, "ok": ok, "findings": findings}, show, status=int(not ok))
