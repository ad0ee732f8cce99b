import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs d2skill[train]")

from test_prefix_sharing import policy  # noqa: E402

from d2skill.policies.causal_lm import forward  # noqa: E402
from d2skill.policies.causal_lm.packing import assign_rows, pack_sequences  # noqa: E402
from d2skill.policies.causal_lm.prefix_sharing import shared_prefix  # noqa: E402

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def computed(rows, lengths):
    return len(rows) * max(sum(lengths[i] for i in row) for row in rows)


@given(lengths=LENGTHS, behind=st.integers(0, 100), keys=st.sampled_from([1, 50, 300, 10**9]))
@settings(max_examples=200, deadline=None)
def test_each_sequence_has_its_place_and_no_more_is_computed(lengths, behind, keys):
    rows = assign_rows(lengths, behind, keys)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(rows)
    assert computed(rows, lengths) <= len(lengths) * max(lengths)


def test_rows_are_as_wide_as_attention_is_cheap():
    lengths = [10, 90, 20, 80, 30, 70, 40, 60]
    pairs = assign_rows(lengths, 0, 1)
    assert [sum(lengths[i] for i in row) for row in pairs] == [100] * 4, "wider by little, and without padding"
    odd = [50, 60, 70]
    assert assign_rows(odd, 0, 10) == [[2], [1], [0]]
    # attention is cheap, or dear anyway
    assert assign_rows(odd, 0, 10**9) == assign_rows(odd, 10**4, 10) == [[2, 1, 0]]


@given(lengths=LENGTHS, data=st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_laid_into_rows_can_be_found_there(lengths, data):
    sequences = [tuple(range(100 * i, 100 * i + length)) for i, length in enumerate(lengths)]
    shares = [data.draw(st.integers(0, 50)) for _ in lengths]
    rows = assign_rows(lengths, max(shares), 300)
    batch = pack_sequences(sequences, shares, rows)
    tokens, positions, seen, owner = (
        part.reshape(-1) for part in (batch.tokens, batch.positions, batch.prefix_lengths, batch.owner)
    )
    for i, (sequence, share) in enumerate(zip(sequences, shares, strict=True)):
        place = slice(batch.starts[i], batch.starts[i] + len(sequence))
        assert tuple(tokens[place]) == sequence
        assert list(positions[place]) == list(range(share, share + len(sequence)))
        assert set(seen[place]) == {share} and set(owner[place]) == {i}
    assert (owner == -1).sum() == batch.tokens.size - sum(lengths)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("widths", [0.01, 1000])
@pytest.mark.parametrize("shared", [True, False])
def test_packed_sequences_see_nothing_of_each_other(attention, widths, shared, monkeypatch):
    monkeypatch.setattr(forward, "_BREAK_EVEN_WIDTHS", widths)
    model, past = policy().model, tuple(range(3, 60))
    model.set_attn_implementation(attention)
    rows = [(*past[:30], 2, 3), (*past, 5), (*past[:50], 5, 6, 7), past, (*past[:40], *range(20)), (*past, 9, 8)]
    start, shares = shared_prefix(rows, [0] * len(rows), "cpu") if shared else ((), [0] * len(rows))
    assert bool(start) == shared
    shapes = []
    hook = model.register_forward_pre_hook(lambda _m, _a, k: shapes.append(k["input_ids"].shape), with_kwargs=True)
    with torch.no_grad():
        together = forward.sequence_logits(
            model, rows, [(len(row) - 2, len(row) - 1) for row in rows], start, [max(0, s - 1) for s in shares]
        )
        hook.remove()
        plain = torch.cat([model(torch.tensor([row])).logits[0, -2:] for row in rows])
    assert (shapes[-1][0] == len(rows)) == (widths < 1), "rows are packed where attention is cheap"
    assert torch.allclose(together, plain, atol=1e-5)


def test_only_the_logits_that_are_wanted_are_computed():
    model = policy().model
    computed = []
    hook = model.get_output_embeddings().register_forward_hook(lambda _m, _a, out: computed.append(out.shape[:2]))
    with torch.no_grad():
        forward.sequence_logits(model, [(3, 4, 5, 6), (7, 8)], [(1, 3), ()], (), [0, 0])
    hook.remove()
    assert computed == [(1, 2)]
    assert not model.get_output_embeddings()._forward_pre_hooks
