"""Trackers by name, with the real libraries and no network: what they keep is metrics.jsonl, once, over a resume."""

import json
import struct
import subprocess
import sys
from importlib.util import find_spec
from typing import ClassVar

import pytest
from commands import fails
from toys import tiny_config

from d2skill import api
from d2skill.cli.main import main
from d2skill.errors import ConfigError
from d2skill.runs.folder import RunFolder
from d2skill.testing import check_tracker
from d2skill.trackers.base import TrackedRun

LOCAL = [name for name in ("tensorboard", "wandb", "mlflow", "trackio") if find_spec(name)]


class Crash(Exception):
    """An error that ends a run in the middle of it."""


class CrashesAt:
    def __init__(self, iteration):
        self._iteration = iteration

    def log(self, metrics):
        if metrics["iteration"] == self._iteration:
            raise Crash


class Keeps:
    """A tracker of one's own without any ability more."""

    told: ClassVar[list[int]] = []

    def log(self, metrics):
        self.told.append(metrics["iteration"])


class Fails:
    """A tracker that fails at one of the places where it is called."""

    where = ""
    calls: ClassVar[list[str]] = []

    def __init__(self, run):
        assert isinstance(run, TrackedRun)

    def _call(self, name):
        self.calls.append(name)
        if name == self.where:
            raise OSError(28, "No space\nleft on device")

    def __enter__(self):
        self._call("start")
        return self

    def __exit__(self, *_):
        self._call("end")

    def log(self, metrics):
        print("a library that prints")
        self._call(f"take iteration {metrics['iteration']}")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Every library keeps its data in a folder of the test."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))


