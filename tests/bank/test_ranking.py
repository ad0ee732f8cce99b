import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from d2skill.bank import ranking


def rank(similarities, values, **settings):
    """What `ranking.rank` returns for queries and keys with these cosines [Q, S]."""
    queries = np.eye(len(similarities), dtype=np.float32)
    return ranking.rank(queries, np.array(similarities, dtype=np.float32).T, values, **settings)


def retrieved(similarities, values, *, gate=-1.0, candidates=10, k=3, alpha=0.1):
    """Rows and scores for one query, without the empty slots."""
    rows, found, scores = rank(
        [similarities], np.array(values, dtype=float), gate=gate, candidates=candidates, k=k, alpha=alpha
    )
    assert found[0][rows[0] >= 0].tolist() == [similarities[row] for row in rows[0] if row >= 0]
    used = rows[0] >= 0
    assert np.all(np.isneginf(scores[0][~used]))
    return rows[0][used].tolist(), scores[0][used].tolist()


# Eq. 8


def test_bonus_by_hand():
    # N_r = 3 + 0 = 3: sqrt(log 4 / 4) = 0.588705, sqrt(log 4 / 1) = 1.177410
    values = ranking.utility_bonus(np.array([0.5, 0.0]), np.array([3, 0]), 0.05)
    np.testing.assert_allclose(values, [0.5 + 0.05 * 0.588705, 0.05 * 1.177410], atol=1e-6)


def test_bonus_of_an_unused_pool_is_zero():
    np.testing.assert_array_equal(ranking.utility_bonus(np.array([0.2]), np.array([0]), 0.05), [0.2])


def test_eq8_by_hand():
    rows, scores = retrieved([0.8, 0.6, 0.4], [0.1, 0.3, 0.2], alpha=0.1, k=2)
    assert rows == [1, 2]
    # 0.1 · (1 + 0.6)/2 + 0.9 · 0.3 and 0.1 · (1 + 0.4)/2 + 0.9 · 0.2
    assert scores == pytest.approx([0.35, 0.25])


def test_alpha_changes_what_is_retrieved():
    assert retrieved([0.9, 0.5], [0.0, 0.5], alpha=0.0, k=1)[0] == [1]
    assert retrieved([0.9, 0.5], [0.0, 0.5], alpha=1.0, k=1)[0] == [0]


def test_candidates_limit_what_is_scored():
    similarities, values = [0.9, 0.8, 0.7], [0.0, 0.1, 5.0]
    assert retrieved(similarities, values, candidates=2, k=1)[0] == [1]
    assert retrieved(similarities, values, candidates=3, k=1)[0] == [2]


def test_eta_lifts_the_rarely_seen():
    utility, seen = np.array([0.3, 0.25]), np.array([40, 0])
    for eta, first in ((0.0, 0), (0.05, 1)):
        assert retrieved([0.5, 0.5], ranking.utility_bonus(utility, seen, eta), k=1)[0] == [first]


def test_gate_comes_before_top_k():
    # the three best by value are below the gate; their slots go to those that pass
    assert retrieved([0.1, 0.2, 0.3, 0.9, 0.8], [9.0, 9.0, 9.0, 0.0, 0.1], gate=0.7, k=3)[0] == [4, 3]


def test_gate_is_inclusive():
    assert retrieved([0.7, 0.6999], [0.0, 1.0], gate=0.7)[0] == [0]


def test_nothing_is_a_valid_answer():
    assert retrieved([0.1, 0.2], [1.0, 1.0], gate=0.7) == ([], [])
    assert retrieved([], []) == ([], [])
    assert retrieved([0.9], [1.0], k=0) == ([], [])


def test_ties_go_to_the_lower_row_for_candidates_and_for_slots():
    assert retrieved([0.5] * 5, [0.0, 0.0, 1.0, 2.0, 3.0], candidates=3, k=2)[0] == [2, 0]
    assert retrieved([0.5, 0.9, 0.5, 0.5], [0.0, 0.0, 9.0, 0.0], candidates=2, k=2, alpha=0.0)[0] == [0, 1]


@st.composite
def pools(draw):
    size = draw(st.integers(0, 12))
    queries = draw(st.integers(1, 4))
    level = st.integers(-4, 4).map(lambda x: x / 4)
    row = st.lists(level, min_size=size, max_size=size)
    return (
        np.array(draw(st.lists(row, min_size=queries, max_size=queries)), dtype=float).reshape(queries, size),
        np.array(draw(row), dtype=float),
    )


