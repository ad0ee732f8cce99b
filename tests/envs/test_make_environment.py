"""Environments are found by kind, and every way to get it wrong is told in a sentence."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from d2skill.config import EnvConfig, parts
from d2skill.envs import make_environment
from d2skill.envs.gymnasium import GymnasiumEnvironment
from d2skill.errors import ConfigError, DataError

MODULE = """
from d2skill.errors import DataError

class Here:
    def task_ids(self, split): return ["a"]
    def start(self, task_id): return None

class Fed(Here):
    def __init__(self, data=None): self.data = data

class Outer:
    Inner = Here

class Fussy(Here):
    def __init__(self, size): pass

class Broken(Here):
    def __init__(self): raise OSError("no disk")

class Dataless(Here):
    def __init__(self): raise DataError("file x is gone: fetch it")

class Half:
    def task_ids(self, split): return ["a"]

class Gym:
    def __init__(self, data="none"): self.data = data
    def reset(self, *, seed=None, options=None): return f"Data: {self.data}", {}
    def step(self, action): return "Yes.", 1.0, True, False, {}

def factory(): return Here()
made = Here()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a module, which is forgotten after the test."""
    (tmp_path / "own_envs.py").write_text(MODULE)
    (tmp_path / "quits_env.py").write_text("raise SystemExit(3)")
    (tmp_path / "torn_env.py").write_text("class (")
    (tmp_path / "needy_env.py").write_text("import no_such_package_anywhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name in ("own_envs", "torn_env", "needy_env"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def make(kind: str, data: Path | None = None) -> Any:
    return make_environment(EnvConfig(kind=kind, data=data))


@pytest.mark.parametrize(("name", "made"), [("Here", "Here"), ("Outer.Inner", "Here"), ("factory", "Here")])
def test_own_class_from_the_current_directory(name: str, made: str) -> None:
    assert type(make(f"own_envs:{name}")).__name__ == made


def test_data_is_handed_to_a_class_that_takes_it(folder: Path) -> None:
    assert make("own_envs:Fed").data is None
    assert make("own_envs:Fed", folder).data == folder
    gym = make("gymnasium:own_envs:Gym", folder)
    assert gym.start("train/0000").observation.text == f"Data: {folder}"


def test_gymnasium_class_is_adapted() -> None:
    environment = make("gymnasium:own_envs:Gym")
    assert isinstance(environment, GymnasiumEnvironment)
    assert environment.start("train/0000").step("hello").success


def test_houses_are_built_with_their_settings() -> None:
    pytest.importorskip("d2skill.envs.houses.environment")
    assert len(make("houses").task_ids("train")) > 0


def test_entry_points_are_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("maze", "own_envs:Here [extra]", "d2skill.environments")])
    monkeypatch.setattr(parts, "entry_points", lambda group: points.select(group=group))
    assert type(make("maze")).__name__ == "Here"
    with pytest.raises(ConfigError, match="houses, alfworld, webshop, search-qa, maze, or"):
        make("webshelf")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (
            "webshelf",
            'no environment "webshelf" .did you mean webshop..: set env.kind to one of houses, alfworld, webshop',
        ),
        (
            "nowhere:Here",
            "module nowhere of environment nowhere:Here is neither in /.* nor installed: run from the folder",
        ),
        ("torn_env:Here", "torn_env:Here was found, but its own import fails .SyntaxError.* mend that first"),
        ("needy_env:Here", "its own import fails .ModuleNotFoundError: .*no_such_package_anywhere.*needy_env.py:1"),
        ("own_envs:There", "module own_envs has no There .did you mean own_envs:Here..: it has Here, Fed, Outer"),
        ("own_envs.Here", "did you mean own_envs:Here"),
        ("own_envs.py:Here", "did you mean own_envs"),
        ("quits_env:Here", "its own import fails .SystemExit: 3"),
        ("own_envs:", "names no class"),
        (":Here", "names no class"),
        ("own_envs:made", "is a Here, not a class"),
        ("own_envs:Fussy", "own_envs:Fussy needs size: set env.args.size"),
        ("own_envs:Broken", "OSError: no disk"),
        ("own_envs:Half", "is no environment, it lacks start: see"),
        ("own_envs:Gym", "lacks task_ids and start: env.kind gymnasium:own_envs:Gym adapts it"),
        ("gymnasium:own_envs:Here", "Here has no reset and no step"),
        ("gymnasium:own_envs:There", "has no There"),
        ("gymnasium:own_envs:Broken", "OSError: no disk"),
        ("gymnasium:CartPole-v1", "names no class"),
    ],
)
def test_mistakes_are_told(kind: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(kind)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("houses", "houses are generated and read no data"), ("own_envs:Here", "own_envs:Here takes no data")],
)
def test_data_that_nothing_reads_is_told(kind: str, sentence: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(kind, folder)


def test_own_errors_pass_unchanged() -> None:
    with pytest.raises(DataError, match=r"^file x is gone: fetch it$"):
        make("own_envs:Dataless")
