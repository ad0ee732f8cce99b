import pytest

torch = pytest.importorskip("torch", reason="needs d2skill[train]")

from d2skill.policies.causal_lm.forward import left_padded, log_softmax  # noqa: E402


def test_sequences_end_in_the_last_column():
    ids, mask = left_padded([(5, 0, 7), (8,)], "cpu")
    assert ids.tolist() == [[5, 0, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_options_are_normalised_among_themselves_and_padding_has_no_probability():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 4.0, 9.0, 4.0]])
    log_probs = log_softmax(logits, [(1, 3), (0, 1, 3)], 2.0)
    # e^1.5 and e^0.5 of the first row's options; three equal ones in the second
    assert log_probs[0, :2].exp().tolist() == pytest.approx([0.268941, 0.731059], abs=1e-6)
    assert log_probs[0, 2].item() == float("-inf")
    assert log_probs[1].exp().tolist() == pytest.approx([1 / 3] * 3)
