import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2skill.config import EmbedderConfig
from d2skill.embedders import make_embedder
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.evaluation.gate_calibration import best_threshold

EMBEDDER = HashedEmbedder(512)


def cosine(left: str, right: str) -> float:
    a, b = EMBEDDER.embed([left, right]).astype(np.float64)
    return float(a @ b)


def test_make_embedder_builds_the_named_kind():
    embedder = make_embedder(EmbedderConfig(kind="hashed", dimension=64))
    assert isinstance(embedder, HashedEmbedder)
    assert (embedder.fingerprint, embedder.dimension) == ("hashed-v2/64", 64)
    assert embedder.embed(["put a mug in the fridge", "look"]).shape == (2, 64)


def bucket(feature: str, dimension: int) -> tuple[int, float]:
    value = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "big")
    return value % dimension, 1.0 if value >> 63 else -1.0


def test_a_single_word_lands_where_its_hash_says():
    expected = np.zeros(512)
    at, sign = bucket("mug", 512)
    expected[at] = np.sqrt(0.65) * sign
    for mark in range(8):
        at, sign = bucket(f"{mark}\x1fmug", 512)
        expected[at] += np.sqrt(0.35 / 8) * sign
    np.testing.assert_allclose(EMBEDDER.embed(["Mug"])[0], expected, atol=1e-6)


def test_hand_computed_cosines():
    # Two texts share 0.65 of what their words share, up to the buckets that the marks of the texts hit by chance.
    # {mug, shelf, ½ mug shelf} and {mug, desk, ½ mug desk}: 1 / 2.25
    assert cosine("put some mug in shelf.", "put some mug in desk") == pytest.approx(0.65 / 2.25, abs=0.02)
    # two mentions weigh 1 + log 2 against 1: {1.69 mug, pan} and {mug}
    a = 1 + np.log(2)
    assert cosine("mug, mug, pan", "mug") == pytest.approx(0.65 * a / np.hypot(a, 1), abs=0.04)


def test_the_same_text_stands_out():
    room = "You see " + ", ".join(f"a cabinet {n}" for n in range(9, 0, -1))
    larger = room.replace("a cabinet 9", "a cabinet 10, a cabinet 9")
    assert cosine(room, room) == pytest.approx(1.0)
    assert 0.5 < cosine(room, larger) < 0.7


def test_order_of_wording_with_the_same_content_is_the_same_text():
    assert cosine("put a clean pan in diningtable", "clean some pan and put it in diningtable.") == pytest.approx(1)


def test_numbers_tell_receptacles_apart():
    assert 0.5 < cosine("drawer 4", "drawer 3") < 0.9
    assert cosine("drawer 4", "cabinet 4") < 0.1


@pytest.mark.parametrize("text", ["", "  \n", "put it in the", "...", "4 7"])
def test_text_without_words_is_like_nothing(text):
    assert not EMBEDDER.embed([text]).any()


def test_the_vector_does_not_depend_on_the_process():
    code = (
        "from d2skill.embedders.hashed import HashedEmbedder; import hashlib;"
        "vectors = HashedEmbedder(512).embed(['cool some apple and put it in microwave 1']);"
        "print(hashlib.sha256(vectors.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


@given(st.lists(st.text(max_size=60), max_size=5))
def test_vectors_have_length_one_or_zero_and_ignore_their_batch(texts):
    vectors = EMBEDDER.embed(texts)
    assert vectors.shape == (len(texts), 512) and vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.all(np.isclose(lengths, 1, atol=1e-5) | (lengths == 0))
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(EMBEDDER.embed([text])[0], vector)


def test_the_best_threshold_lies_in_the_gap_between_pairs():
    related = [("clean some mug", "put a clean mug in shelf"), ("heat some egg", "put a hot egg: heat egg")]
    unrelated = [("clean some mug", "heat some egg"), ("put cd in safe", "look at book under desklamp")]
    gate, _ = best_threshold([cosine(*p) for p in related], [cosine(*p) for p in unrelated])
    assert max(cosine(*p) for p in unrelated) < gate <= min(cosine(*p) for p in related)


def test_gate_lets_a_new_goal_for_the_same_object_pass():
    assert cosine("put some mug in shelf", "put some mug in desk") > EMBEDDER.task_gate
    assert cosine("put some mug in shelf", "heat some egg and put it in fridge") < EMBEDDER.task_gate
