"""BM25 over a corpus: the same as the index in memory, built once, and shared by processes."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.retrieval import make_retriever
from d2skill.envs.search_qa.retrieval.bm25 import BM25Search
from d2skill.envs.search_qa.retrieval.corpus import Corpus
from d2skill.envs.text_search import BM25Index, postings
from d2skill.envs.text_search.index_files import encode_strings, string_ranks
from d2skill.errors import DataError

WORDS = ["red", "shoe", "blue", "sock", "the", "x1", "été", "Ab", "running", "東京"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), max_size=20)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path / "cache"))


def written(folder: Path, *passages: str) -> Path:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{i}", "contents": text}) + "\n" for i, text in enumerate(passages)))
    return path


@given(texts, st.integers(1, 30), st.integers(1, 30))
def test_blocks_in_files_make_the_same_index(tmp_path_factory, documents, batch, merged):
    scratch = tmp_path_factory.mktemp("scratch")
    ids = [f"{len(documents) - i}" for i in range(len(documents))]
    whole = BM25Index.build(ids, documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "_BATCH", batch)
        patch.setattr(postings, "_MERGED", merged)
        blocks = BM25Index.build(ids, documents, scratch)
    assert list(scratch.iterdir()) == []
    assert whole._arrays.keys() == blocks._arrays.keys()
    for name, array in whole._arrays.items():
        assert array.dtype == blocks._arrays[name].dtype
        np.testing.assert_array_equal(array, blocks._arrays[name])


@given(st.lists(st.one_of(st.text(), st.text("ab\0é", max_size=3), st.integers(0, 10**7).map(str))))
def test_ranks_are_in_the_order_of_strings(strings):
    ranks = string_ranks(*encode_strings(strings))
    assert np.argsort(ranks).tolist() == sorted(range(len(strings)), key=strings.__getitem__)


def test_the_real_corpus(real_folder):
    data = real_folder
    retriever = make_retriever(SearchQAConfig(), data)
    corpus = Corpus.open(data / "corpus.jsonl")
    assert len(corpus) == 8438
    rows = [*corpus]
    index = BM25Index.build([row.id for row in rows], (row.contents for row in rows))
    asked = [json.loads(line)["question"] for line in (data / "nq.jsonl").open()][:100]
    contents = {row.id: row.contents for row in rows}
    found = retriever.search(asked, 3)
    for query, passages in zip(asked, found, strict=True):
        assert [(passage.id, passage.score) for passage in passages] == index.search(query, 3)
        assert all(passage.contents == contents[passage.id] for passage in passages)
    best = retriever.search(["who wrote uncle tom's cabin", "!"], 1)
    assert best[0][0].title == "Uncle Tom's Cabin" and best[1] == []
    made = {path: path.stat() for path in (corpus.cache / "bm25").iterdir()}
    assert make_retriever(SearchQAConfig(), data).search(asked, 3) == found
    assert {path: path.stat() for path in (corpus.cache / "bm25").iterdir()} == made


def test_equal_scores_are_in_the_order_of_ids(tmp_path):
    search = BM25Search(Corpus.open(written(tmp_path, *["red shoe"] * 12)))
    assert [passage.id for passage in search.search(["red"], 4)[0]] == ["p0", "p1", "p10", "p11"]
    assert search.search([], 3) == [] and search.search(["red"], 0) == [[]]


def _first(path: Path, start) -> None:
    start.wait()
    passages = BM25Search(Corpus.open(path)).search(["sock"], 1)[0]
    assert [passage.id for passage in passages] == ["p1"]


def test_processes_that_begin_at_once_make_one_index(tmp_path):
    path = written(tmp_path, "red shoe", "blue sock")
    context = multiprocessing.get_context("fork")
    start = context.Event()
    children = [context.Process(target=_first, args=(path, start)) for _ in range(4)]
    for child in children:
        child.start()
    start.set()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert sorted(path.name for path in Corpus.open(path).cache.iterdir() if path.is_dir()) == ["bm25", "lines"]


def test_a_damaged_index_is_built_again(tmp_path, caplog):
    path = written(tmp_path, "red shoe", "blue sock")
    corpus = Corpus.open(path)
    BM25Search(corpus)
    file = corpus.cache / "bm25" / "rows.npy"
    file.write_bytes(file.read_bytes()[:-1])
    assert [passage.id for passage in BM25Search(corpus).search(["red"], 3)[0]] == ["p0"]
    assert "is damaged" in caplog.text


def test_a_broken_passage_leaves_no_index(tmp_path):
    path = written(tmp_path, "red shoe", "blue sock")
    path.write_text(path.read_text() + "{}\n")
    corpus = Corpus.open(path)
    with pytest.raises(DataError, match=r"passage 3 of .* is none \(it has no contents\)"):
        BM25Search(corpus)
    assert not (corpus.cache / "bm25").exists()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path / "file" / "cache"))
    search = BM25Search(Corpus.open(written(tmp_path, "red shoe", "blue sock")))
    assert [passage.id for passage in search.search(["sock"], 3)[0]] == ["p1"]
    assert "cannot be written" in caplog.text
