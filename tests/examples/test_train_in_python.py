"""The example and the notebook that train from Python run, cell by cell, and show what they say."""

import ast
import json
from pathlib import Path

import pytest

import d2skill

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = (EXAMPLES / "train_in_python.py").read_text()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to run in; the examples find each other as when they are started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return tmp_path


def test_it_has_20_lines_of_code_at_most():
    tree = ast.parse(SCRIPT)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body.pop(0)
    assert len(ast.unparse(tree).replace("\n\n", "\n").splitlines()) <= 20


def test_the_script_trains_with_the_own_parts(folder, capsys):
    assert '"train.iterations": 40' in SCRIPT
    exec(
        compile(SCRIPT.replace('"train.iterations": 40', '"train.iterations": 4'), "script", "exec"), {"__name__": "x"}
    )
    (made,) = (folder / "runs").iterdir()
    run = d2skill.Run.open(made)
    assert made.name.startswith("treasurehunt-") and run.summary["iterations"] == 4
    assert {one.split(":")[1] for one in json.loads((made / "parts.json").read_text()).values()} == {
        "TreasureHunt",
        "Diary",
    }
    said = capsys.readouterr().out
    assert said.startswith(f"<Run {Path('runs') / made.name}; iterations: 4;") and "First " in said


def test_the_cells_of_the_notebook_run_in_order(capsys):
    names, shown = {"__name__": "notebook"}, []
    for cell in json.loads((EXAMPLES / "train_in_python.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            *body, last = ast.parse("".join(cell["source"])).body
            tail = isinstance(last, ast.Expr)
            exec(compile(ast.Module(body if tail else [*body, last], []), "cell", "exec"), names)
            shown += [eval(compile(ast.Expression(last.value), "cell", "eval"), names)] if tail else []
    run, metrics, played, bank, texts, arms = shown
    assert "success with skills" in run._repr_html_() and run.folder.name in run._repr_html_()
    assert metrics["iteration"].tolist() == [0, 5, 10, 15, 20][: len(metrics)] and len(played) == 8
    assert len(bank) > 10 and all(text.startswith("First ") for text in texts) and texts
    assert arms["bank"] == run.summary["validation"]["with_skills"]["success"]
    assert set(arms) == {"none", "bank", "shuffled"}
    assert "of the panel solved with skills" in capsys.readouterr().out
