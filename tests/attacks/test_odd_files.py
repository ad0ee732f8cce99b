"""Odd contents in every file that a command reads: one sentence with status 2, and nothing on the disk is changed."""

import gzip
import hashlib
import json
import os
import pickle
import shutil
import socket

import pytest
from commands import SMALL

from d2skill.cli.main import main


class Hostile:
    """A pickle that makes a file when it is read."""

    def __reduce__(self):
        return open, (os.environ["PYTEST_MARK"], "w")


def fill(data):
    return lambda path: path.write_bytes(data)


def fifo(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def bound_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 41)


def hostile_pickle(path):
    path.write_bytes(pickle.dumps(Hostile()))


CONTENTS = {
    "empty": fill(b""),
    "not UTF-8": fill(b'{"a": "\xff\xfe\x80"}\n'),
    "UTF-16": fill('{"a": 1}'.encode("utf-16")),
    "zeros": fill(bytes(5000)),
    "deep lists": fill(b"[" * 100_000 + b"]" * 100_000 + b"\n"),
    "deep objects": fill(b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n"),
    "deep TOML": fill(b"a = " + b"[" * 100_000 + b"]" * 100_000 + b"\n"),
    "dotted TOML": fill(b"a" + b".a" * 100_000 + b" = 1\n"),
    "5,000 digits": fill(b"1" * 5000 + b"\n"),
    "5,000 digits in an object": fill(b'{"id": ' + b"1" * 5000 + b"}\n"),
    "5,000 digits in TOML": fill(b"seed = " + b"1" * 5000 + b"\n"),
    "a date in TOML": fill(b"seed = 9999-99-99\n"),
    "10**400": fill(b"1" + b"0" * 400 + b"\n"),
    "1e999": fill(b"[1e999]\n"),
    "NaN": fill(b"NaN\n"),
    "null": fill(b"null\n"),
    "a text": fill(b'"text"\n'),
    "a list": fill(b"[[[]]]\n"),
    "lone surrogate": fill(b'{"\\ud800": "\\udfff"}\n'),
    "a byte order mark": fill(b"\xef\xbb\xbf{}\n"),
    "a long line": fill(b"{" + b" " * (1 << 20)),
    "gzip bomb": fill(gzip.compress(bytes(1 << 27), 1)),
    "cut gzip": fill(gzip.compress(b"abc" * 1000)[:-12]),
    "gzip of nothing": fill(gzip.compress(b"")),
    "zip": fill(b"PK\x03\x04" + bytes(100)),
    "pickle": hostile_pickle,
    "pipe": fifo,
    "endless device": endless,
    "socket": bound_socket,
    "sparse, 2 TB": sparse,
}

TRAIN = "train --out {run}-new"
TRAIN_LM = f"{TRAIN} --policy.kind causal-lm"
GAME = "games/json_2.1.1/train/a_b-Mug-None-Desk-1/trial/game.tw-pddl"
DOORS = {
    "config.toml, show": ("config.toml", "config show {file}"),
    "config.toml, train": ("config.toml", "train --config {file} --out {run}-new"),
    "config.toml, resume": ("config.toml", "resume {run}"),
    "config.toml, evaluate": ("config.toml", "evaluate {run}"),
    "config.toml, search": ("config.toml", "bank search {run} clean"),
    "config.toml, compare": ("config.toml", "compare {run} {run}"),
    "config.toml, plan": ("config.toml", "plan --like {run}"),
    "tasks.json, train": ("tasks.json", "train --env.tasks {file} --out {run}-new"),
    "tasks.json, compare": ("tasks.json", "compare {run} {run}"),
    "progress.json, evaluate": ("checkpoints/000002/progress.json", "evaluate {run}/checkpoints/000002"),
    "scorer.npz, evaluate": ("checkpoints/000002/policy/scorer.npz", "evaluate {run}/checkpoints/000002"),
    "metrics.jsonl, compare": ("metrics.jsonl", "compare {run} {run}"),
    "trajectories, replay": ("trajectories.jsonl.gz", "play --replay {run} --number 1"),
    "trajectories, sft": ("trajectories.jsonl.gz", "sft {file} --policy.kind causal-lm --out {run}-new"),
    "trajectories, train": ("trajectories.jsonl.gz", "train --warm-start.trajectories {file} --out {run}-new"),
    "rollouts, replay": ("rollouts/000001.jsonl.gz", "play --replay {run} --iteration 1 --number 1"),
    "summary.json, resume": ("summary.json", "resume {run}"),
    "bank.db, list": ("bank.db", "bank list {run}"),
    "bank.db, verify": ("bank.db", "bank verify {run}"),
    "bank.db, import": ("bank.db", "bank import {run}-new.db {file}"),
    "bank.jsonl, list": ("bank.jsonl", "bank list {file}"),
    "bank.jsonl, import": ("bank.jsonl", "bank import {run}-new.db {file}"),
    "bank.json, start": ("bank.json", "train --bank.start {file} --out {run}-new"),
    "SKILL.md, import": ("skill/SKILL.md", "bank import {run}-new.db {run}/skill"),
    "game, play": (
        GAME,
        "play --env alfworld --data {run}/games",
    ),
    "product list, play": ("shop/items_shuffle_1000.json", "play --env webshop --data {run}/shop"),
    "config.json of a model, train": (
        "model/config.json",
        TRAIN_LM + " --policy.lm.model {run}/model",
    ),
    "adapter_config.json, train": (
        "model/adapter_config.json",
        TRAIN_LM + " --policy.lm.model {run}/model",
    ),
    "GGUF file, train": ("model.gguf", TRAIN_LM + " --policy.lm.model {file}"),
    "config.json of a model, plan": ("model/config.json", "plan --policy.kind causal-lm --policy.lm.model {run}/model"),
    "config.json of an embedder, train": (
        "embedder/config.json",
        TRAIN + " --embedder.kind transformers --embedder.model {run}/embedder",
    ),
    "modules.json of an embedder, train": (
        "embedder/modules.json",
        TRAIN + " --embedder.kind transformers --embedder.model {run}/embedder",
    ),
}


MAIN = ["not UTF-8", "deep objects", "deep TOML", "5,000 digits in an object", "null", "lone surrogate", "cut gzip"]
MAIN += ["gzip bomb", "pickle", "pipe", "endless device", "sparse, 2 TB"]
FINE = {"config.toml": {"empty"}}
SLOW = ("plan", "train", "sft", "start")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of two iterations."""
    folder = tmp_path_factory.mktemp("odd") / "run"
    main(["train", *SMALL, "--train.iterations", "2", "--out", str(folder)])
    return folder


def digests(folder):
    """Returns what is below a folder: kinds, and digests of what files there are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 30
        found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else ""
    return {name: digest for name, digest in found.items() if not name.endswith(("-lock", "-shm", "-wal"))}


def outcome(capsys, arguments):
    """Runs a command and returns the status and what it said to stderr."""
    status = 0
    try:
        main(arguments)
    except SystemExit as ended:
        status = ended.code
    return status, capsys.readouterr().err


def odd(door, run, file, contents, capsys, monkeypatch):
    """Yields what is wrong with the answers of a door to odd contents of a file, one by one."""
    mark = run.parent / "unpickled"
    monkeypatch.setenv("PYTEST_MARK", str(mark))
    words = [word.format(run=run, file=file) for word in DOORS[door][1].split()]
    for name in contents:
        file.unlink(missing_ok=True)
        CONTENTS[name](file)
        before = digests(run.parent)
        status, said = outcome(capsys, words)
        sentence = said.startswith("d2skill: ") and said.count("\n") == 1 and len(said) < 1500
        changed = before.items() ^ digests(run.parent).items()
        if status != 2 or not sentence or "Traceback" in said or mark.exists() or changed:
            yield f"{name}: status {status}, {said}, changed: {sorted(changed)}"


def answers(door, contents, made, tmp_path, capsys, monkeypatch):
    """Returns what is wrong with the answers of a door to odd contents of the file that it reads."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(made, run)
    file = run / DOORS[door][0]
    file.parent.mkdir(parents=True, exist_ok=True)
    contents = [name for name in contents if name not in FINE.get(file.name, ())]
    return list(odd(door, run, file, contents, capsys, monkeypatch))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("door", [door for door in DOORS if not door.endswith(SLOW)])
def test_odd_contents_are_a_sentence_each(door, made, tmp_path, capsys, monkeypatch):
    assert not answers(door, MAIN, made, tmp_path, capsys, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("door", DOORS)
def test_all_odd_contents_are_a_sentence_each(door, made, tmp_path, capsys, monkeypatch):
    assert not answers(door, MAIN if door.endswith(SLOW) else CONTENTS, made, tmp_path, capsys, monkeypatch)


ODD_VALUES = [None, True, -1, 2**80, 10**400, 1e300, "", "\udcff", [], [[[]]], {}, {"a": {}}]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("checkpoints/000002/progress.json", "evaluate {run}/checkpoints/000002"),
        ("tasks.json", "compare {run} {run}"),
        ("summary.json", "resume {run}"),
    ],
)
def test_odd_values_are_no_traceback(name, command, made, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    right = json.loads((run / name).read_text())
    for key in [key for key in right if key != "validation" or name == "tasks.json"]:
        for value in ODD_VALUES:
            (run / name).write_text(json.dumps(right | {key: value}))
            status, said = outcome(capsys, [word.format(run=run) for word in command.split()])
            assert status in (0, 2) and "Traceback" not in said
            assert not status or (said.startswith("d2skill: ") and said.count("\n") == 1), said
