"""QAQuestion files: FlashRAG's lines, Search-R1's rows, and everything that can be wrong in them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.envs.search_qa.questions import QAQuestion, read_folder, read_questions
from d2skill.errors import ConfigError, DataError


def write(path, *rows):
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_flashrag_lines_are_read(tmp_path):
    rows = [
        {"id": "test_3", "question": "who wrote Emma", "golden_answers": ["Jane Austen", "Austen"], "metadata": {}},
        {"question": "who reads it", "golden_answers": "nobody"},
        "",
        {"id": 7, "question": "in what year \ud800", "golden_answers": ["1815"]},
    ]
    assert read_questions(write(tmp_path / "nq.jsonl", *rows), "nq") == [
        QAQuestion("test_3", "who wrote Emma", ("Jane Austen", "Austen"), "nq"),
        QAQuestion("2", "who reads it", ("nobody",), "nq"),
        QAQuestion("7", "in what year ?", ("1815",), "nq"),
    ]


def test_a_set_is_named_by_the_data_source_of_a_question(tmp_path):
    target = {"ground_truth": {"target": ["Paris"]}}
    rows = [
        {"id": "test_0", "question": "a?", "data_source": "nq", "reward_model": target},
        {"id": "test_0", "question": "b?", "data_source": "bamboogle", "golden_answers": ["x"]},
    ]
    write(tmp_path / "test.jsonl", *rows)
    write(tmp_path / "corpus.jsonl", "no question")
    write(tmp_path / ".nq.jsonl", "no question")
    found = read_folder(tmp_path, tmp_path / "corpus.jsonl")
    assert found == {
        "nq": [QAQuestion("test_0", "a?", ("Paris",), "nq")],
        "bamboogle": [QAQuestion("test_0", "b?", ("x",), "bamboogle")],
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", r"line 2 is no JSON \(Expecting"),
        ("[" * 10**5, r"line 2 is no JSON \(it is nested too deeply\)"),
        ("\x00", "line 2 is no JSON"),
        ("[1]", "line 2 is .* no object with question and golden_answers"),
        ('{"golden_answers": ["x"]}', "line 2 has the question None"),
        ('{"question": "  ", "golden_answers": ["x"]}', "line 2 has the question '  '"),
        ('{"question": "q"}', "line 2 has the golden_answers None"),
        ('{"question": "q", "golden_answers": []}', r"line 2 has the golden_answers \[\]"),
        ('{"question": "q", "golden_answers": ["x", 3]}', "line 2 has the golden_answers"),
        ('{"question": "q", "golden_answers": [""]}', "line 2 has the golden_answers"),
        ('{"question": "q", "reward_model": {"ground_truth": 3}}', "line 2 has the golden_answers None"),
        ('{"question": "q", "golden_answers": ["x"], "id": [1]}', r"line 2 has the id \[1\]"),
        ('{"question": "q", "golden_answers": ["x"], "data_source": 4}', "line 2 has the data_source 4"),
    ],
)
def test_a_broken_line_is_named_with_its_file(tmp_path, line, told):
    path = write(tmp_path / "nq.jsonl", {"question": "q", "golden_answers": ["x"]}, line)
    with pytest.raises(DataError, match=f"nq.jsonl, {told}.*: mend the file, or keep it out of the data folder"):
        read_questions(path, "nq")


def test_a_file_without_questions_and_one_that_is_none_are_told(tmp_path):
    with pytest.raises(DataError, match=r"nq\.jsonl has no questions"):
        read_questions(write(tmp_path / "nq.jsonl", ""), "nq")
    (tmp_path / "popqa.jsonl").mkdir()
    with pytest.raises(DataError, match=r"popqa\.jsonl cannot be read"):
        read_questions(tmp_path / "popqa.jsonl", "popqa")
    with pytest.raises(ConfigError, match="nowhere is no folder: name the one with the questions"):
        read_folder(tmp_path / "nowhere", tmp_path / "corpus.jsonl")


@pytest.mark.parametrize("name", ["corpus.jsonl.gz", "nq.jsonl.gz"])
def test_a_packed_file_is_told_how_it_is_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=f"{name} is packed, .* gunzip {name}"):
        read_folder(tmp_path, tmp_path / "corpus.jsonl")
    (tmp_path / name.removesuffix(".gz")).write_text('{"id": "1", "question": "Who?", "golden_answers": ["I"]}\n')
    read_folder(tmp_path, tmp_path / "corpus.jsonl")


def test_an_id_is_in_a_set_once(tmp_path):
    for name in ("nq", "test"):
        write(tmp_path / f"{name}.jsonl", {"id": "1", "question": "q", "golden_answers": ["x"], "data_source": "nq"})
    with pytest.raises(DataError, match=r"test\.jsonl has the id 1 of nq once more"):
        read_folder(tmp_path, tmp_path / "corpus.jsonl")


@given(content=st.binary(max_size=60))
def test_any_bytes_are_questions_or_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "nq.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"nq\.jsonl"):
        read_questions(path, "nq")


def test_parquet_without_pyarrow_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"test\.parquet is read by pyarrow, .* pip install pyarrow"):
        read_questions(tmp_path / "test.parquet", "test")


def test_search_r1s_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {
            "id": f"test_{number}",
            "question": f"question {number}",
            "golden_answers": ["x", "y"],
            "data_source": ("nq", "popqa")[number % 2],
            "prompt": [{"role": "user", "content": "..."}],
            "reward_model": {"style": "rule", "ground_truth": {"target": ["x", "y"]}},
        }
        for number in range(4)
    ]
    path = tmp_path / "test.parquet"
    for drop in ("prompt", "golden_answers"):
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        found = read_folder(tmp_path, tmp_path / "corpus.jsonl")
        assert {name: [one.id for one in questions] for name, questions in found.items()} == {
            "nq": ["test_0", "test_2"],
            "popqa": ["test_1", "test_3"],
        }
        assert all(one.answers == ("x", "y") for questions in found.values() for one in questions)
        rows = [{name: value for name, value in row.items() if name != drop} for row in rows]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"test\.parquet cannot be read"):
        read_questions(path, "test")
    parquet.write_table(pyarrow.Table.from_pylist([{"question": "q"}, {"question": None}]), path)
    with pytest.raises(DataError, match=r"test\.parquet, row 1 has the golden_answers None"):
        read_questions(path, "test")
