"""`d2skill init` writes parts that work: they keep their contract, and a run with them goes on from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import fails

from d2skill.cli.main import main
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.runs.run import Run

FLAGS = {
    "env": ("--env", "--env.args.boxes", "5"),
    "policy": ("--policy", "--policy.settings.rate", "0.2"),
    "reflector": ("--reflect.kind", "--reflect.settings.actions", "2"),
    "embedder": ("--embedder.kind", "--embedder.settings.dimension", "64"),
}
SECTIONS = {"env": "env", "policy": "policy", "reflector": "reflect", "embedder": "embedder"}
TINY = [
    *("--env", "d2skill.testing:TinyEnvironment", "--env.max-steps", "6", "--bank.skills", "paper"),
    *("--rollout.tasks", "3", "--rollout.group-size", "4", "--rollout.with-skills", "2"),
    *("--warm-start.tasks", "4", "--validation.tasks", "4", "--validation.every", "1"),
    *("--train.iterations", "2", "--train.checkpoint-every", "1", "--out", "run"),
]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder to write parts into; their modules are forgotten after the test."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield folder
    for module in [module for module in sys.modules if module.startswith(("fresh_", "broken_"))]:
        del sys.modules[module]


@pytest.mark.parametrize("part", FLAGS)
def test_a_new_part_trains_and_its_run_is_read_from_elsewhere(part, here, tmp_path, monkeypatch, capsys):
    name, kind = f"fresh_{part}", f"fresh_{part}:Fresh{part.capitalize()}"
    main(["init", part, name])
    assert f"d2skill check-{part} {kind}" in capsys.readouterr().out
    main([f"check-{part}", kind])
    assert "WRONG" not in capsys.readouterr().out
    flag, *settings = FLAGS[part]
    main(["train", *TINY, flag, kind, *settings])
    run = RunFolder.open(here / "run")
    section = getattr(run.config(), SECTIONS[part])
    assert (section.kind, section.folder) == (kind, here)

    for file in (run.summary, *sorted((run.path / "checkpoints" / "000002").rglob("*"), reverse=True)):
        file.rmdir() if file.is_dir() else file.unlink()  # as if it had stopped after the first iteration
    (run.path / "checkpoints" / "000002").rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for module in [module for module in sys.modules if module.startswith("fresh_")]:
        del sys.modules[module]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(here)])
    main(["resume", str(run.path)])
    assert checkpoint.read_progress(checkpoint.latest(run.path)).iteration == 2
    main(["evaluate", str(run.path)])
    main(["bank", "list", str(run.path)])
    main(["bank", "verify", str(run.path)])
    capsys.readouterr()
    main(["doctor", "--config", str(run.path / "config.toml")])
    assert f"{SECTIONS[part]}.kind" in capsys.readouterr().out
    main(["plan", "--config", str(run.path / "config.toml")])


def test_workers_find_an_environment_of_ones_own(here, tmp_path, monkeypatch):
    main(["init", "env", "fresh_env"])
    main(["train", *TINY, "--env", "fresh_env:FreshEnv", "--processes", "2"])
    monkeypatch.chdir(tmp_path)
    main(["evaluate", str(here / "run"), "--workers", "2"])


def test_the_tests_of_new_parts_run(here, capsys):
    for part in (*FLAGS, "tracker"):
        main(["init", part, f"fresh_{part}"])
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], capture_output=True, text=True)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout
    main(["check-tracker", "fresh_tracker:FreshTracker", "--settings", '{"file": "metrics.jsonl"}'])
    assert (here / "metrics.jsonl").read_text().count("\n")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("rate", ["0.1", "0.2"])
def test_new_parts_learn_together(seed, rate, here, capsys):
    main(["init", "env", "fresh_env"])
    main(["init", "policy", "fresh_policy"])
    parts = ["--env", "fresh_env:FreshEnv", "--policy", "fresh_policy:FreshPolicy", "--policy.settings.rate", rate]
    main(["train", *parts, "--train.iterations", "8", "--seed", str(seed), "--out", "run"])
    measured = [one["validation/with_skills"] for one in Run.open("run").metrics if "validation/with_skills" in one]
    assert measured[0] <= 0.6 and measured[-1] >= 0.7
    skills = {skill.text.title: (skill.supports, skill.refutes) for skill in Run.open("run").bank.skills("step")}
    assert skills["ruby: in box 1"] == (24, 0)


def test_the_commands_that_are_printed_run(here, capsys, monkeypatch):
    for part in (*FLAGS, "tracker"):
        capsys.readouterr()
        main(["init", part, f"fresh_{part}", "--json"])
        *_, train = json.loads(capsys.readouterr().out)["next"]
        assert "TinyEnvironment" in train or part == "env"
        words = train.replace("--train.iterations 10", "--train.iterations 1").split()
        main([*words[1:], "--rollout.tasks", "2", "--out", part])
        assert Run.open(part).summary["iterations"] == 1
    monkeypatch.setattr("d2skill.cli.init.find_spec", lambda name: None)
    main(["init", "policy", "fresh_other"])
    assert "The test needs pytest: pip install pytest" in capsys.readouterr().out


def test_a_resume_without_its_environment_does_not_say_that_it_goes_on(here, capsys):
    main(["init", "env", "fresh_env"])
    main(["train", *TINY, "--env", "fresh_env:FreshEnv"])
    run = RunFolder.open(here / "run")
    run.summary.unlink()
    capsys.readouterr()
    main(["resume", "run"])
    assert capsys.readouterr().out.startswith("Going on with ")
    run.summary.unlink()
    (here / "fresh_env.py").unlink()
    for module in [module for module in sys.modules if module.startswith("fresh_")]:
        del sys.modules[module]
    with pytest.raises(SystemExit):
        main(["resume", "run"])
    shown = capsys.readouterr()
    assert "fresh_env" in shown.err and "Going on" not in shown.out


def test_nothing_is_overwritten(here, capsys):
    main(["init", "policy", "mine"])
    (here / "mine.py").write_text("precious")
    assert "mine.py exists, and nothing is overwritten" in fails(capsys, "init", "env", "mine")
    (here / "mine.py").unlink()
    assert "test_mine.py exists" in fails(capsys, "init", "env", "mine")
    assert not (here / "mine.py").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("my-policy", "use letters, digits and _, as in my_policy"),
        ("mine.py", "as in mine"),
        ("class", "is no name of a module"),
        ("_", "is no name of a module"),
        ("json", "there is a module json already"),
    ],
)
def test_a_name_that_no_module_can_have_is_told(name, sentence, here, capsys):
    assert sentence in fails(capsys, "init", "policy", name)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["check-policy", "scorr"], "did you mean scorer?"),
        (["check-policy", "scorer", "--settings", '{"a": 1}'], "policy.settings is for your own kind of policy"),
        (["check-embedder", "nowhere:Here"], "is neither in"),
        (["check-tracker", "d2skill.testing:TinyPolicy"], "is no tracker, it lacks log"),
        (["check-reflector", "contrast", "--settings", "3"], "is no table in JSON"),
    ],
)
def test_a_check_of_what_is_not_there_is_told(words, sentence, here, capsys):
    assert sentence in fails(capsys, *words)


def test_a_module_without_its_class_and_one_with_a_mistake_are_told(here, capsys):
    main(["init", "policy", "fresh_policy"])
    assert "(did you mean fresh_policy:FreshPolicy?)" in fails(capsys, "check-policy", "fresh_policy")
    (here / "broken_syntax.py").write_text("class A:\n    def x(self:\n")
    told = fails(capsys, "check-policy", "broken_syntax:A")
    assert "SyntaxError: '(' was never closed (broken_syntax.py, line 2))" in told and "import_module" not in told


def test_a_broken_part_has_exit_status_1(here, capsys):
    (here / "broken_part.py").write_text(
        "from d2skill.testing import TinyTracker\nclass Broken(TinyTracker):\n    def log(self, metrics): 1 / 0\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["check-tracker", "broken_part:Broken"])
    assert ended.value.code == 1 and "WRONG log(metrics)" in capsys.readouterr().out
