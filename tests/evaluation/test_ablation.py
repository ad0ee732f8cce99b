"""Rows, folders and processes of an ablation; the runs are real and tiny."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import tiny_config

from d2skill.config import Config
from d2skill.config.toml_files import dump
from d2skill.errors import ConfigError, RunError
from d2skill.evaluation import ablation
from d2skill.evaluation.ablation import (
    VARIANTS,
    claim_folder,
    default_variants,
    planned_runs,
    run_state,
    variant_config,
)
from d2skill.evaluation.curves import flat_settings
from d2skill.runs.folder import RunFolder

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _toys_are_found_by_runs(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


# rows


def changed(row, base=None):
    base = base or Config()
    new, old = flat_settings(variant_config(row, base)), flat_settings(base)
    return {name: value for name, value in new.items() if value != old[name]}


def test_the_rows_are_those_of_the_paper_and_two_of_consolidated_skills():
    paper = {
        "full": {},
        "no-task-skills": {"retrieval.k_task": 0},
        "no-step-skills": {"retrieval.k_step": 0},
        "no-pruning": {"bank.task_capacity": 1_000_000, "bank.step_capacity": 1_000_000},
        "no-baseline-group": {"rollout.with_skills": 8},
        "no-utility-in-retrieval": {"retrieval.alpha": 1.0},
        "no-utility": {"retrieval.alpha": 1.0, "retrieval.eta": 0.0, "bank.worth": "none"},
        "no-skills": {"rollout.with_skills": 0},
    }
    new = {"shown-once": {"prompt.until_done": False}, "paper-skills": {"bank.skills": "paper"}}
    assert {row: changed(row) for row in VARIANTS} == paper | new


def test_rows_that_say_nothing_of_a_kind_of_skills_are_left_out():
    paper = Config.model_validate({"bank": {"skills": "paper"}})
    assert {*VARIANTS} - {*default_variants(Config())} == {"no-utility-in-retrieval", "no-utility"}
    assert {*VARIANTS} - {*default_variants(paper)} == {"shown-once", "paper-skills"}
    rows = planned_runs(Config(), ["full", "paper-skills"], 1, Path("x"))
    assert [run.config.advantage.normalise for run in rows] == ["half", "group"], "each in its own way"


def test_rows_lie_over_the_settings_given():
    base = tiny_config(retrieval={"alpha": 0.3, "k_step": 2}, bank={"retire": True})
    assert changed("no-baseline-group", tiny_config()) == {"rollout.with_skills": 4}
    assert variant_config("no-step-skills", base).retrieval.alpha == 0.3
    assert not variant_config("no-pruning", base).bank.retire  # or bad skills would be taken out all the same


@pytest.mark.parametrize("row", ["no-baseline-group", "no-utility"])
@pytest.mark.parametrize("setting", [{"trial": 0.25}, {"retire": True}])
def test_what_judges_skills_by_what_a_row_takes_away_is_refused(row, setting):
    (name,) = setting
    with pytest.raises(
        ConfigError, match=rf"row {row}: bank\.{name} judges skills by .*, or leave the row out"
    ) as told:
        variant_config(row, tiny_config(bank=setting))
    assert "\n" not in str(told.value)
    with pytest.raises(ConfigError, match=f"bank.{name} judges"):
        planned_runs(tiny_config(bank=setting), ["full", row], 1, Path("x"))


def test_a_row_that_changes_nothing_is_refused():
    with pytest.raises(ConfigError, match="row no-task-skills is the same as full with these settings"):
        variant_config("no-task-skills", tiny_config(retrieval={"k_task": 0}))


def test_runs_are_planned_seed_by_seed_from_the_first_on():
    runs = planned_runs(tiny_config(seed=5, out="elsewhere"), ["full", "no-skills"], 2, Path("runs/a"))
    assert [run.folder.name for run in runs] == ["full-5", "no-skills-5", "full-6", "no-skills-6"]
    assert [(run.config.seed, run.config.out) for run in runs] == [(5, None), (5, None), (6, None), (6, None)]
    assert runs[0].config.optim.learning_rate == 0.01  # resolved, as a run records it


@pytest.mark.parametrize(
    ("rows", "seeds", "told"),
    [
        (["full", "no-luck"], 1, 'there is no row "no-luck": --rows takes full, no-task-skills, .*, no-skills'),
        ([], 1, "--rows takes each of some rows once"),
        (["full", "full"], 1, "--rows takes each of some rows once"),
        (["full"], 0, "--seeds 0 gives no run"),
    ],
)
def test_what_cannot_be_planned_is_told(rows, seeds, told):
    with pytest.raises(ConfigError, match=told):
        planned_runs(tiny_config(), rows, seeds, Path("x"))


def test_settings_without_skills_have_no_rows():
    with pytest.raises(ConfigError, match=r"rollout\.with_skills is 0 in the settings"):
        planned_runs(tiny_config(rollout={"with_skills": 0}), ["full"], 1, Path("x"))


# folders


def small(folder, rows=("full",), seeds=1, **settings):
    return planned_runs(tiny_config(**settings), list(rows), seeds, folder)


def fill(run, *names, config=None):
    run.folder.mkdir(parents=True)
    (run.folder / "config.toml").write_text(dump(config or run.config))
    for name in names:
        (run.folder / name).mkdir(parents=True) if "/" in name else (run.folder / name).write_text("{}")


def test_how_far_a_run_is(tmp_path):
    (run,) = small(tmp_path)
    assert run_state(run) == "new"
    run.folder.mkdir()
    assert run_state(run) == "new"
    (run.folder / "notes.txt").write_text("mine")
    assert run_state(run) == "broken"
    (run.folder / "config.toml").write_text("no settings are read of what is put aside")
    assert run_state(run) == "broken"


def test_a_checkpoint_is_gone_on_with_and_a_summary_is_the_end(tmp_path):
    first, second = small(tmp_path, seeds=2)
    fill(first, "checkpoints/000002")
    fill(second, "checkpoints/000002", "summary.json")
    assert (run_state(first), run_state(second)) == ("stopped", "ended")


def test_a_file_in_the_way_is_broken(tmp_path):
    (run,) = small(tmp_path)
    run.folder.write_text("a file")
    assert run_state(run) == "broken"


def test_other_settings_are_refused_but_for_the_folder(tmp_path):
    (run,) = small(tmp_path)
    fill(run, "summary.json", config=run.config.model_copy(update={"out": Path("where/it/was")}))
    assert run_state(run) == "ended"
    (other,) = small(tmp_path, retrieval={"k_task": 1})
    with pytest.raises(
        RunError, match=r"full-0 was made with retrieval\.k_task 3, not 1: choose another --out"
    ) as told:
        run_state(other)
    assert "\n" not in str(told.value)


def test_a_folder_is_worked_in_by_one(tmp_path):
    with claim_folder(tmp_path / "a"):
        assert claim_is_refused(tmp_path / "a")
    assert not claim_is_refused(tmp_path / "a")


# processes


def carried_out(folder, runs, jobs=1):
    """Carries out what has not ended; returns outcomes and the report."""
    outcomes = []
    with claim_folder(folder) as lock:
        todo = [run for run in runs if run_state(run) != "ended"]
        failed = ablation._train(todo, jobs, lock, outcomes.append)
    return outcomes, ablation._report(runs, tiny_config(), failed, "d2skill ablate")


def results(folder, name):
    lines = RunFolder.open(folder / name).read_metrics()
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


def test_runs_end_as_if_made_by_train(tmp_path):
    runs = small(tmp_path / "a", ["full", "no-baseline-group", "no-utility", "no-skills"])
    outcomes, told = carried_out(tmp_path / "a", runs, jobs=2)
    assert {outcome.run for outcome in outcomes} == {*runs} and not any(outcome.error for outcome in outcomes)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(
        [".lock", *(run.folder.name for run in runs), *(f"{run.variant}.toml" for run in runs)]
    )
    for run in runs:
        made = RunFolder.open(run.folder).config()
        assert made.model_copy(update={"out": None}) == run.config
    by_hand = ["train", "--config", str(runs[0].settings_file), "--seed", "0", "--out", str(tmp_path / "hand")]
    subprocess.run([sys.executable, "-m", "d2skill", *by_hand], check=True, capture_output=True)
    assert results(tmp_path, "hand") == results(tmp_path / "a", "full-0")
    alone = results(tmp_path / "a", "no-baseline-group-0")
    assert not any("rollout/baseline_half_success" in line for line in alone)
    assert sum(line.get("bank/credited", 0) for line in alone) > 0
    assert [row["row"] for row in told["rows"]] == ["full", "no-baseline-group", "no-utility", "no-skills"]
    full, *_, none = told["rows"]
    assert none["bank"] == {"task": 0, "step": 0} and full["bank"] != none["bank"]
    assert none["headline"] == none["without_skills"]
    assert full["difference_to_full"] is None and none["difference_to_full"]["ci95"] is None
    gap = none["headline"]["mean"] - full["headline"]["mean"]
    assert none["difference_to_full"]["mean"] == pytest.approx(gap)
    # nothing is left to do
    again, same = carried_out(tmp_path / "a", runs)
    assert again == [] and same == told


def test_the_report_is_paired_by_seed(tmp_path):
    runs = small(tmp_path / "a", ["full", "no-skills"], seeds=2, train={"iterations": 1, "checkpoint_every": 1})
    _, told = carried_out(tmp_path / "a", runs)
    full, none = told["rows"]
    pairs = [b["headline"] - a["headline"] for a, b in zip(full["runs"], none["runs"], strict=True)]
    assert [run["seed"] for run in full["runs"]] == [0, 1] == told["seeds"]
    assert none["difference_to_full"]["mean"] == pytest.approx(sum(pairs) / 2)
    low, high = none["difference_to_full"]["ci95"]
    assert (high - low) / 2 == pytest.approx(12.7062 * abs(pairs[0] - pairs[1]) / 2, rel=1e-4)
    assert told["notes"][0].startswith("Fewer than 3 evaluations")
    json.dumps(told, allow_nan=False)


def test_a_failing_run_is_told_of_and_the_others_go_on(tmp_path):
    folder = tmp_path / "a"
    runs = small(folder, ["full", "no-skills"], train={"iterations": 1, "checkpoint_every": 1})
    fill(runs[0], "checkpoints/000002")
    outcomes, told = carried_out(folder, runs)
    failed, fine = outcomes
    assert failed.run is runs[0] and "none before it is whole" in failed.error and "\n" not in failed.error
    assert fine.error == ""
    assert told["failed"] == [{"run": str(folder / "full-0"), "error": failed.error}]
    assert told["rows"][0]["headline"] is None and told["rows"][1]["headline"]["n"] == 1
    assert told["rows"][1]["difference_to_full"] is None


def test_an_error_of_many_lines_is_kept_whole(tmp_path):
    runs = small(tmp_path / "a", train={"iterations": 1, "checkpoint_every": 1})
    fill(runs[0], "checkpoints/000001/policy", "tasks.json")
    (runs[0].folder / "checkpoints" / "000001" / "progress.json").write_text("[]")
    runs[0].error_file.write_text("of an earlier time")
    (outcome,), _ = carried_out(tmp_path / "a", runs)
    assert outcome.error and "earlier" not in runs[0].error_file.read_text()
    runs[0].error_file.write_text("Traceback\n  line\nValueError: no\n")
    assert ablation._error(runs[0], 1) == f"ValueError: no (all of it in {runs[0].error_file})"
    runs[0].error_file.write_text("")
    assert ablation._error(runs[0], -9) == "it ended with status -9 and said nothing"


def test_what_cannot_be_gone_on_with_is_put_aside(tmp_path):
    folder = tmp_path / "a"
    runs = small(folder, train={"iterations": 1, "checkpoint_every": 1})
    fill(runs[0], "metrics.jsonl")
    (folder / "full-0.aside-1").mkdir()
    outcomes, _ = carried_out(folder, runs)
    assert outcomes[0].error == "" and run_state(runs[0]) == "ended"
    assert sorted(path.name for path in (folder / "full-0.aside-2").iterdir()) == ["config.toml", "metrics.jsonl"]


# interruption

LONG = tiny_config(train={"iterations": 60, "checkpoint_every": 5}, validation={"every": 30, "tasks": 8})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run of `LONG` that was left alone."""
    run = tmp_path_factory.mktemp("whole") / "run"
    (run.parent / "base.toml").write_text(dump(LONG))
    train = [sys.executable, "-m", "d2skill", "train", "--config", str(run.parent / "base.toml"), "--out", str(run)]
    subprocess.run(train, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(TESTS)})
    return run


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_ablation_is_gone_on_with(tmp_path, whole, stop):
    settings = tmp_path / "base.toml"
    settings.write_text(dump(LONG))
    folder = tmp_path / "a"
    command = [sys.executable, "-m", "d2skill", "ablate", "--config", str(settings), "--seeds", "1", "--jobs", "1"]
    command += ["--rows", "full", "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: sum(1 for _ in (folder / "full-0" / "metrics.jsonl").open()) > 7, process)
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    if stop == signal.SIGKILL:  # the run goes on alone, and keeps the folder claimed until it has ended
        assert (folder / "full-0" / "summary.json").exists() or claim_is_refused(folder)
        wait_for(lambda: not claim_is_refused(folder))
    else:
        assert process.returncode == 128 + stop
        assert said.startswith("d2skill: interrupted: go on by the same command, `d2skill ablate --config")
        assert not claim_is_refused(folder), "a run was left alone"
        assert not (folder / "full-0" / "summary.json").exists() and not (folder / "full-0.stderr").exists()
        before = RunFolder.open(folder / "full-0").read_metrics()
        assert 0 < before[-1]["iteration"] < 60
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("full-0: " in done.stdout) == (stop != signal.SIGKILL)  # else it had ended by then
    assert results(whole.parent, "run") == results(folder, "full-0")


def claim_is_refused(folder):
    try:
        with claim_folder(folder):
            return False
    except RunError as error:
        assert "another `d2skill ablate`, or a run that one has left, is at work in" in str(error)
        return True


def wait_for(condition, process=None):
    """Waits until something is so; what is not there yet is not."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    raise AssertionError("waited too long")


def test_a_run_that_takes_too_long_to_stop_is_killed(monkeypatch):
    monkeypatch.setattr(ablation, "_PATIENCE_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    process.stdout.readline()
    ablation._stop([process])
    assert process.returncode == -signal.SIGKILL


def test_runs_keep_to_one_core_unless_told_otherwise(tmp_path, monkeypatch):
    seen = []

    class Ended:
        returncode = 0

        def __init__(self, words, **given):
            seen.append((words, given["env"]["OMP_NUM_THREADS"]))

        def poll(self):
            return 0

    monkeypatch.setattr(subprocess, "Popen", Ended)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "OMP_NUM_THREADS" not in os.environ
    (tmp_path / "a").mkdir()
    runs = small(tmp_path / "a", ["full", "no-skills"])
    ablation._train(runs, 1, 0, lambda outcome: monkeypatch.setenv("OMP_NUM_THREADS", "3"))
    assert [threads for _, threads in seen] == ["1", "3"]
