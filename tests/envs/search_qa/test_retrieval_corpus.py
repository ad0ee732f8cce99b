"""Corpora: lines of JSON in a mapped file, read one at a time, and what is kept of them in the cache."""

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.search_qa.retrieval import corpus as corpus_module
from d2skill.envs.search_qa.retrieval.corpus import Corpus, LongWork
from d2skill.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path / "cache"))


def written(folder: Path, *records: object, end: str = "\n") -> Path:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(record) + end for record in records))
    return path


def test_both_forms_of_a_line(tmp_path):
    path = written(
        tmp_path,
        {"id": "a", "contents": '"Red"\nA colour.', "more": 1},
        {"id": 7, "title": "Blue", "text": "Another."},
        {"contents": "no id"},
        {"id": "", "text": "no title"},
    )
    assert list(Corpus.open(path)) == [
        Passage("a", '"Red"\nA colour.'),
        Passage("7", '"Blue"\nAnother.'),
        Passage("2", "no id"),
        Passage("", '""\nno title'),
    ]
    assert Corpus.open(path).passage(1, 0.5) == Passage("7", '"Blue"\nAnother.', 0.5)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\n\r\n"]),
    st.booleans(),
)
def test_every_text_comes_back(tmp_path_factory, texts, end, whole):
    folder = tmp_path_factory.mktemp("any")
    lines = [json.dumps({"id": str(i), "contents": text}, ensure_ascii=False) for i, text in enumerate(texts)]
    content = end.join(lines) + (end if whole else "")
    path = folder / "corpus.jsonl"
    path.write_bytes(content.encode())
    corpus = Corpus.open(path)
    assert len(corpus) == len(texts)
    assert [corpus.passage(row).contents for row in range(len(texts))] == texts


def test_texts_without_a_form_in_files_are_replaced(tmp_path):
    assert Corpus.open(written(tmp_path, {"id": "\ud800", "contents": "a\ud800b"})).passage(0) == Passage("?", "a?b")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "Expecting property name"),
        ("[1]", "no JSON object"),
        ('{"id": "x"}', "no contents"),
        ('{"id": "x", "contents": 3}', "no contents"),
        ('{"id": ["x"], "contents": "y"}', "its id is no text"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_no_passage_is_named(tmp_path, line, reason):
    path = written(tmp_path, {"id": "a", "contents": "b"})
    path.write_text(path.read_text() + "\n" + line)
    corpus = Corpus.open(path)
    with pytest.raises(DataError, match=rf"^passage 2 of .*corpus.jsonl is none \(.*{reason}.*\): a line is like"):
        corpus.passage(1)
    path.write_text(line)
    with pytest.raises(DataError, match="passage 1 of"):
        Corpus.open(path)


def test_files_that_hold_no_passages(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="it is empty"):
        Corpus.open(path)
    path.write_bytes(b"\n\r\n\n")
    with pytest.raises(DataError, match="empty lines alone"):
        Corpus.open(path)
    path.write_bytes(gzip.compress(b'{"id": "a", "contents": "b"}\n'))
    with pytest.raises(DataError, match="unpack it with gunzip"):
        Corpus.open(path)
    with pytest.raises(ConfigError, match=r"Is a directory\): correct env.search_qa.corpus"):
        Corpus.open(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="it is a pipe"):
        Corpus.open(tmp_path / "pipe")


def test_a_file_that_changed_is_another_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr("d2skill.utils.shared_cache._LARGE", 0)
    path = written(tmp_path, {"id": "a", "contents": "red"})
    first, status = Corpus.open(path), path.stat()
    written(tmp_path, {"id": "a", "contents": "sea"})
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = Corpus.open(path)
    assert second.passage(0).contents == "sea" and second.cache != first.cache
    (tmp_path / "elsewhere").mkdir()
    assert Corpus.open(written(tmp_path / "elsewhere", {"id": "a", "contents": "red"})).cache == first.cache
    monkeypatch.setattr("hashlib.file_digest", None)  # the digest of a large file is remembered
    assert Corpus.open(path).cache == second.cache


def test_damaged_lines_are_found_again(tmp_path, caplog):
    path = written(tmp_path, {"id": "a", "contents": "red"}, {"id": "b", "contents": "sea"})
    corpus = Corpus.open(path)
    passages = [*corpus]
    made = (corpus.cache / "lines" / "starts.npy").stat()
    assert [*Corpus.open(path)] == passages and not caplog.records
    assert (corpus.cache / "lines" / "starts.npy").stat() == made
    (corpus.cache / "lines" / "starts.npy").write_bytes(b"x" * made.st_size)
    assert [*Corpus.open(path)] == passages
    assert "is damaged" in caplog.text


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path / "file" / "cache"))
    corpus = Corpus.open(written(tmp_path, {"id": "a", "contents": "red"}))
    assert corpus.passage(0).id == "a"
    assert "cannot be written" in caplog.text


def test_many_blocks_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "_CHUNK", 7)
    path = written(tmp_path, *({"id": str(i), "contents": "x" * i} for i in range(30)))
    assert [passage.id for passage in Corpus.open(path)] == [str(i) for i in range(30)]


def test_long_work_is_told_now_and_then(monkeypatch, caplog):
    now = 0.0
    monkeypatch.setattr(corpus_module, "monotonic", lambda: now)
    progress = LongWork("embedding the corpus", 1000, 100)
    for done in range(100, 1000, 100):
        progress.at(done)
        now += 8
    assert [record.getMessage() for record in caplog.records] == [
        "embedding the corpus: 300 of 1,000 passages, about 0.9 min left",
        "embedding the corpus: 700 of 1,000 passages, about 0.4 min left",
    ]
