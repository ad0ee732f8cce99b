"""Parts are found by name, their settings are validated, and each way to get it wrong is told in a sentence."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from d2skill.config import Config, parts
from d2skill.config.cli_flags import parse_settings
from d2skill.config.parts import EMBEDDER, POLICY, REFLECTOR, TRACKER, find_part, folder_of, make_part
from d2skill.config.toml_files import dump, parse
from d2skill.embedders import make_embedder
from d2skill.errors import ConfigError
from d2skill.policies import make_policy
from d2skill.reflectors import make_reflector

MODULE = """
from typing import Any
from pydantic import BaseModel, Field, field_validator
from d2skill.testing import TinyEmbedder, TinyPolicy, TinyReflector, TinyTracker

class Deep(TinyPolicy):
    class Settings(BaseModel, extra="forbid"):
        depth: int = Field(1, ge=1)
        name: str = ""
        rate: float = 0.1
        buckets: int = 64

        @field_validator("name")
        @classmethod
        def _is_lower(cls, name):
            if name != name.lower():
                raise ValueError("write it in small letters")
            return name

class Options(BaseModel):
    size: int

class Annotated(TinyReflector):
    def __init__(self, settings: Options): self.size = settings.size

class Plain(TinyReflector):
    def __init__(self, size, colour="red"): self.size, self.colour = size, colour

class Open(TinyReflector):
    def __init__(self, **anything): self.given = anything

class Needy(TinyReflector):
    def __init__(self, *, size): raise RuntimeError("no room")

class Words(TinyEmbedder): ...
class Unsound:
    def embed(self, texts): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a module of one's own, which is forgotten after the test."""
    (tmp_path / "own_parts.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setitem(sys.modules, "own_parts", None)
    monkeypatch.delitem(sys.modules, "own_parts")
    return tmp_path


def config(**sections) -> Config:
    return Config.model_validate(sections)


def test_settings_are_validated_by_the_model_of_the_part():
    policy = make_policy(config(policy={"kind": "own_parts:Deep", "settings": {"depth": 3}}), tuple)
    assert policy.settings.depth == 3 and policy.settings.rate == 0.1
    made = make_reflector(config(reflect={"kind": "own_parts:Annotated", "settings": {"size": 5}}).reflect)
    assert made.size == 5


def test_without_a_model_settings_are_keyword_arguments():
    made = make_reflector(config(reflect={"kind": "own_parts:Plain", "settings": {"size": 5}}).reflect)
    assert (made.size, made.colour) == (5, "red")
    assert make_part(REFLECTOR, "own_parts:Open", {"a": [1, {"b": 2}]}).given == {"a": [1, {"b": 2}]}


def test_the_gates_of_an_embedder_of_ones_own_can_be_set():
    own = make_embedder(config(embedder={"kind": "own_parts:Words"}).embedder)
    assert (own.task_gate, own.step_gate) == (0.3, 0.6)
    gated = make_embedder(config(embedder={"kind": "own_parts:Words", "task_gate": 0.5}).embedder)
    assert (gated.task_gate, gated.step_gate, gated.fingerprint) == (0.5, 0.6, own.fingerprint)
    assert (gated.embed(["a ruby", "a pearl"]) == own.embed(["a ruby", "a pearl"])).all()


@pytest.mark.parametrize("part", [POLICY, REFLECTOR, EMBEDDER])
def test_built_in_kinds_are_classes_that_are_there(part):
    pytest.importorskip("torch")
    for kind in part.built_in:
        assert isinstance(find_part(part, kind), type)


@pytest.mark.parametrize(
    ("part", "kind", "settings", "sentence"),
    [
        (
            POLICY,
            "scorr",
            {},
            r'no policy "scorr" \(did you mean scorer\?\): set policy.kind to one of',
        ),
        (
            REFLECTOR,
            "own_parts.Plain",
            {},
            r'no reflector "own_parts.Plain" \(did you mean own_parts:Plain\?',
        ),
        (
            POLICY,
            "own_partz:Deep",
            {},
            r"is neither in /.*did you mean own_parts:Deep..: run .*policy.folder",
        ),
        (
            POLICY,
            "own_parts:Deap",
            {},
            r"own_parts has no Deap \(did you mean own_parts:Deep\?\): it has Deep, Options",
        ),
        (REFLECTOR, "own_parts:PLAIN", {}, r"\(did you mean own_parts:Plain\?\)"),
        (EMBEDDER, "own_parts:TinyEmbeder", {}, r"\(did you mean own_parts:TinyEmbedder\?\): it has Deep"),
        (POLICY, "own_parts:Deep.Setings", {}, r"\(did you mean own_parts:Deep.Settings\?\)"),
        (TRACKER, "own_parts.py:Deep", {}, r"nor installed \(did you mean own_parts:Deep\?\): run from"),
        (TRACKER, "d2skill.testin:TinyTracker", {}, r"\(did you mean d2skill.testing:TinyTracker\?\)"),
        (POLICY, "./own_parts.py:Deep", {}, r'"./own_parts.py:Deep" names no class: write package.module:Class'),
        (
            POLICY,
            "own_parts:Deep",
            {"depth": 0},
            "policy.settings.depth = 0 of own_parts:Deep: input",
        ),
        (
            POLICY,
            "own_parts:Deep",
            {"dept": 2},
            r"settings.dept is no setting of own_parts:Deep \(did you mean depth",
        ),
        (POLICY, "own_parts:Deep", {"name": "A"}, "policy.settings.name of own_parts:Deep: write it in small letters"),
        (POLICY, "own_parts:Deep", {"depth": 0, "dept": 2}, r"\(and 1 more\)"),
        (REFLECTOR, "own_parts:Annotated", {}, "reflector own_parts:Annotated needs size: set reflect.settings.size"),
        (REFLECTOR, "own_parts:Plain", {}, "reflector own_parts:Plain needs size: set reflect.settings.size"),
        (
            REFLECTOR,
            "own_parts:Plain",
            {"size": 1, "color": 2},
            r"color is no setting .*did you mean colour\?",
        ),
        (REFLECTOR, "own_parts:Needy", {"size": 1}, "could not be made .RuntimeError: no room .own_parts.py:"),
        (
            EMBEDDER,
            "own_parts:Unsound",
            {},
            "lacks fingerprint, dimension, task_gate and step_gate: see",
        ),
        (TRACKER, "own_parts:Deep", {}, "own_parts:Deep is no tracker, it lacks log"),
        (POLICY, "own_parts", {}, r'no policy "own_parts"'),
    ],
)
def test_mistakes_are_told(part, kind, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_part(part, kind, settings)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[policy]\nkind = 'scorr'", r'no policy "scorr" \(did you mean scorer\?\)'),
        (
            "[reflect]\nkind = 'gpt'",
            r'no reflector "gpt": set reflect.kind to one of contrast, llm, policy',
        ),
        ("[policy.settings]\ndepth = 3", "policy.settings is for your own kind of policy, and policy.kind scorer"),
        (
            "[embedder.settings]\ndepth = 3",
            "embedder.settings is for your own kind of embedder",
        ),
        ("[env.args]\ndepth = 3", "env.args is for your own kind of environment, and env.kind houses"),
    ],
)
def test_settings_that_nothing_takes_are_told_when_they_are_read(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse(text, "mine.toml")


def test_entry_points_are_kinds_and_a_run_is_read_without_them(monkeypatch):
    points = EntryPoints([EntryPoint("deep", "own_parts:Deep", "d2skill.policies")])
    monkeypatch.setattr(parts, "entry_points", lambda group: points.select(group=group))
    text = dump(config(policy={"kind": "deep", "settings": {"depth": 2}}).resolved())
    assert make_policy(parse(text, "run"), tuple).settings.depth == 2
    monkeypatch.undo()
    with pytest.raises(ConfigError, match='no policy "deep"'):
        parse(text, "mine.toml")
    assert parse(text, "run", of_run=True).policy.kind == "deep"


def test_a_run_records_the_folder_and_finds_the_part_from_elsewhere(folder, tmp_path_factory, monkeypatch):
    recorded = dump(config(policy={"kind": "own_parts:Deep", "settings": {"depth": 4}}).resolved())
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(folder)])
    again = parse(recorded, "run", of_run=True)
    assert again.policy.folder == folder
    assert make_policy(again, tuple).settings.depth == 4
    assert again.resolved() == again


