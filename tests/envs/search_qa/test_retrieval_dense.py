"""Dense search: exact inner products over vectors that are made once, block by block."""

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.config import EmbedderConfig, SearchQAConfig
from d2skill.envs.search_qa.retrieval import dense, make_retriever
from d2skill.envs.search_qa.retrieval.corpus import Corpus
from d2skill.envs.search_qa.retrieval.dense import DenseSearch, best_rows

COUNTING = """
    from pathlib import Path

    import numpy as np

    class Letters:
        '''Counts letters; notes how many texts it embeds, and is stopped by the word stop.'''

        fingerprint, dimension, task_gate, step_gate = "letters", 26, 0.5, 0.5

        def embed(self, texts):
            folder = Path(__file__).parent
            if (folder / "stop").exists() and any("stop" in text for text in texts):
                raise KeyboardInterrupt
            with (folder / "embedded").open("a") as file:
                file.write("x" * len(texts))
            counts = np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)
            return (counts + 1e-3) / np.linalg.norm(counts + 1e-3, axis=1, keepdims=True)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dense, "_MADE", 4)
    monkeypatch.setattr(dense, "_SEARCHED", 5)


@pytest.fixture
def letters(tmp_path) -> EmbedderConfig:
    folder = tmp_path / "own"
    folder.mkdir()
    module = f"letters_{tmp_path.name}"  # a module is loaded once in a process
    (folder / f"{module}.py").write_text(textwrap.dedent(COUNTING))
    return EmbedderConfig(kind=f"{module}:Letters", folder=folder)


def embedded(settings: EmbedderConfig) -> int:
    return len((settings.folder / "embedded").read_text())


def written(folder: Path, *passages: str) -> Corpus:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{i}", "contents": text}) + "\n" for i, text in enumerate(passages)))
    return Corpus.open(path)


@given(st.data(), st.integers(1, 40), st.integers(1, 5), st.integers(1, 50))
def test_the_best_rows_are_those_of_all_products(data, count, queries, k):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    vectors = rng.integers(-2, 3, (count, 3)).astype(np.float16)  # products are exact, and many are equal
    asked = rng.integers(-2, 3, (queries, 3)).astype(np.float32)
    found = best_rows(vectors, asked, k)
    assert len(found) == queries
    for query, (rows, scores) in zip(asked, found, strict=True):
        products = vectors.astype(np.float32) @ query
        order = np.lexsort((np.arange(count), -products))[:k]
        assert rows.tolist() == order.tolist()
        assert scores.tolist() == products[order].tolist()


def test_a_passage_is_found_by_its_own_words(tmp_path):
    passages = [f"passage of {word} and {word}s" for word in "apple boat cloud door egg fish glass house".split()]
    corpus = written(tmp_path, *passages)
    retriever = make_retriever(SearchQAConfig(retriever="dense"), tmp_path)
    found = retriever.search(["a fish", "the cloud", "a fish"], 2)
    assert [some[0].id for some in found] == ["p5", "p2", "p5"]
    assert all(some[0].score > some[1].score for some in found)
    assert found[0] == retriever.search(["a fish"], 2)[0]
    search = DenseSearch(corpus, EmbedderConfig())
    assert len(search.search(["boat"], 100)[0]) == 8
    assert search.search([], 3) == [] and search.search(["boat"], 0) == [[]]


def test_vectors_are_made_once(tmp_path, letters):
    corpus = written(tmp_path, *(f"word {i}" for i in range(10)))
    first = DenseSearch(corpus, letters).search(["word"], 3)
    assert embedded(letters) == 11
    assert DenseSearch(corpus, letters).search(["word"], 3) == first
    assert embedded(letters) == 12
    DenseSearch(corpus, EmbedderConfig())  # another embedder has its own vectors
    folders = [path for path in corpus.cache.iterdir() if path.name.startswith("dense")]
    assert len(folders) == 2
    assert {np.load(folder / "vectors.npy").dtype.name for folder in folders} == {"float16"}


def test_a_process_that_was_stopped_is_taken_up(tmp_path, letters):
    corpus = written(tmp_path, *(f"word {'stop' if i == 9 else i}" for i in range(14)))
    (letters.folder / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        DenseSearch(corpus, letters)
    assert embedded(letters) == 8
    (letters.folder / "stop").unlink()
    resumed = DenseSearch(corpus, letters)
    assert embedded(letters) == 14
    fresh = np.asarray(resumed._embedder.embed([passage.contents for passage in corpus]), np.float16)
    np.testing.assert_array_equal(resumed._vectors, fresh)


@pytest.mark.parametrize("damage", ["vectors", "note", "gone", "short"])
def test_damaged_vectors_are_made_again(tmp_path, letters, damage, caplog):
    corpus = written(tmp_path, *(f"word {i}" for i in range(10)))
    expected = np.array(DenseSearch(corpus, letters)._vectors)
    file = next(corpus.cache.glob("dense-*/vectors.npy"))
    if damage == "vectors":
        file.write_bytes(file.read_bytes()[:-8] + b"damaged!")
    elif damage == "short":
        file.write_bytes(file.read_bytes()[:-8])
    elif damage == "gone":
        file.unlink()
    else:
        file.with_name("vectors.json").write_text("{broken")
    np.testing.assert_array_equal(DenseSearch(corpus, letters)._vectors, expected)
    assert embedded(letters) == 20
    assert "is not complete" in caplog.text
