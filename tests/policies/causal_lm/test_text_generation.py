"""A language model answers any chat, and does so alike in any company."""

import pytest

pytest.importorskip("torch")

from lm_toys import policy

from d2skill.policies.causal_lm.constrained_decoding import TextWalker
from d2skill.protocols import SupportsChat

CHATS = [[{"role": "user", "content": f"Say something about chest {number}."}] for number in range(5)]
CHATS[2].insert(0, {"role": "system", "content": "You are asked about chests."})


def test_answers_are_the_likeliest_and_do_not_depend_on_their_batch(monkeypatch):
    walkers = []

    class Watched(TextWalker):
        def __post_init__(self):
            walkers.append(self)

    monkeypatch.setattr("d2skill.policies.causal_lm.text_generation.TextWalker", Watched)
    own = policy()
    assert isinstance(own, SupportsChat)
    together = own.write(CHATS, 12)
    assert together == [own.write([chat], 12)[0] for chat in CHATS] == own.write(CHATS[::-1], 12)[::-1]
    assert all(0 < len(one.tokens) <= 12 for one in walkers)
    long = [one.tokens for one in walkers[:5]]
    walkers.clear()
    own.write(CHATS, 3)
    assert [one.tokens for one in walkers] == [tokens[:3] for tokens in long]
    assert all(set(tokens[:-1]).isdisjoint(own.chat.ends) for tokens in long)


def test_a_chat_that_is_too_long_loses_its_beginning():
    own = policy()
    long = [{"role": "user", "content": "chest " * 20_000}]
    (text,) = own.write([long], 8)
    assert isinstance(text, str)


def test_writing_changes_nothing_about_acting():
    one, other = policy(), policy()
    one.write(CHATS, 8)
    assert one.write(CHATS[:1], 8) == other.write(CHATS[:1], 8)
    assert one.write([], 8) == []
