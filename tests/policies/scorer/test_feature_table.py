import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2skill.policies.scorer.adam import Adam
from d2skill.policies.scorer.feature_table import FeatureBatch, FeatureTable, RowSums

BUCKETS = 64
WIDTHS = (3, 2)


def filled(keys, order=None):
    """A table whose rows hold buckets that follow from their keys, added in an order."""
    table = FeatureTable(WIDTHS)
    for key in keys if order is None else [keys[i] for i in order]:
        rng = np.random.default_rng(key)
        table.add(np.array([key], dtype=np.uint64), rng.integers(1, BUCKETS, (1, 3)))
    return table


distinct_keys = st.lists(
    st.integers(1, 2**64 - 1) | st.integers(1, 50).map(lambda k: k << 11), unique=True, max_size=60
)


@settings(deadline=None)
@given(distinct_keys, distinct_keys)
def test_rows_are_found_by_their_keys_and_no_others(known, others):
    table = FeatureTable(WIDTHS)
    half = len(known) // 2
    for part in (known[:half], known[half:]):  # keys alike in their low bits go to slots next to each other
        table.add(np.array(part, dtype=np.uint64), np.arange(3 * len(part)).reshape(-1, 3))
    found = table.find(np.array([*known, *others, 0], dtype=np.uint64)).tolist()
    assert found[: len(known)] == list(range(1, len(known) + 1))
    assert found[len(known) : -1] == [known.index(key) + 1 if key in known else -1 for key in others]
    assert found[-1] == 0


def test_a_table_grows_and_keeps_its_rows():
    rng = np.random.default_rng(0)
    keys = np.unique(rng.integers(1, 2**63, 5000).astype(np.uint64))
    buckets = rng.integers(0, 2**20, (len(keys), 3))
    table = FeatureTable(WIDTHS)
    for start in range(0, len(keys), 700):
        table.add(keys[start : start + 700], buckets[start : start + 700])
    assert (table.buckets[table.find(keys)] == buckets).all()


def batch_of(table, keys, shape):
    return FeatureBatch(table, table.find(np.array(keys, dtype=np.uint64)).reshape(shape), np.array([0, 2, 3]))


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), min_size=10, max_size=10))
def test_scores_and_gradients_are_sums_over_all_features_whatever_came_first(order, picked):
    rng = np.random.default_rng(5)
    keys = [int(key) for key in rng.integers(1, 2**63, 12)]
    weights, by_action = rng.normal(size=BUCKETS), rng.normal(size=5)
    batches = [batch_of(filled(keys, o), [keys[i] for i in picked], (5, 2)) for o in (range(12), order)]
    one, other = (batch.packed() for batch in batches)
    assert one.scores(weights).tolist() == other.scores(weights).tolist()  # to the last bit
    assert one.gradient(by_action, BUCKETS).tolist() == other.gradient(by_action, BUCKETS).tolist()

    table, rows = batches[0].table, batches[0].rows
    features = table.buckets[rows].reshape(5, -1)
    assert one.scores(weights) == pytest.approx(weights[features].sum(axis=1))
    expected = np.zeros(BUCKETS)
    np.add.at(expected, features, by_action[:, None])
    assert one.gradient(by_action, BUCKETS) == pytest.approx(expected)

    part = one.select(np.array([2, 0]))
    assert part.counts().tolist() == [2, 2] and part.starts.tolist() == [0, 2]
    assert part.scores(weights) == pytest.approx(weights[features].sum(axis=1)[[3, 4, 0, 1]])


def test_sums_of_rows_are_kept_until_weights_or_table_change():
    keys = [7, 8, 9, 10]
    table, weights, sums = filled(keys[:3]), np.arange(BUCKETS, dtype=float), RowSums()

    def expected(batch):
        return weights[batch.table.buckets[batch.rows].reshape(len(batch.rows), -1)].sum(axis=1)

    first = batch_of(table, [7, 8, 9], (3, 1))
    assert sums.scores(first, weights) == pytest.approx(expected(first))
    table.add(np.array([10], dtype=np.uint64), np.array([[1, 2, 3]]))
    more = batch_of(table, [10, 7, 8], (3, 1))
    assert sums.scores(more, weights) == pytest.approx(expected(more))
    weights += 1
    sums.forget()
    assert sums.scores(more, weights) == pytest.approx(expected(more))
    weights = weights + 1
    assert sums.scores(more, weights) == pytest.approx(expected(more))
    elsewhere = batch_of(filled([8, 7, 9]), [7, 8, 9], (3, 1))
    assert sums.scores(elsewhere, weights) == pytest.approx(expected(elsewhere))


def test_adam_moves_as_its_formula_says_and_is_restored():
    rng, size = np.random.default_rng(0), 50
    weights, ours, first, second = (np.zeros(size) for _ in range(4))
    adam = Adam(size)
    for step in range(1, 30):
        gradient = rng.normal(size=size) * (rng.random(size) < 0.1 + step / 60)
        first += (1 - 0.9) * (gradient - first)
        second += (1 - 0.999) * (gradient * gradient - second)
        scale = 0.01 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        weights -= scale * first / (np.sqrt(second) + 1e-8)
        if step == 15:
            stopped, adam = adam, Adam(size)
            adam.restore(stopped.moments(), stopped.steps)
        adam.descend(ours, gradient, 0.01)
    assert ours.tolist() == weights.tolist()
    assert adam.moments().tolist() == [first.tolist(), second.tolist()]
