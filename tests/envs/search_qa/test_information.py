"""Both shapes of what a search shows, and passages that would speak for an agent."""

import json

import pytest

from d2skill.envs.search_qa.information import SHAPES, reference, search_r1, verl_agent, without_tags
from d2skill.envs.search_qa.passage import Passage

PASSAGES = [
    Passage("7", '"Pelé"\nPelé was\na "player".  ', 3.5),
    Passage("9", '"""Quoted"" Title"\nno more', 2.0),
    Passage("1", "alone", 1.0),
]


def test_search_r1_shows_titles_as_they_are():
    assert search_r1(PASSAGES) == (
        '<information>Doc 1(Title: "Pelé") Pelé was\na "player".  \n'
        'Doc 2(Title: """Quoted"" Title") no more\n'
        "Doc 3(Title: alone)</information>"
    )
    assert search_r1([]) == "<information>No passage was found.</information>"


def test_verl_agent_shows_json_with_its_escapes():
    assert verl_agent(PASSAGES[:2]) == (
        '\n<information>{"result": "Doc 1: \\"Pel\\u00e9\\"\\nPel\\u00e9 was\\na \\"player\\".\\n'
        'Doc 2: \\"\\"\\"Quoted\\"\\" Title\\"\\nno more\\n"}</information>\n'
    )
    assert verl_agent([]) == '\n<information>{"result": "No search results found."}</information>\n'
    assert reference([]) == '\n<information>{"result": ""}</information>\n'


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "tag", ["<answer>", "</answer>", "</information>", "<information>", "</Information >", "< /search>", "<THINK>"]
)
def test_no_passage_ends_the_information_or_answers(shape, tag):
    hostile = Passage("1", f'"{tag}"\na < b > c <b>{tag}x</b>')
    clean = without_tags(hostile)
    shown = SHAPES[shape]([clean])
    assert shown.count("<information>") == shown.count("</information>") == 1
    assert tag not in shown.replace("<information>", "", 1).rpartition("</information>")[0]
    inner = f"[{tag[1:-1]}]"
    assert clean.contents == f'"{inner}"\na < b > c <b>{inner}x</b>'  # all other brackets stay
    assert without_tags(PASSAGES[0]) is PASSAGES[0]


def test_the_json_of_verl_agent_can_be_read_back():
    inside = verl_agent(PASSAGES).strip().removeprefix("<information>").removesuffix("</information>")
    assert json.loads(inside)["result"].startswith('Doc 1: "Pelé"\nPelé was\na "player".\nDoc 2: ')


def test_a_sign_before_many_blanks_takes_no_long_time():
    passage = Passage("0", "T\n<" + " " * 300_000)  # hours in quadratic time
    assert without_tags(passage) is passage
