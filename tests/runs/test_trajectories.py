"""Saved trajectories: what comes back, how small it is, and what is said of files that are not well."""

import dataclasses
import errno
import gzip
import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import skill, task, trajectory, turn

from d2skill.errors import ConfigError, RunError
from d2skill.runs.trajectories import Saved, SavedTurn, about, choose, outcome, read, write
from d2skill.types import Decision, Task

ONE = Saved(task(), "none", 0, True, (SavedTurn("A chest.", "open chest 1"),), "A ruby.")

ids = st.lists(st.sampled_from(["t1", "t2", "s1"]), max_size=3).map(tuple)
turns = st.builds(SavedTurn, st.text(), st.text(), answer=st.text(), admissible=st.booleans(), skills=ids)
tasks = st.builds(Task, st.text(), st.text(), st.text(), st.text())
arms = st.sampled_from(["", "skills", "none", "person"])
saved = st.builds(
    Saved, tasks, arms, st.integers(0, 99), st.booleans(), st.lists(turns).map(tuple), st.text(), st.text()
)


@settings(max_examples=40, deadline=None)
@given(st.lists(saved, min_size=1, max_size=4), st.sampled_from(["a.jsonl", "a.jsonl.gz"]))
def test_what_was_written_comes_back(tmp_path_factory, several, name):
    file = tmp_path_factory.getbasetemp() / name
    write(file, several)
    assert read(file) == several


def test_a_trajectory_is_kept_without_its_prompts(tmp_path):
    shown = turn("left", skills=[skill("s2"), skill("t1", principle="A principle.")])
    wordy = dataclasses.replace(turn("up"), decision=Decision("Up, I say. <action>up</action>", "up", (), ()))
    played = trajectory("skills", 3, True, turns=(shown, wordy), fault="")
    write(tmp_path / "a.jsonl", [played])
    [back] = read(tmp_path / "a.jsonl")
    assert back == Saved.of(played)
    assert (back.task, back.arm, back.index, back.success, back.final) == (task(), "skills", 3, True, "The end.")
    seen = shown.prompt.observation
    assert back.turns == (
        SavedTurn(seen, "left", skills=("t1", "s2")),
        SavedTurn(seen, "up", answer="Up, I say. <action>up</action>", admissible=False),
    )
    assert "A principle." not in (tmp_path / "a.jsonl").read_text()


def test_lines_are_plain_json_that_leave_defaults_out(tmp_path):
    write(tmp_path / "a.jsonl", [ONE, ONE])
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["turns"] == [{"observation": "A chest.", "action": "open chest 1"}]


