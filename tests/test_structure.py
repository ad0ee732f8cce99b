"""The structure holds: imports go down, names and docstrings are plain, and `import d2skill` is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import d2skill

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import structure  # noqa: E402

MODULES = structure.modules()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_only(module):
    assert structure.floor_faults(module, MODULES[module], MODULES) == []


def test_nothing_is_over_a_limit():
    assert structure.counts()[1] == []


def test_the_counts_find_what_they_look_for(tmp_path, monkeypatch):
    """Each limit bites: a module with one fault of each kind gives one sentence for each."""
    (tmp_path / "bank").mkdir()
    text = '"""What it is."""\nfrom d2skill.trainer import Trainer\n\ndef f(a, b, c, d):\n    """Does."""\n'
    (tmp_path / "bank" / "ranking.py").write_text(text + "class Twice:\n    pass\n")
    (tmp_path / "trainer.py").write_text('"""A trainer."""\nclass Twice:\n    pass\n')
    (tmp_path / "stray.py").write_text('"""A stray."""\n')
    monkeypatch.setattr(structure, "SRC", tmp_path)
    monkeypatch.setattr(structure, "TOP_FILES", 1)
    monkeypatch.setattr(structure, "SOURCE_LINES", 3)
    found, faults = structure.counts()
    assert found["imports_upwards"] == 2 and found["first_lines_that_ask"] == 1
    assert found["public_functions_without_args"] == 1 and found["class_names_twice"] == 1
    assert len(faults) == 2 + 1 + 1 + 1 + 2, faults


def test_no_relative_imports():
    for module, path in MODULES.items():
        nodes = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ImportFrom)]
        assert not any(n.level for n in nodes), module


HEAVY = "yaml torch transformers tokenizers openai starlette fastapi flask uvicorn aiohttp requests httpx gymnasium"


@pytest.mark.parametrize(
    "module",
    [
        "d2skill",
        "d2skill.api",
        "d2skill.trainer",
        "d2skill.cli.main",
        "d2skill.policies.scorer.policy",
        "d2skill.embedders",
    ],
)
def test_the_core_loads_nothing_heavy(module):
    code = f"import {module}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & set(HEAVY.split())


def test_the_package_has_the_names_it_promises():
    for name in d2skill.__all__:
        assert hasattr(d2skill, name)
    assert d2skill.__version__
