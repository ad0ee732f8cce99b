"""Runs and banks that version 0.1.0 wrote open, resume, evaluate, list and import as they did then.

`data/runs_of_0_1_0.tar.xz` was written by 0.1.0: a run of 8 iterations (`whole`), the same settings stopped after 4
(`stopped`), its evaluation, a journal that was edited by hand (`edited.db`), exports, and the skills of each journal as
0.1.0 read them (`banks.json`).
"""

import json
import tarfile
from pathlib import Path

import pytest

from d2skill import SkillBank
from d2skill.bank.formats import import_record
from d2skill.bank.journal import Journal
from d2skill.cli.main import main

ARCHIVE = Path(__file__).parent / "data" / "runs_of_0_1_0.tar.xz"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def metrics_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]


@pytest.mark.parametrize("name", ["whole/bank.db", "stopped/bank.db", "edited.db"])
def test_journals_hold_the_skills_that_they_held(name, earlier):
    state = Journal(earlier / name).replay()
    wanted = json.loads((earlier / "banks.json").read_text())[name]
    for skill, then in zip(state.skills(), wanted, strict=True):
        assert (skill.id, skill.text.title, skill.source_task) == (then["id"], then["title"], then["task"])
        assert (skill.utility, skill.credits, skill.retrievals) == (
            then["utility"],
            then["credits"],
            then["retrievals"],
        )
        worth = state.worth(skill.id)
        assert (skill.created, worth.signals, worth.mean) == (then["created"], then["signals"], then["mean"])
        mark = state.marks.get(skill.id)
        assert (mark.status if mark else "active") == then["status"]


def test_a_stopped_run_goes_on_as_it_would_have(earlier):
    """Resumed now, the run that 0.1.0 stopped after 4 iterations ends as the one that 0.1.0 ran to the end.

    Sums of the scorer have another order since, so their last digits may differ.
    """
    stopped = earlier / "stopped"
    text = (stopped / "config.toml").read_text()
    (stopped / "config.toml").write_text(text.replace("iterations = 4\n", "iterations = 8\n"))
    (stopped / "summary.json").unlink()
    main(["resume", str(stopped)])
    for now, then in zip(metrics_of(stopped), metrics_of(earlier / "whole"), strict=True):
        assert now == pytest.approx(then, rel=1e-9, abs=1e-12)
    whole, now = (SkillBank.open(earlier / name / "bank.db").skills() for name in ("whole", "stopped"))
    assert now == whole


def test_an_evaluation_gives_the_outcomes_that_it_gave(earlier, tmp_path):
    main(["evaluate", str(earlier / "whole"), "--arms", "none,bank,shuffled", "--json", str(tmp_path / "now.json")])
    then, now = (json.loads(path.read_text()) for path in (earlier / "evaluation.json", tmp_path / "now.json"))
    assert now["outcomes"] == then["outcomes"]
    assert now["arms"] == then["arms"]
    for one in (now, then):  # where no task differs, the interval is no longer 0 wide
        for difference in one["differences"].values():
            for figure in difference.values():
                if isinstance(figure, dict) and figure["wins"] == figure["losses"] == 0:
                    assert (figure.pop("ci95") == [0.0, 0.0]) == (one is then)
    assert now["differences"] == then["differences"]


def test_it_lists_shows_and_verifies(earlier, capsys):
    whole = str(earlier / "whole")
    for words in (
        ["list", whole],
        ["show", whole, "s14"],
        ["blame", whole, "s14"],
        ["verify", whole],
        ["stats", whole],
    ):
        main(["bank", *words])
    printed = capsys.readouterr().out
    assert "s14" in printed and "is whole" in printed
    main(["play", "--replay", whole])
    main(["resume", whole])
    assert "has ended" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["bank.jsonl", "release.json", "skills"])
def test_exports_are_imported(name, earlier):
    skills = import_record(earlier / name).skills
    active = [
        one for one in json.loads((earlier / "banks.json").read_text())["whole/bank.db"] if one["status"] == "active"
    ]
    assert sorted(skill.text.title for skill in skills) == sorted(one["title"] for one in active)
