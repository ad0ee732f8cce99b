import hashlib
import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.bank.formats import json_lines
from d2skill.bank.formats.json_lines import BankRecord
from d2skill.bank.journal import Tally
from d2skill.bank.journal.events import counts
from d2skill.errors import BankError
from d2skill.types import Skill, SkillText

SKILLS = (
    Skill(
        "t1",
        "task",
        SkillText("Cool first", "Open the fridge.", "Cooling"),
        "cool an apple",
        utility=0.1 + 0.2,
    ),
    Skill(
        "s1",
        "step",
        SkillText("Naïve é\u0301", "In drawer 4.", "Now"),
        "find cd",
        "room",
        evicted=7,
        credits=3,
    ),
    Skill(
        "t3",
        "task",
        SkillText("Look", "Look at it.", "Always"),
        "look",
        retrievals=12,
        created=4,
        source_task="g",
    ),
)
RECORD = BankRecord("hashed-v2/512", 4, 2, SKILLS)
TALLIES = {"t1": Tally({"train/1": 2, "train/9": 1}, {"é 7": 1}), "s1": Tally({}, {"train/1": 1})}
COUNTED = BankRecord(
    *("hashed-v2/512", 4, 2),
    (replace(SKILLS[0], supports=2, refutes=1), replace(SKILLS[1], refutes=1), SKILLS[2]),
    TALLIES,
)


@pytest.fixture
def path(tmp_path):
    json_lines.write(tmp_path / "bank.jsonl", RECORD)
    return tmp_path / "bank.jsonl"


def rewrite(path, number, change):
    """Changes a line and makes the checksum right again."""
    lines = path.read_bytes().split(b"\n")[:-2]
    lines[number - 1] = change(lines[number - 1])
    body = b"".join(line + b"\n" for line in lines)
    path.write_bytes(body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n")


def edit(**values):
    return lambda line: json.dumps(json.loads(line) | values).encode()


def test_round_trip(path):
    assert json_lines.read(path) == RECORD


def test_evidence_goes_with_its_sources_and_no_other_file_changes(path, tmp_path):
    json_lines.write(tmp_path / "counted", COUNTED)
    assert json_lines.read(tmp_path / "counted") == COUNTED
    plain, counted = (file.read_text("utf-8").split("\n") for file in (path, tmp_path / "counted"))
    assert json.loads(plain[0])["version"] == 1 and json.loads(counted[0])["version"] == 2
    assert [*json.loads(plain[1])][-1] == "evicted" and plain[3] == counted[3]


def test_the_file_is_for_people_too(path):
    lines = path.read_text("utf-8").split("\n")
    assert json.loads(lines[0])["format"] == "d2skill-bank"
    assert "Naïve" in lines[2] and json.loads(lines[2])["evicted"] == 7


LINE = st.text("abc é漢", max_size=20).map(lambda text: " ".join(f"look {text}".split()))
finite = st.floats(allow_nan=False, allow_infinity=False)


SOURCES = st.dictionaries(st.text(), st.integers(1, 10**9), max_size=3)
TALLY = st.none() | st.builds(Tally, SOURCES, SOURCES).filter(lambda tally: tally != Tally())


@given(st.lists(st.tuples(finite, LINE, st.text(), st.integers(0, 10**9), st.none() | st.integers(0, 99), TALLY)))
def test_any_bank_survives(tmp_path_factory, rows):
    skills = tuple(
        Skill(f"s{i}", "step", SkillText(t, t, t), key, key, u, n, 0, 0, "", e, *counts(tally))
        for i, (u, t, key, n, e, tally) in enumerate(rows, start=1)
    )
    tallies = {f"s{i}": row[-1] for i, row in enumerate(rows, start=1) if row[-1]}
    record = BankRecord("any", 1, len(skills) + 1, skills, tallies)
    path = tmp_path_factory.mktemp("bank") / "b"
    json_lines.write(path, record)
    assert json_lines.read(path) == record


def test_failure_before_the_swap_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="power cut"):
        json_lines.write(path, BankRecord("hashed-v2/512", 9, 9, ()))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_fills_up_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        json_lines.write(path, BankRecord("hashed-v2/512", 9, 9, ()))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_bytes_are_on_disk_before_the_swap(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    json_lines.write(path, RECORD)
    assert calls == ["fsync", "replace"]


def test_a_value_that_json_cannot_hold_is_not_written(path):
    before = path.read_bytes()
    bad = Skill("t1", "task", SkillText("a", "b", "c"), "g", utility=float("nan"))
    with pytest.raises(ValueError):
        json_lines.write(path, BankRecord("hashed-v2/512", 2, 1, (bad,)))
    assert path.read_bytes() == before


def test_truncation_anywhere_is_noticed(path):
    data = path.read_bytes()
    for length in (*range(0, len(data), 7), *range(len(data) - 80, len(data))):
        path.write_bytes(data[:length])
        with pytest.raises(BankError, match=r"bank\.jsonl, line \d"):
            json_lines.read(path)


def test_a_changed_byte_anywhere_is_noticed(path):
    data = path.read_bytes()
    for place in (*range(0, len(data), 7), *range(len(data) - 80, len(data))):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(BankError, match=r"bank\.jsonl, line \d"):
            json_lines.read(path)


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (2, edit(utility="high"), "line 2: utility"),
        (3, edit(utility=float("inf")), "line 3: utility is inf"),
        (2, edit(granularity="word"), "line 2: granularity"),
        (4, edit(retrievals=1.5), "line 4: retrievals"),
        (2, edit(extra=1), "line 2: a skill has the fields"),
        (2, edit(text={"title": "a"}), "line 2: a skill has the fields"),
        (3, edit(id="s2"), "line 3: id 's2' is taken, of another pool or not yet given out"),
        (4, edit(id="t1"), "line 4: id 't1' is taken"),
        (2, edit(supports=2), "line 2: supports: Input should be an object"),
        (2, edit(supports={"train/1": "2"}), "line 2: supports.train/1: Input should be a valid integer"),
        (3, edit(refutes={"train/1": 0}), "line 3: a source of evidence was named less than once"),
        (3, edit(id="t2"), "line 3: id 't2' is taken, of another pool"),
        (2, lambda line: line[:-1], "line 2: not JSON"),
        (2, lambda line: b"[1]", "line 2: not a JSON object"),
        (1, edit(next_task="4"), "line 1: a header has the fields"),
        (1, edit(format="other"), "line 1: not the header"),
    ],
)
def test_damage_is_named_by_file_and_line(path, number, change, message):
    rewrite(path, number, change)
    with pytest.raises(BankError, match=r"bank\.jsonl") as caught:
        json_lines.read(path)
    assert message in str(caught.value)


def test_another_version_names_both(path):
    rewrite(path, 1, edit(version=3))
    with pytest.raises(BankError, match=r"version 3, but this d2skill reads versions 1 to 2: use"):
        json_lines.read(path)


def test_a_missing_file_is_a_bank_error(tmp_path):
    with pytest.raises(BankError, match=r"nowhere.*No such file"):
        json_lines.read(tmp_path / "nowhere")


def test_a_binary_file_is_a_bank_error(tmp_path):
    (tmp_path / "b").write_bytes(b"\x80\x04\x95\n\xff\n\x00\n")
    with pytest.raises(BankError, match="line 1: not JSON"):
        json_lines.read(tmp_path / "b")
