"""The caches of vectors: what was embedded once is not embedded again, and nothing about them is ever an error."""

import logging
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from d2skill.embedders import cache, gates
from d2skill.embedders.cache import CachedEmbedder, DiskCache, MemoryCache, default_cache_folder

WORDS = [f"text number {n}" for n in range(50)]


class Counting:
    """Makes vectors of a text's letters and remembers what it was asked."""

    def __init__(self, fingerprint="counting/8"):
        self.fingerprint, self.dimension, self.asked = fingerprint, 8, []

    def embed(self, texts):
        self.asked += texts
        return np.array([vector(text) for text in texts], dtype=np.float32)


def vector(text):
    own = np.bincount(np.frombuffer(text.encode(), np.uint8) % 8, minlength=8) + 1.0
    return (own / np.sqrt((own**2).sum())).astype(np.float32)


def cached(folder, model=None, megabytes=10):
    model = model or Counting()
    disk = DiskCache(folder, model.fingerprint, 8, megabytes) if folder else None
    return CachedEmbedder(model, disk, gates.ModelGates("toy", 0.1, 0.2)), model


def file_of(folder):
    (found,) = folder.glob("*.db")
    return found


def test_a_text_is_embedded_once(tmp_path):
    for folder in (None, tmp_path):
        embedder, model = cached(folder)
        first = embedder.embed([*WORDS, WORDS[0]])
        assert model.asked == WORDS
        np.testing.assert_array_equal(first[-1], first[0])
        np.testing.assert_array_equal(embedder.embed(WORDS[::-1]), first[-2::-1])
        assert model.asked == WORDS
        assert embedder.embed([]).shape == (0, 8)
    assert (embedder.task_gate, embedder.step_gate) == (0.1, 0.2)


def test_the_next_process_gets_the_same_vectors_without_the_model(tmp_path):
    first = cached(tmp_path)[0].embed(WORDS)
    embedder, model = cached(tmp_path)
    np.testing.assert_array_equal(embedder.embed(WORDS), first)
    assert not model.asked
    embedder.embed(["new", *WORDS])
    assert model.asked == ["new"]


def test_models_do_not_share_vectors(tmp_path):
    cached(tmp_path)[0].embed(WORDS)
    embedder, model = cached(tmp_path, Counting("other/8"))
    embedder.embed(WORDS)
    assert model.asked == WORDS and len(list(tmp_path.glob("*.db"))) == 2


def test_any_text_is_a_key(tmp_path):
    texts = ["", "\x00", "a\nb", "Ünïcödé 日本", "half \ud800", "'; DROP TABLE vectors; --"]
    cached(tmp_path)[0].embed(texts)
    embedder, model = cached(tmp_path)
    embedder.embed(texts)
    assert not model.asked


def test_texts_are_looked_up_in_one_query(tmp_path, monkeypatch):
    cached(tmp_path)[0].embed(WORDS)
    statements = []
    connect = sqlite3.connect

    def traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    cached(tmp_path)[0].embed(WORDS)
    assert sum("SELECT" in statement for statement in statements) == 1
    assert not any(word in statement for statement in statements for word in ("INSERT", "UPDATE", "DELETE"))


def test_a_long_list_is_put_down_bit_by_bit(tmp_path, monkeypatch):
    """What was embedded before a model failed is not embedded again."""
    monkeypatch.setattr(cache, "_PORTION", 10)

    class Failing(Counting):
        def embed(self, texts):
            if len(self.asked) == 20:
                raise ValueError("gone")
            return super().embed(texts)

    with pytest.raises(ValueError, match="gone"):
        cached(tmp_path, Failing())[0].embed(WORDS)
    embedder, model = cached(tmp_path)
    embedder.embed(WORDS)
    assert model.asked == WORDS[20:]


def spoil_all(path):
    path.write_bytes(b"this is no database, however one looks at it" * 100)


