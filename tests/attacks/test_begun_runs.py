"""A run has begun once it has a checkpoint: what stops it before leaves nothing in the way, and after that goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import fails
from toys import tiny_config

import d2skill
from d2skill.cli.main import main
from d2skill.config.toml_files import dump
from d2skill.errors import RunError
from d2skill.runs import checkpoint
from d2skill.runs.beginning import BEGINNING
from d2skill.runs.folder import RunFolder

HERE = Path(__file__).parent
MOMENTS = 66
"""Moments of a run until it has begun, about (stopped_commands.py)"""
SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
STOPS = [
    *((["SIGINT", "SIGTERM", "SIGHUP"][number % 3], [at]) for number, at in enumerate(range(1, MOMENTS + 6, 12))),
    *(("SIGINT", [at, at + 3]) for at in (3, 40)),
    *(("SIGKILL", [at]) for at in (4, 64)),
]
MORE_STOPS = [(name, [at]) for at in range(2, MOMENTS + 1, 8) for name in (*SIGNALS, "SIGKILL")]
FILE_SIZES = [0, 2000, 40_000]


def run_all(cases):
    """Runs commands in forks of one process (stopped_commands.py)."""
    done = subprocess.run(
        [sys.executable, HERE / "stopped_commands.py"],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )
    return json.loads(done.stdout)


def settings_in(folder):
    file = folder / "settings.toml"
    file.write_text(dump(tiny_config(warm_start={"tasks": 3}, validation={"tasks": 2}, train={"iterations": 1})))
    return file


def stopped(folder, stops):
    """Trains and stops each run; then does what one does next with each, in turn `train` again and `resume`."""
    settings, cases = settings_in(folder), []
    for number, stop in enumerate(stops):
        out = str(folder / f"run{number}")
        case = {"out": out, "command": ["train", "--config", str(settings), "--out", out]}
        case |= {"bytes": stop} if isinstance(stop, int) else {"signal": getattr(signal, stop[0]), "at": stop[1]}
        cases.append(case)
    first = run_all(cases)
    left = [RunFolder(Path(case["out"])) for case in cases]
    has_begun = [run.has_begun() for run in left]
    follow = []
    for number, (case, run) in enumerate(zip(cases, left, strict=True)):
        resumes = has_begun[number] or (number % 2 and (run.path / "config.toml").exists())
        follow.append({"command": ["resume", case["out"]] if resumes else case["command"]})
    return list(zip(first, has_begun, follow, run_all(follow), left, strict=True))


def assert_taken_again(result):
    first, has_begun, then, after, run = result
    if first["status"] >= 0:
        assert first["said"].count("\n") == 1 and "Traceback" not in first["said"], first
        way_on = "go on by `d2skill resume" if has_begun else "start again"
        assert way_on in first["said"] or first["status"] == 0, first
    assert after["status"] == 0, (first, then, after)
    assert json.loads(run.summary.read_text())["iterations"] == 1
    assert not (run.path / BEGINNING).exists()


@pytest.fixture(scope="module")
def after_stops(tmp_path_factory):
    return stopped(tmp_path_factory.mktemp("stops"), [*STOPS, *FILE_SIZES])


@pytest.mark.parametrize("number", range(len(STOPS)), ids=[f"{name}-{at}" for name, at in STOPS])
def test_a_run_that_is_stopped_before_it_has_begun_can_be_begun_again(number, after_stops):
    name, _ = STOPS[number]
    first = after_stops[number][0]
    assert_taken_again(after_stops[number])
    assert first["status"] == (-signal.SIGKILL if name == "SIGKILL" else SIGNALS[name]), first
    assert name == "SIGKILL" or first["said"].startswith("d2skill: interrupted: ")


@pytest.mark.parametrize("number", range(len(FILE_SIZES)), ids=map(str, FILE_SIZES))
def test_a_run_on_a_full_disk_can_be_begun_again(number, after_stops):
    first = after_stops[len(STOPS) + number][0]
    assert_taken_again(after_stops[len(STOPS) + number])
    assert first["status"] == 2 and ("cannot be written" in first["said"] or "the disk fails" in first["said"]), first


@pytest.mark.slow
def test_a_run_that_is_stopped_at_many_more_moments_can_be_begun_again(tmp_path):
    results = stopped(tmp_path, [*MORE_STOPS, *range(1000, 100_000, 10_000)])
    for result in results:
        assert_taken_again(result)
    print(f"{len(results)} tried")


# one notion of it


def beginning(folder):
    """Makes what a process leaves that is killed in the warm start."""
    run = RunFolder.create(folder)
    run.begin(tiny_config(out=folder), {})
    (folder / "bank.db").write_bytes(b"half")
    (folder / ".tasks.json.part").write_bytes(b"half")
    run._lock.close()
    return run


def test_a_beginning_is_emptied_and_nothing_else_is(tmp_path):
    run = beginning(tmp_path / "run")
    (run.path / "notes.txt").write_text("mine")
    RunFolder.create(run.path)
    assert sorted(path.name for path in run.path.iterdir()) == [BEGINNING, "notes.txt"]


def line_of(folder, names=("config.toml", "wandb", "rollouts", "notes", "../beside")):
    """A line as the mark of a beginning in a folder has it."""
    return json.dumps({"folder": str(folder), "inode": folder.stat().st_ino, "makes": names}).encode() + b"\n"


FOREIGN = {
    "empty": lambda folder: b"",
    "of another folder": lambda folder: line_of(folder.parent),
    "no JSON": lambda folder: b"wandb\nrollouts\n",
    "cut short": lambda folder: line_of(folder)[:-20],
    "no names": lambda folder: line_of(folder, None),
    "a list": lambda folder: b"[" + line_of(folder) + b"]",
    "nested": lambda folder: b"[" * 50_000,
    "zeros": lambda folder: bytes(4096),
    "too long": lambda folder: b" " * (1 << 16) + line_of(folder),
    "no text": lambda folder: b"\xff\xfe" + line_of(folder),
    "a folder": None,
}


@pytest.fixture
def project(tmp_path):
    """A folder of somebody's, with what is named like parts of a run."""
    folder = tmp_path / "project"
    for name in ("wandb", "tensorboard", "rollouts", "verl", "checkpoints", "notes"):
        (folder / name).mkdir(parents=True)
        (folder / name / "mine.txt").write_text("mine")
    (folder / "config.toml").write_text("mine = true")
    (tmp_path / "beside").mkdir()
    return folder


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.parametrize("how", FOREIGN)
def test_a_mark_that_no_run_made_there_empties_nothing(how, project, capsys):
    make = FOREIGN[how]
    (project / BEGINNING).write_bytes(make(project)) if make else (project / BEGINNING).mkdir()
    before = contents(project)
    said = fails(capsys, *train_flags(project.parent), "--out", project)
    assert "is not empty" in said and "choose another --out" in said
    fails(capsys, "resume", project)
    assert contents(project) == before