@pytest.mark.parametrize("block", [3, 8192])
@given(pools(), st.integers(-4, 4), st.integers(1, 13), st.integers(0, 5), st.sampled_from([0.0, 0.1, 1.0]))
def test_rank_agrees_with_a_plain_loop(block, pool, gate, candidates, k, alpha):
    similarities, values = pool
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_BLOCK", block)
        rows, found, scores = rank(similarities, values, gate=gate / 4, candidates=candidates, k=k, alpha=alpha)
    assert rows.shape == found.shape == scores.shape == (len(similarities), k)
    for query, sims in enumerate(similarities):
        passing = [row for row in range(len(values)) if sims[row] >= gate / 4]
        near = sorted(passing, key=lambda row: (-sims[row], row))[:candidates]
        score = {row: alpha * (1 + sims[row]) / 2 + (1 - alpha) * values[row] for row in near}
        best = sorted(near, key=lambda row: (-score[row], row))[:k]
        assert rows[query].tolist() == best + [-1] * (k - len(best))
        assert found[query].tolist() == [sims[row] for row in best] + [-math.inf] * (k - len(best))
        assert scores[query].tolist() == [score[row] for row in best] + [-math.inf] * (k - len(best))


def exact_products(queries, keys):
    """Products that are the same to the last bit in whatever block of keys they are taken."""
    return np.einsum("qd,sd->qs", queries.astype(np.float64), keys.astype(np.float64)).astype(np.float32)


def rank_all(similarities, values, *, gate, candidates, k, alpha):
    """The plain reference for `ranking.rank`: rounds all cosines, and sorts all that pass."""
    found = np.full(k, -1), np.full(k, -np.inf), np.full(k, -np.inf)
    answers = []
    for cosines in similarities:
        rows = np.argsort(-cosines, kind="stable")
        rows = np.sort([row for row in rows if cosines[row] >= gate][:candidates]).astype(int)
        scores = alpha * (1.0 + cosines[rows]) / 2.0 + (1.0 - alpha) * values[rows]
        best = np.argsort(-scores, kind="stable")[:k]
        answer = [part.copy() for part in found]
        for slots, chosen in zip(answer, (rows, cosines[rows], scores), strict=True):
            slots[: len(best)] = chosen[best]
        answers.append(answer)
    return [np.array(part) for part in zip(*answers, strict=True)]