def test_no_folder_is_recorded_for_what_every_process_finds():
    assert folder_of("scorer") is None and folder_of("numpy:array") is None and folder_of("json:JSONDecoder") is None
    assert folder_of("nowhere:Here") is None and folder_of("__main__:Here") is None
    assert folder_of("gymnasium:own_parts:Deep") == Path.cwd()


def flags(*words) -> Config:
    return parse_settings([*words], "d2skill train")


def test_flags_give_a_table_as_a_whole_or_one_by_one(tmp_path):
    policy = ["--policy", "own_parts:Deep"]
    assert flags(*policy, "--policy.settings", '{"depth": 3}').policy.settings == {"depth": 3}
    assert flags(*policy, "--policy.settings.depth", "3", "--policy.settings.name=x").policy.settings == {
        "depth": 3,
        "name": "x",
    }
    nested = flags(*policy, "--policy.settings.net.learning-rate", "-0.5", "--policy.settings.fast", "true").policy
    assert nested.settings == {"net": {"learning_rate": -0.5}, "fast": True}
    file = tmp_path / "mine.toml"
    file.write_text("[policy]\nkind = 'own_parts:Deep'\n[policy.settings]\ndepth = 3\nname = 'x'\n")
    laid = flags("--config", str(file), "--policy.settings.depth", "4").policy.settings
    assert laid == {"depth": 4, "name": "x"}
    assert flags("--env", "own_parts:Deep", "--env.args.size", "3").env.args == {"size": 3}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--policy.settings", "depth"], "'depth' is no table in JSON"),
        (["--policy.settings", "[1]"], "policy.settings = "),
        (["--policy.settings", '{"depth": null}'], "null"),
        (["--policy.settings.depth"], "--policy.settings.depth needs a value"),
        (["--policy.settings.depth", "--seed", "3"], "--policy.settings.depth needs a value"),
    ],
)
def test_wrong_tables_are_told(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        flags("--policy", "own_parts:Deep", *words)


def test_a_table_reads_back_from_toml():
    table = {"depth": 3, "names": ["a", "b"], "net": {"rate": 0.5, "on": True}}
    made = config(policy={"kind": "own_parts:Deep", "settings": table})
    assert parse(dump(made), "mine.toml") == made
    assert json.loads(json.dumps(made.policy.settings)) == table