def test_gzip_is_small_and_always_the_same(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz", "c.jsonl"):
        write(tmp_path / name, [ONE] * 100)
    data = (tmp_path / "a.jsonl.gz").read_bytes()
    assert data == (tmp_path / "b.jsonl.gz").read_bytes()
    assert gzip.decompress(data) == (tmp_path / "c.jsonl").read_bytes()
    assert len(data) * 20 < (tmp_path / "c.jsonl").stat().st_size


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write(tmp_path / "a.jsonl", [ONE])

    def fail(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a.jsonl", [])
    assert read(tmp_path / "a.jsonl") == [ONE]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def line(**changes):
    raw = {"task": {"id": "a", "text": "b", "split": "c"}, "arm": "", "index": 0, "success": True, "turns": []}
    return json.dumps({k: v for k, v in (raw | {"final": ""} | changes).items() if v is not None})


@pytest.mark.parametrize(
    ("second", "wrong"),
    [
        ("{", "no trajectory in JSON"),
        ("", "no trajectory in JSON"),
        ("[1, 2]", "no trajectory in JSON"),
        ("\udcff", "no trajectory in JSON"),
        (line(final=None), "final"),
        (line(index="0"), "index"),
        (line(arm="left"), "arm"),
        (line(prompt="x"), "prompt"),
        (line(turns=[{"observation": "a", "action": 1}]), "turns.0.action"),
        (line(turns=[{"observation": "a", "action": "b", "seen": "c"}]), "turns.0.seen"),
        (line(task={"id": "a", "text": "b"}), "task.split"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_broken_line_is_named(tmp_path, name, second, wrong):
    data = f"{line()}\n{second}\n{line()}\n".encode(errors="surrogateescape")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(RunError, match=f"{re.escape(name)}, line 2: {re.escape(wrong)}") as failed:
        read(tmp_path / name)
    assert "\n" not in str(failed.value)


def test_a_line_that_was_cut_off_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(line() + "\n" + line()[:-7])
    with pytest.raises(RunError, match="line 2"):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize("cut", [3, 15, 60, -4])
def test_damaged_gzip_is_told(tmp_path, cut):
    (tmp_path / "a.gz").write_bytes(gzip.compress(line().encode())[:cut])
    with pytest.raises(RunError, match=r"a\.gz is damaged"):
        read(tmp_path / "a.gz")


def test_files_without_a_trajectory_are_told(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        read(tmp_path / "missing.jsonl")
    with pytest.raises(RunError, match="cannot be read"):
        read(tmp_path)
    for name in ("a.jsonl", "a.jsonl.gz"):
        write(tmp_path / name, [])
        with pytest.raises(RunError, match="is empty"):
            read(tmp_path / name)


def shown(task_id, arm, index, *skills, seen="A chest."):
    return Saved(task(task_id), arm, index, False, (SavedTurn(seen, "wait", skills=skills),), "")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_what_is_about_a_skill_is_where_it_was_shown_and_the_rest_of_these_tasks(tmp_path, name):
    several = [
        shown("train/1", "skills", 0, "s1", "s12"),
        shown("train/1", "none", 1),
        shown("train/10", "skills", 0, "s123"),
        shown("train/10", "none", 1, seen='It says "s12" and "train/1".'),
        shown("train/2", "none", 1),
        shown("train/2", "skills", 0, "t1", "s12"),
    ]
    write(tmp_path / name, several)
    assert about(tmp_path / name, "s12") == [several[n] for n in (0, 1, 4, 5)]
    assert about(tmp_path / name, "s123") == several[2:4]
    assert about(tmp_path / name, "s9") == []


@settings(max_examples=40, deadline=None)
@given(st.lists(saved, min_size=1, max_size=6), ids)
def test_what_is_about_a_skill_is_found_whatever_the_texts(tmp_path_factory, several, skills):
    file = tmp_path_factory.getbasetemp() / "about.jsonl"
    write(file, several)
    for skill_id in {*skills, "t1"}:
        having = {one.task.id for one in several if any(skill_id in turn.skills for turn in one.turns)}
        assert about(file, skill_id) == [one for one in several if one.task.id in having]


def test_a_broken_line_is_named_if_it_is_about_the_skill(tmp_path):
    other = line(task={"id": "b", "text": "b", "split": "c"})
    broken = line(turns=[{"observation": "a", "action": 1, "skills": ["s1"]}])
    (tmp_path / "a.jsonl").write_text(f"{other}\n{broken}\n{{\n")
    with pytest.raises(RunError, match=r"a\.jsonl, line 2: turns\.0\.action"):
        about(tmp_path / "a.jsonl", "s1")
    assert about(tmp_path / "a.jsonl", "s2") == []


SEVERAL = [dataclasses.replace(ONE, task=task(f"train/{number:03d}")) for number in (0, 1, 1, 2)]


def test_one_is_chosen_by_task_or_number():
    assert choose(SEVERAL, "train/002", None) is SEVERAL[3]
    assert choose(SEVERAL, None, 2) is SEVERAL[1]
    assert choose(SEVERAL[:1], None, None) is SEVERAL[0]


GROUP = [dataclasses.replace(ONE, task=task("train/000"), index=index) for index in (0, 1, 2)]
BOTH_ARMS = [dataclasses.replace(ONE, arm=arm) for arm in ("skills", "none")]


def test_one_of_a_group_is_chosen_by_member():
    assert choose([*SEVERAL[1:], *GROUP], "train/000", None, 1) is GROUP[1]
    assert choose(GROUP, None, None, 2) is GROUP[2]
    assert choose(SEVERAL, "train/002", None, 0) is SEVERAL[3]


@pytest.mark.parametrize(
    ("several", "task_id", "number", "member", "said"),
    [
        (GROUP, "train/000", None, None, "there are 3 of them: name one with --number, which may be 1, 2, 3, or with "),
        (GROUP, None, None, None, "or with --member, which may be 0, 1, 2"),
        (GROUP, "train/000", None, 3, "there is no member 3: --member may be 0, 1, 2"),
        (GROUP, "train/001", None, 1, 'none of task "train/001"'),
        (GROUP, None, 2, 1, "--member and --number both name a trajectory: leave one of them out"),
        (BOTH_ARMS, "train/000", None, 0, "there are 2 of them: name one with --number, which may be 1, 2"),
        (BOTH_ARMS, "train/000", None, None, "there are 2 of them: name one with --number, which may be 1, 2"),
    ],
)
def test_a_member_that_is_not_there_or_not_alone_is_told(several, task_id, number, member, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as failed:
        choose(several, task_id, number, member)
    assert ("--member" in str(failed.value)) == (several is GROUP and task_id != "train/001")


@pytest.mark.parametrize(
    ("task_id", "number", "said"),
    [
        (None, None, "there are 4 of them: name one with --number, which may be 1, 2, 3, 4"),
        ("train/001", None, "there are 2 of them: name one with --number, which may be 2, 3"),
        ("train/009", None, 'none of task "train/009", but of train/000, train/001, train/002'),
        (None, 0, "--number is from 1 to 4"),
        (None, 5, "--number is from 1 to 4"),
        ("train/001", 2, "leave one of them out"),
    ],
)
def test_a_choice_that_names_none_or_several_is_told(task_id, number, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        choose(SEVERAL, task_id, number)


def test_the_outcome_is_won_or_not_or_a_fault():
    assert outcome(ONE) == "won"
    assert outcome(dataclasses.replace(ONE, success=False)) == "not won"
    assert outcome(dataclasses.replace(ONE, success=False, fault="OSError: no")) == "broken off (OSError: no)"