def test_only_names_of_a_run_are_removed_whatever_a_mark_tells(project, caplog):
    (project / BEGINNING).write_bytes(line_of(project))
    RunFolder.create(project)
    left = {path.name for path in project.iterdir()}
    assert left == {BEGINNING, "tensorboard", "verl", "checkpoints", "notes"} and (project.parent / "beside").is_dir()
    assert "which stays: checkpoints, notes, tensorboard, verl" in caplog.text


def test_folders_that_the_run_did_not_make_stay_and_are_named(tmp_path, caplog):
    run = beginning(tmp_path / "run")
    for name in ("wandb", "tensorboard"):
        (run.path / name).mkdir()
    assert not caplog.text
    RunFolder.create(run.path, ["tensorboard"])._lock.close()
    assert (
        run.path / "wandb"
    ).is_dir() and "what the run before did not make, which stays: tensorboard, wandb" in caplog.text
    RunFolder.create(run.path)
    assert {path.name for path in run.path.iterdir()} == {BEGINNING, "wandb"}, "the second one told of tensorboard"


@pytest.mark.parametrize("left", [b"", b'{"folder": "', b"\n"])
def test_a_mark_that_a_full_disk_cut_short_is_begun_again(left, tmp_path):
    run = beginning(tmp_path / "run")
    with (run.path / BEGINNING).open("ab") as file:
        file.write(left)
    RunFolder.create(run.path, ["wandb"])._lock.close()
    (run.path / "wandb").mkdir()
    RunFolder.create(run.path)
    assert [path.name for path in run.path.iterdir()] == [BEGINNING]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / BEGINNING).write_bytes(left)
    assert RunFolder.create(tmp_path / "new").is_beginning()


def test_a_beginning_that_was_moved_is_begun_again_and_one_that_was_copied_is_not(tmp_path):
    run = beginning(tmp_path / "run")
    shutil.copytree(run.path, tmp_path / "copy")
    run.path.rename(tmp_path / "moved")
    assert [path.name for path in RunFolder.create(tmp_path / "moved").path.iterdir()] == [BEGINNING]
    with pytest.raises(RunError, match="does not tell what a run made there: choose another --out, or empty it"):
        RunFolder.create(tmp_path / "copy")
    with pytest.raises(RunError, match="start it anew, in another folder"):
        d2skill.resume(tmp_path / "copy")


