"""Counts what keeps the code easy to find one's way in, and checks the limits (docs/architecture.md).

    python tools/structure.py            prints the counts and what is over a limit
    python tools/structure.py --check    the same, with exit status 1 if anything is

The counts: Python files at the top of src/d2skill, first lines of docstrings, public functions without `Args:`, lines
of source, and imports against the floors. Nothing of the package is imported.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).parents[1] / "src" / "d2skill"

# The rooms on each floor, lowest first. A module belongs to the longest name that it starts with. It may import from
# lower floors and from its own room; so implementations, which share a floor, never import each other.
FLOORS = [
    "errors",
    "types",
    "utils",
    "config",
    "knowledge",
    "protocols credit prompts config.toml_files endpoints bank.ranking bank.draft bank.safety bank.worth",
    "embedders",
    "bank.journal config.cli_flags config.overrides envs policies reflectors runs.trajectories testing",
    "bank",
    "bank.formats bank.history",
    "episode learner evaluation.skill_probe runs",
    "rollout play planning",
    "evaluation warm_start components iteration_metrics",
    "runs.run",
    "run_recorder evaluation.evaluate",
    "worker_rollouts",
    "trainer data_parallel trackers",
    "verl",
    "planning.plan planning.diagnostics",
    "api",
    "cli __init__",
    "__main__",
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}

TOP_FILES = 18
SOURCE_LINES = 47_500  # a feature that needs more raises it in its own commit, and says so
PARAMETERS = 3
FILE_LINES = 600

_RIDDLE = re.compile(r"(What|Where|Who|Whose|Whom|Which|How|When|Why|Whether)\b")
_SAME_AS = re.compile(r"See [A-Z]\w+\.")


def modules() -> dict[str, Path]:
    """Returns the modules of the package, named from below it: "bank.ranking"."""
    paths = sorted(SRC.rglob("*.py"))
    return {".".join(p.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def room_of(module: str) -> str:
    """Returns the room that a module belongs to, "" if it has none."""
    return max((room for room in FLOOR if module == room or module.startswith(room + ".")), key=len, default="")


def imports_of(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yields the modules of the package that a file imports; a name of the package itself as `__init__ (name)`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "d2skill":
            base = (node.module or "").removeprefix("d2skill").lstrip(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".lstrip(".")
                yield name if name in known else base or f"__init__ ({alias.name})"
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("d2skill.") for a in node.names if a.name.startswith("d2skill"))


def floor_faults(module: str, path: Path, known: dict[str, Path]) -> list[str]:
    """Returns the imports of a module that go up, or sideways into another room."""
    own = room_of(module)
    if not own:
        return [f"{module} is in no room: give it a floor in tools/structure.py"]
    faults = []
    for other in imports_of(path, known):
        room = room_of(other.split(" ")[0])
        if other != "__init__ (__version__)" and room != own and FLOOR[room] >= FLOOR[own]:
            faults.append(f"{module} imports {other}, which is not below it")
    return faults


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstring_faults(path: Path) -> tuple[list[str], list[str]]:
    """Returns the docstrings that begin with a question word, and the public functions that lack `Args:`."""
    riddles: list[str] = []
    bare: list[str] = []

    def visit(node: Documented, name: str, public: bool) -> None:
        doc = ast.get_docstring(node) or ""
        if _RIDDLE.match(doc):
            riddles.append(f'{name}: "{doc.splitlines()[0]}"')
        if public and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in given)
            if count > PARAMETERS and "Args:" not in doc and not _SAME_AS.match(doc):
                bare.append(f"{name}: {count} parameters")
        for child in node.body[1:]:  # a string after an assignment documents it
            if isinstance(child, ast.Expr) and _RIDDLE.match(str(getattr(child.value, "value", ""))):
                riddles.append(f"{name}: line {child.lineno}")
        for child in node.body:
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                open_ = public and not child.name.startswith("_") and isinstance(node, (ast.Module, ast.ClassDef))
                visit(child, f"{name}:{child.name}" if ":" not in name else f"{name}.{child.name}", open_)
                if isinstance(child, ast.ClassDef) and open_:
                    for method in child.body:  # the signature of a class is that of its __init__
                        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                            doc_of_both = f"{ast.get_docstring(child) or ''}\n{ast.get_docstring(method) or ''}"
                            given = [*method.args.args[1:], *method.args.kwonlyargs]
                            if len(given) > PARAMETERS and "Args:" not in doc_of_both:
                                bare.append(f"{name}:{child.name}: {len(given)} parameters")

    visit(ast.parse(path.read_text("utf-8")), path.relative_to(SRC).as_posix(), public=True)
    return riddles, bare


def counts() -> tuple[dict[str, int], list[str]]:
    """Returns the counts by name, and a sentence for each thing over its limit."""
    known = modules()
    faults: list[str] = []
    riddles: list[str] = []
    bare: list[str] = []
    for module, path in known.items():
        faults += floor_faults(module, path, known)
        more_riddles, more_bare = docstring_faults(path)
        riddles += more_riddles
        bare += more_bare
    names: dict[str, list[str]] = {}
    for module, path in known.items():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names.setdefault(node.name, []).append(module)
    twice = [f"class {name} is in {' and '.join(places)}" for name, places in names.items() if len(places) > 1]
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in known.values()}
    top = len(list(SRC.glob("*.py")))
    found = {
        "top_level_files": top,
        "files": len(known),
        "source_lines": sum(lines.values()),
        "imports_upwards": len(faults),
        "first_lines_that_ask": len(riddles),
        "public_functions_without_args": len(bare),
        "class_names_twice": len(twice),
    }
    faults += riddles + bare + twice
    if top > TOP_FILES:
        faults.append(f"{top} Python files at the top of src/d2skill, {TOP_FILES} at most: the top is for the method")
    if found["source_lines"] > SOURCE_LINES:
        faults.append(f"{found['source_lines']} lines of source, {SOURCE_LINES} at most: what can go?")
    faults += [
        f"{path.relative_to(SRC)} has {n} lines, {FILE_LINES} at most" for path, n in lines.items() if n > FILE_LINES
    ]
    return found, faults


def main() -> None:
    """Prints the counts as JSON, and what is over a limit."""
    found, faults = counts()
    print(json.dumps(found, indent=2))
    for fault in faults:
        print(fault)
    if "--check" in sys.argv[1:] and faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
