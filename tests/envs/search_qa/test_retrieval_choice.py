"""The choice of a search by the settings, and what is remembered of its results."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.search_qa.retrieval import make_retriever
from d2skill.envs.search_qa.retrieval.recent import RecentSearches
from d2skill.errors import ConfigError, EnvironmentFault


class Letters:
    """Finds a passage for each letter of a query, and counts; `broken` has it fail."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.broken = False

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        if self.broken:
            raise EnvironmentFault("gone")
        self.asked.append([*queries])
        return [[Passage(letter, letter) for letter in query[:k]] for query in queries]


def ids(found: list[list[Passage]]) -> list[str]:
    return ["".join(passage.id for passage in passages) for passages in found]


@pytest.mark.parametrize("retriever", ["bm25", "dense"])
def test_missing_passages_name_the_setting(tmp_path, retriever):
    with pytest.raises(ConfigError, match=r"corpus.jsonl is missing: env.search_qa.corpus names the passages"):
        make_retriever(SearchQAConfig(retriever=retriever), tmp_path)
    with pytest.raises(ConfigError, match=r"other.jsonl is missing: env.search_qa.corpus"):
        make_retriever(SearchQAConfig(retriever=retriever, corpus=tmp_path / "other.jsonl"), tmp_path)


def test_the_corpus_of_the_settings_comes_before_that_of_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path / "cache"))
    for name in ("corpus", "other"):
        line = {"id": name, "contents": "red shoe"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line))
    assert ids(make_retriever(SearchQAConfig(), tmp_path).search(["shoe"], 3)) == ["corpus"]
    settings = SearchQAConfig(corpus=tmp_path / "other.jsonl")
    assert ids(make_retriever(settings, tmp_path).search(["shoe"], 3)) == ["other"]


def test_only_new_queries_are_searched_each_once():
    inner = Letters()
    search = RecentSearches(inner)
    assert ids(search.search(["abc", "de", "abc"], 2)) == ["ab", "de", "ab"]
    assert ids(search.search(["f", "abc", "", "de"], 2)) == ["f", "ab", "", "de"]
    assert ids(search.search(["", "abc"], 2)) == ["", "ab"]
    assert ids(search.search(["abc"], 3)) == ["abc"]
    assert inner.asked == [["abc", "de"], ["f", ""], ["abc"]]
    search.search(["abc"], 2)[0].clear()
    assert ids(search.search(["abc"], 2)) == ["ab"]


def test_the_least_recently_used_make_room():
    inner = Letters()
    search = RecentSearches(inner, passages=4)
    for query in ("ab", "cd", "ab", "ef", "ab", "cd"):
        search.search([query], 2)
    assert inner.asked == [["ab"], ["cd"], ["ef"], ["cd"]]
    search.search(["x" * 100], 100)  # more than there is room for
    assert ids(search.search(["ab"], 2)) == ["ab"]
    long = "y" * 2000
    assert ids(search.search([long], 1)) == ids(search.search([long], 1)) == ["y"]
    assert inner.asked[-2:] == [[long], [long]]


def test_a_fault_is_not_remembered():
    inner = Letters()
    search = RecentSearches(inner)
    inner.broken = True
    with pytest.raises(EnvironmentFault):
        search.search(["a"], 1)
    inner.broken = False
    assert ids(search.search(["a"], 1)) == ["a"]


def test_the_package_loads_no_search():
    code = "import sys, d2skill; print([name for name in sys.modules if 'search_qa' in name or 'text_search' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