def of_one_s_own(folder):
    (folder / "config.toml").write_text(dump(tiny_config()))


def without_checkpoints(folder):
    """A run whose checkpoints somebody removed; a mark that a crash left does not make it a beginning."""
    run = beginning(folder)
    for iteration in range(3):
        run.append_metrics({"iteration": iteration})


def ended(folder):
    beginning(folder).write_summary({"iterations": 3})


def begun(folder):
    beginning(folder)
    (folder / "checkpoints" / "000000").mkdir(parents=True)


@pytest.mark.parametrize("make", [of_one_s_own, without_checkpoints, ended, begun])
def test_what_may_be_worth_something_is_never_emptied(make, tmp_path):
    folder = tmp_path / "run"
    if make is of_one_s_own:
        folder.mkdir()
    make(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="is not empty: choose another --out"):
        RunFolder.create(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_two_processes_do_not_begin_in_one_folder(tmp_path):
    first = RunFolder.create(tmp_path / "run")
    with pytest.raises(RunError, match="another process begins a run in"):
        RunFolder.create(tmp_path / "run")
    first.discard()
    RunFolder.create(tmp_path / "run")


def test_a_beginning_without_settings_says_how_to_start_it(tmp_path, capsys):
    run = RunFolder.create(tmp_path / "run")
    run._lock.close()
    assert "holds only the beginning of a run, without its settings: start it again by `d2skill train --out" in fails(
        capsys, "resume", run.path
    )


def test_other_commands_say_what_a_beginning_is(tmp_path, capsys):
    run = beginning(tmp_path / "run")
    assert "begin it again by `d2skill resume" in fails(capsys, "evaluate", run.path)


# jobs that are queued again


def train_flags(folder, *more):
    settings = folder / "settings.toml"
    settings.write_text(dump(tiny_config(train={"iterations": 2})))
    return ["train", "--config", str(settings), "--resume-if-begun", *more]


def test_a_queued_job_goes_on_by_itself(tmp_path, capsys):
    command = [*train_flags(tmp_path), "--out", str(tmp_path / "run")]
    with pytest.raises(ZeroDivisionError), d2skill.Trainer(two(tmp_path / "run"), tmp_path / "run") as trainer:
        trainer.step()
        raise ZeroDivisionError
    assert "after iteration 1" in (main(command), capsys.readouterr().out)[1]
    first = metrics(tmp_path / "run")
    assert "has ended; this is its summary" in (main(command), capsys.readouterr().out)[1]
    assert metrics(tmp_path / "run") == first and [line["iteration"] for line in first] == [0, 1, 2]
    new = [*train_flags(tmp_path), "--out", str(tmp_path / "new")]
    main(new)
    assert metrics(tmp_path / "new") == first, "it begins where nothing has begun"


def two(folder, **sections):
    return tiny_config(out=folder, **{"train": {"iterations": 2}} | sections)


def metrics(folder):
    lines = RunFolder(folder).read_metrics()
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]


def test_a_queued_job_of_other_settings_is_told(tmp_path, capsys):
    d2skill.train(two(tmp_path / "run"))
    command = [*train_flags(tmp_path, "--seed", "7"), "--out", tmp_path / "run"]
    assert "was begun with seed 0, not 7: choose another --out" in fails(capsys, *command)
    assert "needs its folder: give it by --out" in fails(capsys, *train_flags(tmp_path))


def test_a_job_goes_on_from_python_as_well(tmp_path):
    runs = [d2skill.train(two(tmp_path / "run"), resume_if_begun=True) for _ in range(2)]
    assert runs[0].summary == runs[1].summary


# damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return d2skill.train(tiny_config(out=tmp_path_factory.mktemp("whole") / "run")).folder


@pytest.fixture
def cut(whole, tmp_path):
    """The same run two iterations long, with its checkpoints of iterations 1 and 2."""
    folder = tmp_path / "run"
    with d2skill.Trainer(tiny_config(out=folder), folder) as trainer:
        trainer.step()
        trainer.step()
    return folder


def change(file, content):
    file.write_bytes(content(file.read_bytes()))


def emptied(point):
    shutil.rmtree(point)
    point.mkdir()