def spoil_the_middle(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 4 :] = os.urandom(len(data) - len(data) // 4)
    path.write_bytes(data)


def spoil_a_vector(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE vectors SET vector = zeroblob(length(vector)) WHERE number = 7")
    connection.close()


def spoil_the_type(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE vectors SET vector = 'text' WHERE number = 7")
    connection.close()


def spoil_the_tables(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE vectors")
    connection.close()


def spoil_the_version(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def empty(path):
    path.write_bytes(b"")


SPOILERS = [
    spoil_all,
    spoil_the_middle,
    spoil_a_vector,
    spoil_the_type,
    spoil_the_tables,
    spoil_the_version,
    cut,
    empty,
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_damaged_file_is_replaced_and_said_in_one_line(spoil, tmp_path, caplog):
    first = cached(tmp_path)[0].embed(WORDS)
    spoil(file_of(tmp_path))
    with caplog.at_level(logging.WARNING):
        embedder, model = cached(tmp_path)
        np.testing.assert_array_equal(embedder.embed(WORDS), first)
    (line,) = caplog.messages
    assert str(file_of(tmp_path)) in line and "begun anew" in line and "\n" not in line
    assert model.asked
    again, model = cached(tmp_path)
    np.testing.assert_array_equal(again.embed(WORDS), first)
    assert not model.asked


def test_a_folder_that_cannot_be_had_costs_time_only(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    embedder, model = cached(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        embedder.embed(WORDS)
        embedder.embed(["new"])
    assert model.asked == [*WORDS, "new"]
    (line,) = caplog.messages
    assert "cannot be used" in line


def test_a_folder_in_the_place_of_the_file(tmp_path, caplog):
    embedder, model = cached(tmp_path)
    embedder._disk.path.mkdir()
    embedder.embed(WORDS)
    embedder.embed(WORDS)
    assert model.asked == WORDS and len(caplog.messages) == 1


def test_a_file_that_another_program_has_locked_is_done_without(tmp_path, monkeypatch, caplog):
    cached(tmp_path)[0].embed(WORDS)
    monkeypatch.setattr(cache, "_WAIT_SECONDS", 0.05)
    holder = sqlite3.connect(file_of(tmp_path), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    embedder, model = cached(tmp_path)
    embedder.embed(["new", *WORDS])
    holder.close()
    assert model.asked == ["new"] and not caplog.messages  # others read while one writes


def test_the_file_keeps_its_size_and_the_vectors_that_were_used_last(tmp_path, monkeypatch):
    hour = [1000]
    monkeypatch.setattr(cache, "_hour", lambda: hour[0])
    texts = [f"text {n}" for n in range(12_000)]
    for start in range(0, len(texts), 2000):
        hour[0] += 1
        embedder, _ = cached(tmp_path, megabytes=1)
        embedder.embed(texts[start : start + 2000])
        embedder.embed(["always", texts[0]])
        assert file_of(tmp_path).stat().st_size <= 1.3 * 2**20
    embedder, model = cached(tmp_path, megabytes=1)
    embedder.embed([*texts[-2000:], "always", texts[0]])
    assert not model.asked
    embedder.embed(texts[1:2000])
    assert len(model.asked) == 1999, "the oldest are gone"


def test_the_memory_is_bounded():
    memory = MemoryCache(size=3)
    for text in "abc":
        memory.put({text: vector(text)})
    memory.get(["a"])
    memory.put({"d": vector("d")})
    assert set(memory.get(["a", "b", "c", "d"])) == {"a", "c", "d"}


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_cache import WORDS, cached, vector
import numpy as np
number = int(sys.argv[3])
for turn in range(10):
    texts = WORDS[number * 5 :] + [f"{number} {turn} {n}" for n in range(20)]
    found = cached(Path(sys.argv[2]))[0].embed(texts)
    assert (found == np.array([vector(text) for text in texts])).all()
"""


def test_several_processes_use_one_file_at_once(tmp_path):
    folder = tmp_path / "shared"
    command = [sys.executable, "-c", WORKER, os.path.dirname(__file__), str(folder)]
    workers = [subprocess.Popen([*command, str(n)], stderr=subprocess.PIPE, text=True) for n in range(4)]
    said = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4 and not any(said), said
    embedder, model = cached(folder)
    embedder.embed([*WORDS, *(f"{number} {turn} {n}" for number in range(4) for turn in range(10) for n in range(20))])
    assert not model.asked
    with sqlite3.connect(file_of(folder)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_folder_is_where_caches_belong(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "d2skill" / "embeddings"
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert default_cache_folder() == tmp_path / ".cache" / "d2skill" / "embeddings"
