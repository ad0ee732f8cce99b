import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.policies.causal_lm.constrained_decoding import ChoiceDecoding
from d2skill.policies.causal_lm.token_trie import TokenTrie

END = 0
answers = st.lists(st.lists(st.integers(1, 4), max_size=5).map(lambda t: (*t, END)), min_size=1, max_size=12)


def walk(trie: TokenTrie, node: int = 0, prefix: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if not trie.options(node):
        return [prefix]
    branches = [walk(trie, trie.child(node, t), (*prefix, t)) for t in trie.options(node)]
    return list(itertools.chain.from_iterable(branches))


@given(answers)
def test_exactly_the_answers_can_be_reached(given_answers):
    trie = TokenTrie(given_answers)
    assert sorted(walk(trie)) == sorted(set(given_answers))
    leaves = []
    for answer in set(given_answers):
        node = 0
        for token in answer:
            node = trie.child(node, token)
        assert all(given_answers[i] == answer for i in trie.answers(node))
        leaves += trie.answers(node)
    assert sorted(leaves) == list(range(len(given_answers)))


@given(answers)
def test_probabilities_of_all_answers_sum_to_one(given_answers):
    trie = TokenTrie(given_answers)
    weight = {t: 1.0 + t * t for t in range(5)}
    total = 0.0
    for answer in set(given_answers):
        log_prob = 0.0
        for position, options in trie.forks(answer):
            log_prob += math.log(weight[answer[position]] / sum(weight[o] for o in options))
        total += math.exp(log_prob)
    assert total == pytest.approx(1.0)


@given(answers, st.randoms(use_true_random=False))
def test_constrained_decoding_chooses_at_forks_only_and_writes_a_whole_answer(given_answers, random):
    trie = TokenTrie(given_answers)
    state = ChoiceDecoding(np.random.default_rng(0), trie)
    read = list(state.tokens)
    while state.options:
        assert len(state.options) > 1
        chunk = state.append(random.choice(state.options), -1.0)
        read += chunk
    assert tuple(state.tokens) in given_answers
    assert read == state.tokens[: len(read)]
    forks = [position for position, _ in trie.forks(state.tokens)]
    assert forks == [i for i, value in enumerate(state.log_probs) if value == -1.0]
    assert all(value == 0.0 for i, value in enumerate(state.log_probs) if i not in forks)


def test_what_cannot_be_an_answer_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        TokenTrie([])
    with pytest.raises(ValueError, match="beginning of another"):
        TokenTrie([(1,), (1, 2)])
    trie = TokenTrie([(1, 2, END), (1, 3, END)])
    with pytest.raises(ValueError, match="token 4"):
        list(trie.forks((1, 4)))
    with pytest.raises(ValueError, match="end before"):
        list(trie.forks((1, 2)))


def test_forced_tokens_run_to_the_next_fork():
    trie = TokenTrie([(1, 2, 3, END), (1, 2, 4, 4, END)])
    tokens, node = trie.forced(0)
    assert tokens == (1, 2) and trie.options(node) == (3, 4)
    assert trie.forced(trie.child(node, 4))[0] == (4, END)
    assert list(trie.forks((1, 2, 3, END))) == [(2, (3, 4))]