def read_tensorboard(folder, record, config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    hyperparameters = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"train.iterations" in hyperparameters and b"tensorboard" in hyperparameters
    return {
        name: [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def wandb_records(path):
    """The records of a .wandb file, which is a log as LevelDB writes it: parts with headers, in blocks of 32 KiB."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def read_wandb(folder, record, config):
    from wandb.proto import wandb_internal_pb2

    found, ids = {}, set()
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for data in wandb_records(path):
            one = wandb_internal_pb2.Record()
            one.ParseFromString(data)
            for item in one.history.item:
                name = item.key or ".".join(item.nested_key)
                if not name.startswith("_"):
                    found.setdefault(name, []).append((one.history.step.num, json.loads(item.value_json)))
            if one.WhichOneof("record_type") == "run":
                ids.add(one.run.run_id)
                given = {item.key: item.value_json for item in one.run.config.update}
                assert json.loads(given["train"]) == config.train.model_dump(mode="json")
                assert one.run.display_name == folder.name and one.run.project == "d2skill"
    assert ids == {record["id"]}
    return found


def read_mlflow(folder, record, config):
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    run = client.get_run(record["id"])
    assert run.info.status == "FINISHED" and run.info.run_name == folder.name
    assert run.data.params["train.iterations"] == str(config.train.iterations)
    return {
        name: sorted((point.step, point.value) for point in client.get_metric_history(record["id"], name))
        for name in run.data.metrics
    }


def read_trackio(folder, record, config):
    from trackio.sqlite_storage import SQLiteStorage

    found = {}
    assert SQLiteStorage.get_runs("d2skill").count(record["id"]) == 1
    for line in SQLiteStorage.get_logs("d2skill", record["id"]):
        for name, value in line.items():
            if name not in ("step", "timestamp"):
                found.setdefault(name, []).append((line["step"], value))
    return found


READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow, "trackio": read_trackio}


def expected(folder):
    """The numbers of metrics.jsonl by name, as (iteration, value); the clock ran twice for what was done twice."""
    found = {}
    for line in RunFolder(folder).read_metrics():
        for name, value in line.items():
            if name != "iteration" and not name.startswith("time/"):
                found.setdefault(name, []).append((line["iteration"], value))
    return found


@pytest.mark.parametrize("kind", LOCAL)
def test_a_tracker_has_each_number_once_also_after_a_crash(kind, offline, tmp_path):
    folder = tmp_path / "run"
    config = tiny_config(out=folder, track=[kind], train={"iterations": 4, "checkpoint_every": 2})
    with pytest.raises(Crash):
        api.train(config, trackers=[CrashesAt(3)])
    first = json.loads((folder / "trackers.json").read_text())[kind]
    assert first["iteration"] == 3
    api.resume(folder)
    record = json.loads((folder / "trackers.json").read_text())[kind]
    assert record == {"iteration": 4, "id": first["id"]}
    kept = READERS[kind](folder, record, RunFolder(folder).config())
    assert {name for name in kept if name.startswith("time/")} >= {"time/seconds", "time/rollout"}
    assert {name: points for name, points in kept.items() if not name.startswith("time/")} == expected(folder)
    assert "validation/with_skills" in kept and "env_steps" in kept


@pytest.mark.parametrize("kind", LOCAL)
def test_a_tracker_that_comes_later_or_lost_its_record_is_told_all(kind, offline, tmp_path, capsys):
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        api.train(tiny_config(out=folder, train={"iterations": 3, "checkpoint_every": 2}), trackers=[CrashesAt(3)])
    lost = {kind: {"id": "0" * 32, "iteration": 3}} if kind != "wandb" else {}  # that makes a run of any id
    (folder / "trackers.json").write_text(json.dumps(lost))
    main(["resume", str(folder), "--track", f"{kind},{__name__}:Keeps"])
    assert RunFolder(folder).config().track == (kind, f"{__name__}:Keeps")
    record = json.loads((folder / "trackers.json").read_text())[kind]
    kept = READERS[kind](folder, record, RunFolder(folder).config())
    assert {name: points for name, points in kept.items() if not name.startswith("time/")} == expected(folder)


@pytest.mark.parametrize("kind", LOCAL)
def test_the_trackers_keep_the_contract(kind, offline, tmp_path):
    from d2skill.config.parts import TRACKER, find_part

    (tmp_path / "run").mkdir()
    tracker = find_part(TRACKER, kind)(TrackedRun(tmp_path / "run", tiny_config()))
    assert [finding for finding in check_tracker(tracker) if not finding.ok] == []


@pytest.mark.parametrize("where", ["start", "take iteration 1", "end"])
def test_a_tracker_that_fails_is_left_out_with_one_warning(where, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Fails, "where", where)
    monkeypatch.setattr(Fails, "calls", [])
    monkeypatch.setattr(Keeps, "told", [])
    run = api.train(
        tiny_config(out=tmp_path / "run", train={"iterations": 2}, track=[f"{__name__}:Fails", f"{__name__}:Keeps"])
    )
    assert run.summary["iterations"] == 2 and Keeps.told == [0, 1, 2]
    assert Fails.calls[-1] == where and Fails.calls.count(where) == 1
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line != "a library that prints"]
    (warning,) = said
    assert f"Fails could not {where} (OSError: [Errno 28] No space left on device)" in warning
    assert "the run goes on without it" in warning and out == ""


def test_a_server_that_is_not_there_stops_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = api.train(tiny_config(out=tmp_path / "run", train={"iterations": 1}, track="mlflow"))
    assert run.summary["iterations"] == 1
    assert capsys.readouterr().err.count("tracker mlflow could not start") == 1


def test_a_run_that_fails_at_once_leaves_nothing_of_its_trackers(tmp_path):
    with pytest.raises(Crash):
        api.train(tiny_config(out=tmp_path / "run", track=["tensorboard"]), trackers=[CrashesAt(0)])
    assert not (tmp_path / "run").exists()


def test_mistakes_are_sentences_before_any_work(tmp_path, capsys):
    with pytest.raises(
        ConfigError, match=r"there is no tracker \"tensorbord\" \(did you mean tensorboard\?\): set track"
    ):
        api.train(tiny_config(out=tmp_path / "run", track="tensorbord"))
    said = fails(capsys, "train", "--track", "nowhere.at_all:Tracker", "--out", tmp_path / "run")
    assert "tracker nowhere.at_all:Tracker" in said and "folder to it" not in said
    assert not (tmp_path / "run").exists()


def test_a_library_that_is_missing_is_named_with_the_command(tmp_path):
    code = (
        "import sys; sys.modules['trackio'] = None\n"
        "from d2skill.cli.main import main\n"
        "main(['train', '--track', 'trackio', '--out', sys.argv[1]])"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert ended.returncode == 2 and not (tmp_path / "run").exists()
    assert ended.stderr == 'd2skill: tracker "trackio" needs the package trackio: pip install "d2skill[trackio]"\n'


def test_track_is_a_list_of_names_each_once():
    assert tiny_config(track="wandb, mlflow,wandb").track == ("wandb", "mlflow")
    assert tiny_config(track=["a,b", "b"]).track == ("a", "b") and tiny_config().track == ()