DAMAGE = {
    "empty": emptied,
    "no progress": lambda point: (point / "progress.json").unlink(),
    "no policy": lambda point: shutil.rmtree(point / "policy"),
    "no weights": lambda point: (point / "policy" / "scorer.npz").unlink(),
    **{
        f"{file} {how}": lambda point, file=file, content=content: change(point / file, content)
        for file in ("progress.json", "policy/scorer.npz", "files.json", "config.toml")
        for how, content in {
            "empty": lambda data: b"",
            "cut short": lambda data: data[: len(data) // 2],
            "zeros": lambda data: bytes(len(data)),
            "no text": lambda data: b"\xff" * 9,
            "nested": lambda data: b"[" * 100_000,
            "other content": lambda data: b'{"version": 2, "iteration": []}',
        }.items()
    },
    "a bit": lambda point: change(point / "policy/scorer.npz", lambda data: data[:700] + b"?" + data[701:]),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_and_said(how, cut, whole, caplog):
    newest = checkpoint.latest(cut)
    DAMAGE[how](newest)
    assert checkpoint.latest(cut).name == "000001"
    assert "000002 is damaged" in caplog.text and "the one before, 000001, is taken" in caplog.text
    if how in ("empty", "a bit", "no weights"):
        d2skill.resume(cut)
        assert metrics(cut) == metrics(whole)
        assert [point.name for point in checkpoint.folders(cut)] == ["000002", "000003"]
        assert (cut / "checkpoints" / ".000002.set-aside").is_dir(), "nothing is thrown away"


@pytest.mark.parametrize("how", ["empty", "no progress", "progress.json zeros", "policy/scorer.npz empty"])
def test_a_damaged_checkpoint_of_an_earlier_version_is_passed_over(how, cut, caplog):
    for point in checkpoint.folders(cut):
        (point / "files.json").unlink()
        (point / "config.toml").unlink()
    assert checkpoint.latest(cut).name == "000002"
    DAMAGE[how](checkpoint.latest(cut))
    assert checkpoint.latest(cut).name == "000001"


def test_damage_of_all_checkpoints_is_one_sentence(cut, capsys):
    for point in checkpoint.folders(cut):
        emptied(point)
    assert "000002 is damaged" in fails(capsys, "resume", cut)


LOST = {
    "a line": lambda lines: [lines[0], lines[2]],
    "all lines": lambda lines: [],
    "half a line": lambda lines: [lines[0], lines[1][:20] + b"\n", lines[2]],
    "zeros": lambda lines: [lines[0], bytes(30) + b"\n", lines[2]],
    "no iteration": lambda lines: [lines[0], b'{"a": 1}\n', lines[2]],
    "nested": lambda lines: [lines[0], b"[" * 50_000 + b"\n", lines[2]],
    "no text": lambda lines: [lines[0], b"\xff\xfe\xfd\n", lines[2]],
}


@pytest.mark.parametrize("how", LOST)
def test_lost_lines_of_metrics_are_said(how, cut, whole, caplog):
    file = cut / "metrics.jsonl"
    change(file, lambda data: b"".join(LOST[how](data.splitlines(keepends=True))))
    damaged = file.read_bytes()
    run = d2skill.resume(cut)
    assert "has lost" in caplog.text and "its curves have gaps there" in caplog.text
    assert run.metrics[-1]["iteration"] == 3 and metrics(cut)[-1] == metrics(whole)[-1]
    if how not in ("a line", "all lines"):
        assert (cut / "metrics.jsonl.damaged").read_bytes() == damaged, "nothing is thrown away"


def test_a_damaged_line_is_named_where_it_is_read(cut):
    change(cut / "metrics.jsonl", lambda data: b"{\n" + data)
    with pytest.raises(RunError, match=r"line 1 of .*metrics\.jsonl is damaged: take it out"):
        d2skill.Run(cut).metrics  # noqa: B018


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 0", "seed = 5", "seed 0, not 5"),
        ("group_size = 4", "group_size = 6", "rollout.group_size 4, not 6"),
        ("checkpoint_every = 1", "checkpoint_every = 2", "train.checkpoint_every 1, not 2"),
    ],
)
def test_settings_that_were_edited_are_said(old, new, said, cut, caplog):
    settings = cut / "config.toml"
    assert old in settings.read_text()
    settings.write_text(settings.read_text().replace(old, new, 1))
    d2skill.resume(cut)
    assert f"config.toml was edited: until now the run had {said}" in caplog.text


def test_settings_that_are_as_they_were_are_not_said(cut, caplog):
    d2skill.resume(cut)
    assert "edited" not in caplog.text
