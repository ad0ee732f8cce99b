import errno
import os

import pytest

from d2skill.errors import RunError
from d2skill.utils.atomic_files import read_json, write_folder, write_json, write_text


@pytest.fixture
def full_disk(monkeypatch):
    """Renaming fails from now on."""

    def fail(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_and_replaced(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    write_text(file, "new, größer\n")
    assert file.read_text("utf-8") == "new, größer\n"
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_write_leaves_the_old_text_and_nothing_else(tmp_path, full_disk):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(OSError, match="No space"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_text_that_utf8_cannot_hold_leaves_the_old_text(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "\ud800")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_json_round_trip(tmp_path):
    value = {"a": [1, 2.5, None], "b": {"c": "ö"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_missing_and_broken_json_is_told_in_words(tmp_path):
    with pytest.raises(RunError, match=r"a\.json is missing: is .* a run folder"):
        read_json(tmp_path / "a.json")
    for content in (b'{"a": ', b"", b"\xff\xfe\x00"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(RunError, match=r"a\.json is not valid JSON"):
            read_json(tmp_path / "a.json")


def test_a_folder_appears_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "one"

    def fill(folder):
        assert folder != target and not target.exists()
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("content")

    write_folder(target, fill)
    assert (target / "sub" / "file").read_text() == "content"
    assert names(target.parent) == ["one"]


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "one"
    write_folder(target, lambda folder: (folder / "old").touch())
    write_folder(target, lambda folder: (folder / "new").touch())
    assert names(target) == ["new"]


def test_what_an_earlier_crash_left_is_no_obstacle(tmp_path):
    (tmp_path / ".one.part").mkdir()
    (tmp_path / ".one.part" / "half").touch()
    write_folder(tmp_path / "one", lambda folder: (folder / "new").touch())
    assert names(tmp_path / "one") == ["new"]
    assert names(tmp_path) == ["one"]


def test_a_fill_that_fails_leaves_the_old_folder(tmp_path):
    target = tmp_path / "one"
    write_folder(target, lambda folder: (folder / "old").touch())

    def fail(folder):
        (folder / "half").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_folder(target, fail)
    assert names(target) == ["old"]
    assert names(tmp_path) == ["one"]


def test_a_folder_that_cannot_be_renamed_does_not_appear(tmp_path, full_disk):
    with pytest.raises(OSError, match="No space"):
        write_folder(tmp_path / "one", lambda folder: (folder / "new").touch())
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path, full_disk):
    target = tmp_path / "one"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(OSError, match="No space"):
        write_folder(target, lambda folder: (folder / "new").touch())
    assert target.is_dir() and names(target) == ["old"]
