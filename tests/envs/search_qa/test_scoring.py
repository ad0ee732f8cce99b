"""Exact match and F1 by the rules of SQuAD's evaluation, in the order in which it has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.envs.search_qa.scoring import exact_match, f1, normalise


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Beatles", "beatles"),
        ("  A   Day\tin\nthe Life ", "day in life"),
        ("U.S.A.", "usa"),
        ("a-ha", "aha"),  # punctuation goes first, so the article never stands alone
        ("a. b", "b"),
        ("the-end", "theend"),
        ("Theodore an Anna", "theodore anna"),  # articles inside words stay
        ("O'Neil", "oneil"),
        ("O’Neil", "o’neil"),  # only ASCII punctuation goes
        ("the’s", "’s"),  # and other punctuation ends a word
        ("1,000", "1000"),
        ("Saint-Étienne", "saintétienne"),
        ("a\u00a0b", "b"),
        ("An", ""),
        ("İ", "i̇"),  # `str.lower`, not case folding
        ("STRASSE", "strasse"),
        ("straße", "straße"),
        ("the_end", "theend"),
        ("the€end", "€end"),
    ],
)
def test_normalised(text, normal):
    assert normalise(text) == normal


def test_exact_match_is_with_any_golden_answer():
    assert exact_match("the beatles!", ["Rolling Stones", "Beatles"])
    assert not exact_match("beatles band", ["Rolling Stones", "Beatles"])
    assert not exact_match("x", [])
    assert exact_match("?", ["*"])  # a golden answer that is punctuation alone equals any such answer, by these rules


@pytest.mark.parametrize(
    ("text", "answers", "score"),
    [
        ("a the", ["of"], 0.0),
        ("", ["the"], 1.0),
        ("new york city", ["York", "New York"], 0.8),
        ("red red blue", ["red"], 0.5),
        ("red", ["red red blue"], 0.5),
        ("x", [], 0.0),
    ],
)
def test_f1_is_of_the_nearest_golden_answer(text, answers, score):
    assert f1(text, answers) == pytest.approx(score)


@given(st.text(), st.lists(st.text(), max_size=4))
def test_scores_agree(text, answers):
    assert 0 <= f1(text, answers) <= 1
    assert exact_match(text, answers) == (f1(text, answers) == 1 and normalise(text) in map(normalise, answers))
    assert f1(text, [*answers, text]) == 1.0
