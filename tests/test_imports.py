"""Imports go down only, and `import d2skill` is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import d2skill

# The rooms on each floor, lowest first. A module belongs to the longest name that it starts with. It may import from
# lower floors and from its own room; so implementations, which share a floor, never import each other.
FLOORS = [
    "errors types",
    "utils config",
    "protocols credit prompts config.toml_files endpoints bank.ranking bank.draft bank.safety bank.worth",
    "bank.journal config.cli_flags embedders envs policies reflectors runs.trajectories",
    "bank bank.formats bank.history",
    "episode learner evaluation.skill_probe runs",
    "rollout play planning",
    "evaluation warm_start components iteration_metrics",
    "run_recorder",
    "trainer data_parallel trackers",
    "verl",
    "cli __init__",
    "__main__",
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
SRC = Path(d2skill.__file__).parent
MODULES = {".".join(p.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): p for p in SRC.rglob("*.py")}


def room(module: str) -> str:
    found = [name for name in FLOOR if module == name or module.startswith(name + ".")]
    assert found, f"{module} is in no room: give it a floor"
    return max(found, key=len, default="")


def imported(path: Path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "d2skill":
            base = (node.module or "").removeprefix("d2skill").lstrip(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".lstrip(".")
                yield name if name in MODULES else base or f"__init__ ({alias.name})"
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("d2skill.") for a in node.names if a.name.startswith("d2skill"))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_only(module):
    own = room(module)
    for other in imported(MODULES[module]):
        if other == "__init__ (__version__)":  # a constant, set by the metadata of the package
            continue
        target = room(other.split(" ")[0])
        assert target == own or FLOOR[target] < FLOOR[own], f"{module} imports {other}, which is not below it"


def test_no_relative_imports():
    for module, path in MODULES.items():
        nodes = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ImportFrom)]
        assert not any(n.level for n in nodes), module


HEAVY = "torch transformers tokenizers openai starlette fastapi flask uvicorn aiohttp requests httpx gymnasium"


@pytest.mark.parametrize(
    "module", ["d2skill", "d2skill.trainer", "d2skill.cli.main", "d2skill.policies.scorer.policy", "d2skill.embedders"]
)
def test_the_core_loads_nothing_heavy(module):
    code = f"import {module}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & set(HEAVY.split())


def test_the_package_has_the_names_it_promises():
    for name in d2skill.__all__:
        assert hasattr(d2skill, name)
    assert d2skill.__version__
