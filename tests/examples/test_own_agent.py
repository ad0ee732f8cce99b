"""The example of an agent of one's own: two sessions in a row, and one that is interrupted between them."""

import random
import runpy
from pathlib import Path

import pytest

from d2skill import SkillBank

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_agent.py"


def test_the_second_session_knows_what_the_first_one_learned(tmp_path, capsys, monkeypatch):
    example, file = runpy.run_path(str(EXAMPLE)), tmp_path / "skills.db"
    random.seed(0)
    first = example["main"](file)
    kept = SkillBank.open(file).skills()

    def breaks(*_, **__):
        raise RuntimeError("the model is out of reach")

    monkeypatch.setitem(example["main"].__globals__, "outcome_signals", breaks)
    with pytest.raises(RuntimeError, match="out of reach"):
        example["main"](file)
    monkeypatch.undo()
    assert SkillBank.open(file).skills() == kept, "not even the counts of what was shown"
    assert example["main"](file) == 1.0 > first
    assert "4 task, 4 step" in capsys.readouterr().out