@st.composite
def crowds(draw):
    """Queries and many keys around a few centres; some keys are equal, others differ by about a rounding step."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    size, queries, dimension = draw(st.integers(1, 150)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    centres = random.standard_normal((draw(st.integers(1, 4)), dimension))
    spread = draw(st.sampled_from([0.0, 1e-6, 1e-3, 0.5]))

    def around(count):
        points = centres[random.integers(len(centres), size=count)]
        points = points + spread * random.standard_normal((count, dimension)) * random.integers(2, size=(count, 1))
        return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)

    keys = around(size)
    if draw(st.booleans()):
        keys = keys[np.argsort(keys @ keys[0], kind="stable")]  # the bound rises with every block
    return around(queries), keys, np.round(random.standard_normal(size), draw(st.integers(0, 3)))


@settings(max_examples=300)
@given(
    crowds(),
    st.sampled_from([-1.0, -0.3, 0.0, 0.61, 0.999999, 1.0]),
    st.sampled_from([1, 3, 10, 200]),
    st.sampled_from([1, 3, 12]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([1, 7, 64, 8192]),
)
def test_rank_is_the_plain_reference_to_the_last_bit(crowd, gate, candidates, k, alpha, block):
    given_settings = {"gate": gate, "candidates": candidates, "k": k, "alpha": alpha}
    queries, keys, values = crowd
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_BLOCK", block)
        patch.setattr(ranking, "_products", exact_products)
        found = ranking.rank(queries, keys, values, **given_settings)
        rows = ranking.neighbours(queries, keys, gate)
    cosines = np.round(exact_products(queries, keys).astype(np.float64), 6)
    for part, expected in zip(found, rank_all(cosines, values, **given_settings), strict=True):
        np.testing.assert_array_equal(part, expected)
    assert [each.tolist() for each in rows] == [np.flatnonzero(each >= gate).tolist() for each in cosines]


@settings(max_examples=200)
@given(
    crowds(), st.sampled_from([-1.0, 0.0, 0.61]), st.sampled_from([1, 3, 200]), st.data(), st.sampled_from([1, 7, 8192])
)
def test_keys_that_do_not_count_change_nothing(crowd, gate, candidates, data, block):
    queries, keys, values = crowd
    gaps = np.diff(np.sort(queries.astype(np.float64) @ keys.T.astype(np.float64)))
    assume(not ((gaps > 0) & (gaps < 1e-6)).any())  # which of them is nearer is a matter of float32
    shown = np.array(data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys))))
    given_settings = {"gate": gate, "candidates": candidates, "k": 3, "alpha": 0.1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_BLOCK", block)
        patch.setattr(ranking, "WHOLE", 1)
        all_keys = ranking.rank(queries, keys, values, shown=shown, **given_settings)
        fewer = ranking.rank(queries, keys[shown], values[shown], **given_settings)
        near = np.tile(np.append(np.flatnonzero(shown), -1), (len(queries), 1))
        proposed = ranking.rank(queries, keys, values, near=near, **given_settings)
        share = ranking.recall(keys[shown], keys, near[:1].repeat(shown.sum(), 0), gate=gate, candidates=5, shown=shown)
    rows = np.append(np.flatnonzero(shown), -1)[fewer.rows]
    for found in (all_keys, proposed):
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_array_equal(found.scores, fewer.scores)
        np.testing.assert_array_equal(found.similarities, fewer.similarities)
    assert share == 1.0


def test_many_keys_are_ranked_by_products_that_do_not_depend_on_the_others(monkeypatch):
    random = np.random.default_rng(0)
    keys = random.standard_normal((500, 64)).astype(np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    queries, values = keys[:9] + keys[9:18], random.standard_normal(500)
    monkeypatch.setattr(ranking, "WHOLE", 1)
    together = ranking.rank(queries, keys, values, gate=0.0, candidates=10, k=3, alpha=0.1)
    exact = np.rint(queries.astype(np.float64) @ keys.T.astype(np.float64) * 1e6) / 1e6
    assert together.similarities.tolist() == np.take_along_axis(exact, together.rows, axis=1).tolist()
    for number, query in enumerate(queries):
        alone = ranking.rank(query[None], keys, values, gate=0.0, candidates=10, k=3, alpha=0.1)
        assert [part[0].tolist() for part in alone] == [part[number].tolist() for part in together]


# Eq. 9


def dropped(values, created, *, iteration=20, capacity=2, protect=10):
    rows = ranking.evict(
        np.array(values, dtype=float),
        np.array(created, dtype=int),
        iteration=iteration,
        capacity=capacity,
        protect=protect,
    )
    return rows.tolist()


@pytest.mark.parametrize("keys", [40, 300])
def test_what_a_query_gets_does_not_depend_on_the_other_queries(keys):
    rng = np.random.default_rng(keys)
    vectors = rng.normal(size=(keys + 120, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries, pool, values = vectors[:120], vectors[120:], np.zeros(keys)
    given = {"gate": -1.0, "candidates": keys, "k": keys, "alpha": 1.0}
    together = ranking.rank(queries, pool, values, **given)
    for at in range(0, 120, 7):
        alone = ranking.rank(queries[at : at + 3], pool, values, **given)
        for whole, part in zip(together, alone, strict=True):
            assert whole[at : at + 3].tolist() == part.tolist()  # in float32, some of 36,000 cosines would differ


def test_eq9_drops_the_lowest():
    assert dropped([0.4, -0.1, 0.2, 0.0], [0, 0, 0, 0]) == [1, 3]
    assert dropped([0.4, -0.1], [0, 0]) == []


def test_eq9_protects_the_young_up_to_the_exact_age():
    # at iteration 20 with T_prot = 10, created 11 is protected (9 < 10) and created 10 is not
    assert dropped([-1.0, 0.0, 0.5], [11, 10, 0]) == [1]
    assert dropped([0.0, 0.0, 0.0], [15, 15, 15]) == []


def test_eq9_ties_go_to_the_oldest():
    assert dropped([0.0, 0.0, 0.0], [3, 1, 2]) == [1]


def test_eq9_uses_the_bonus_of_eq8():
    values = ranking.utility_bonus(np.array([0.1, 0.08]), np.array([50, 0]), 0.05)
    assert dropped(values, [0, 0], capacity=1) == [0]  # the lower utility stays, it was never tried


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 30)), max_size=15),
    st.integers(1, 8),
    st.integers(0, 30),
)
def test_eviction_spares_the_protected_and_fits_when_it_can(skills, capacity, protect):
    values, created = [s[0] for s in skills], [s[1] for s in skills]
    gone = dropped(values, created, iteration=30, capacity=capacity, protect=protect)
    protected = {row for row, age in enumerate(created) if 30 - age < protect}
    assert not protected & set(gone)
    assert len(skills) - len(gone) == min(len(skills), max(capacity, len(protected)))
    kept = set(range(len(skills))) - set(gone) - protected
    assert all(values[g] <= values[row] for g in gone for row in kept)
