"""Links in a received run folder: no command writes, cuts, appends to, replaces or removes anything outside of it."""

import os
import shutil
import struct
from pathlib import Path

import pytest
from commands import fails
from toys import tiny_config

import d2skill
from d2skill.bank import Draft, SkillBank
from d2skill.bank.journal import Journal
from d2skill.cli.main import main
from d2skill.errors import BankError, D2SkillError, RunError
from d2skill.runs.folder import RunFolder
from d2skill.types import SkillText
from d2skill.utils.atomic_files import replace_shared, write_bytes, write_folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that can go on: with checkpoints of iterations 0 and 1, of three."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    config = tiny_config(out=folder, track=["tensorboard"], warm_start={"tasks": 3}, validation={"tasks": 2})
    with d2skill.Trainer(config, folder) as trainer:
        trainer.step()
    return folder


@pytest.fixture
def received(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "received"))


@pytest.fixture
def outside(tmp_path):
    """A folder of the user's, with a file that must stay as it is."""
    folder = tmp_path / "home"
    (folder / "sub").mkdir(parents=True)
    (folder / ".bashrc").write_text("precious\n")
    (folder / "sub" / "000001.jsonl.gz").write_text("precious\n")
    return folder


def everything(folder):
    """All below a folder: names, kinds, contents and times."""
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def link(path, target):
    """Puts a link in the place of whatever is at a path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


FILES = [
    *("metrics.jsonl", ".metrics.jsonl.part", "metrics.jsonl.damaged", "reflections.jsonl", ".reflections.jsonl.part"),
    *("bank.db", "bank.db-lock", "bank.db-wal", "bank.db-shm", "bank.db-journal", "bank.db-state", "bank.db-task-keys"),
    *("config.toml", ".config.toml.part", "summary.json", ".summary.json.part", "trajectories.jsonl.gz"),
    *(".trajectories.jsonl.gz.part", "trackers.json", ".trackers.json.part", "tasks.json", ".tasks.json.part"),
    *("rollouts/000001.jsonl.gz", "rollouts/.000001.jsonl.gz.part", ".beginning", "parts.json", "models.json"),
    *("tensorboard/events.out.tfevents.9", "checkpoints/000001/progress.json", "checkpoints/000001/policy/scorer.npz"),
    *("verl/agent.yaml", "verl/.agent.yaml.part", "wandb/run-1/logs/debug.log", "anything"),
]
FOLDERS = [
    *("rollouts", "checkpoints", "checkpoints/000001", "checkpoints/.000002.part", "checkpoints/.000001.set-aside"),
    *("checkpoints/000001/policy", "checkpoints/.000002.old", "tensorboard", "wandb", "wandb/latest-run", "verl"),
]
COMMANDS = [["resume"], ["evaluate"], ["bank", "hold", "t1", "--reason", "x"], ["bank", "verify"], ["bank", "list"]]


def words(command, run):
    return [*command[:2], str(run), *command[2:]] if command[0] == "bank" else [*command, str(run)]


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_link_out_of_a_run_is_refused_by_all_commands(name, received, outside, capsys):
    link(received / name, outside / "sub" if name in FOLDERS else outside / ".bashrc")
    before, told = everything(outside), set()
    for command in COMMANDS:
        said = fails(capsys, *words(command, received))
        told.add("is a link that leads out of the run folder" in said)
        assert everything(outside) == before, command
    if name != "config.toml":  # which is no settings then, or none at all
        assert told == {True}


TARGETS = {
    "a file that is not there": "../home/new",
    "by way of the folder itself": "../received/../home/.bashrc",
    "another link": "chain",
    "a loop": "metrics.jsonl",
    "a device": "/dev/null",
    "an absolute path": "ABSOLUTE",
}


@pytest.mark.parametrize("how", TARGETS)
def test_wherever_a_link_leads(how, received, outside, capsys):
    (received / "chain").symlink_to("../home/.bashrc")
    target = str(outside / ".bashrc") if how == "an absolute path" else TARGETS[how]
    link(received / "metrics.jsonl", target)
    before = everything(outside)
    assert "is a link that leads out of the run folder" in fails(capsys, "resume", received)
    assert everything(outside) == before


def test_a_folder_that_cannot_be_looked_through_is_refused(received):
    if os.geteuid() == 0:
        pytest.skip("root looks through any folder")
    (received / "tensorboard").chmod(0o311)
    with pytest.raises(RunError, match="cannot be read"):
        RunFolder.open(received)


@pytest.mark.parametrize("name", ["rollouts", "tensorboard", "checkpoints", ".metrics.jsonl.part", "bank.db-lock"])
def test_links_in_a_beginning_are_refused_and_nothing_is_emptied(name, outside, tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.begin(tiny_config(), {})
    run._lock.close()
    link(run.path / name, outside / "sub")
    before, of_run = everything(outside), everything(run.path)
    for begin in (RunFolder.create, d2skill.resume):
        with pytest.raises(RunError, match="is a link that leads out of the run folder"):
            begin(run.path)
    assert everything(outside) == before and everything(run.path) == of_run


# what is honest


def test_a_run_behind_links_goes_on_as_any(received, tmp_path):
    (tmp_path / "disk").symlink_to(tmp_path)
    (tmp_path / "latest").symlink_to("disk/received")
    (received / "wandb" / "run-1" / "logs").mkdir(parents=True)
    (received / "wandb" / "latest-run").symlink_to("run-1")  # as wandb makes them
    (received / "wandb" / "run-1" / "logs" / "debug-core.log").symlink_to(tmp_path / "cache" / "core-debug.log")
    assert main(["bank", "list", str(tmp_path / "latest")]) is None
    assert d2skill.resume(tmp_path / "latest").summary["iterations"] == 3
    assert (tmp_path / "latest").is_symlink() and not (tmp_path / "cache").exists()


# banks alone, and files beside what one names


@pytest.fixture
def bank(tmp_path):
    path = tmp_path / "alone" / "bank.db"
    path.parent.mkdir()
    with SkillBank() as made:
        made.insert(Draft("task", SkillText("Look", "Look first.", "always"), "find the key"))
        made.record(path)
    return path


@pytest.mark.parametrize("suffix", ["-lock", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("target", [".bashrc", "new"])
def test_a_link_beside_a_bank_is_not_followed(suffix, target, bank, outside):
    link(bank.with_name(bank.name + suffix), outside / target)
    before = everything(outside)
    with pytest.raises(BankError, match=f"bank.db{suffix}"), SkillBank.open(bank) as opened:
        opened.record(bank)
    assert everything(outside) == before


def hot_journal(bank, names):
    """Makes the rollback journal of a transaction over several files that a crash has left, as SQLite documents it.

    SQLite ends the transaction and removes the file that lists them, which the journal names.
    """
    data, page, nonce = bank.read_bytes(), 4096, 7
    pages = [data[at : at + page] for at in range(0, len(data), page)]
    magic = bytes.fromhex("d9d505f920a163d7")
    journal = (magic + struct.pack(">5I", len(pages), nonce, len(pages), 512, page)).ljust(512, b"\0")
    for number, content in enumerate(pages, start=1):
        checksum = nonce + sum(content[at] for at in range(page - 200, 0, -200))
        journal += struct.pack(">I", number) + content + struct.pack(">I", checksum)
    name = os.fsencode(names)
    journal += struct.pack(">I", (1 << 30) // page + 1) + name + struct.pack(">2I", len(name), sum(name)) + magic
    bank.with_name(f"{bank.name}-journal").write_bytes(journal)


READERS = {
    "read": lambda path: Journal(path).head(),
    "open": SkillBank.open,
    "list": lambda path: main(["bank", "list", str(path)]),
    "write": lambda path: main(["bank", "hold", str(path), "t1", "--reason", "x"]),
}


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("by_link", [False, True])
def test_a_journal_of_sqlite_beside_a_bank_removes_no_file(how, by_link, bank, outside, tmp_path, capsys):
    hot_journal(bank, outside / ".bashrc")
    (tmp_path / "link.db").symlink_to(bank)
    with pytest.raises((D2SkillError, SystemExit)) as refused:
        READERS[how](tmp_path / "link.db" if by_link else bank)
    assert "bank.db-journal beside it is not of d2skill" in f"{refused.value}{capsys.readouterr().err}"
    assert (outside / ".bashrc").read_text() == "precious\n"


def test_a_bank_in_a_run_that_is_a_link_is_refused_alone_as_well(received, bank, capsys):
    link(received / "bank.db", bank)
    before = bank.read_bytes()
    assert "is a link that leads out of the run folder" in fails(
        capsys, "bank", "hold", received / "bank.db", "t1", "--reason", "x"
    )
    assert bank.read_bytes() == before


WRITERS = {
    ".file.part": lambda path: write_bytes(path, b"new"),
    ".file.PROCESS-THREAD.part": lambda path: replace_shared(path, [b"new"]),
    ".file.old": lambda path: (path.mkdir(), write_folder(path, lambda folder: None)),
    "file": lambda path: write_bytes(path, b"new"),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("target", [".bashrc", "sub", "new"])
def test_what_is_left_beside_a_file_is_not_written_through(name, target, outside, tmp_path):
    from threading import get_ident

    link(tmp_path / name.replace("PROCESS-THREAD", f"{os.getpid()}-{get_ident()}"), outside / target)
    before = everything(outside)
    WRITERS[name](tmp_path / "file")
    assert everything(outside) == before
    assert (tmp_path / "file").exists() and not (tmp_path / "file").is_symlink()
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["file"]
