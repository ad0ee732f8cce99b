"""A journal whose tables are others is refused at once: a view's reading may never end, a trigger acts by itself."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from d2skill import SkillBank
from d2skill.bank import Draft
from d2skill.bank.journal import salvage
from d2skill.errors import BankError
from d2skill.runs import checkpoint
from d2skill.types import SkillText

ENDLESS = "WITH RECURSIVE t(seq) AS (SELECT 0 UNION ALL SELECT seq + 1 FROM t)"
SCHEMAS = {
    "view": [
        "ALTER TABLE events RENAME TO old",
        f"CREATE VIEW events AS {ENDLESS} SELECT seq, 0 iteration, NULL back_to, x'00' body, NULL checksum FROM t "
        "WHERE seq < 0",
    ],
    "trigger": ["CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM head; END"],
    "generated column": ["ALTER TABLE events ADD COLUMN more BLOB AS (zeroblob(999000000)) VIRTUAL"],
    "another table": ["CREATE TABLE more (x)"],
}


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "bank.db"
    bank = SkillBank()
    bank.insert(Draft("task", SkillText("Look", "Look first.", "always"), "find the key"))
    bank.record(path)
    bank.close()
    return path


def changed(journal, tmp_path, name):
    """A copy of a journal with a schema of that name."""
    path = shutil.copy(journal, tmp_path / "bank.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in SCHEMAS[name]:
            connection.execute(statement)
    return path


@pytest.mark.parametrize("name", SCHEMAS)
def test_other_tables_are_refused_and_not_read(name, journal, tmp_path):
    path = changed(journal, tmp_path, name)
    with pytest.raises(BankError, match="its tables are not those of a journal"):
        SkillBank.open(path)


def test_salvage_reads_no_view(journal, tmp_path):
    path = changed(journal, tmp_path, "view")
    salvage(path, tmp_path / "saved.db")
    assert len(SkillBank.open(tmp_path / "saved.db")) in (0, 1), "it ends, with what a copy of the file gives"


def test_only_folders_of_iterations_are_checkpoints(tmp_path):
    for name in ("2019", "000002", "photos", "0000a3"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / "000003").symlink_to(tmp_path, target_is_directory=True)
    assert [path.name for path in checkpoint.folders(tmp_path)] == ["000002"]
