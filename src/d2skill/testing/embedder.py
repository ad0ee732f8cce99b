"""Contract of an embedder as rules that run on any."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from d2skill.errors import ConfigError
from d2skill.protocols import Embedder
from d2skill.testing.rules import Finding, RuleViolation, findings_of, require, rule

_TEXTS = (
    "put a clean mug in the coffee machine",
    "put a hot apple in the fridge",
    "You are in the middle of a room. Looking around you, you see a bed 1, a desk 1 and a drawer 1.",
    "Größe, 東京, смысл and an emoji \N{SNAKE}",
    "look",
    "box " * 400,
)
_ROUNDING = 1e-3


def check_embedder(embedder: Embedder, texts: Sequence[str] = ()) -> list[Finding]:
    """Checks the contract of `Embedder`.

    >>> from d2skill.testing import TinyEmbedder, check_embedder
    >>> all(finding.ok for finding in check_embedder(TinyEmbedder()))
    True

    Args:
        embedder: The embedder to check; sound if all findings are ok.
        texts: Texts to embed, different ones; without them texts as of environments.

    Returns:
        The findings of the rules, up to the first stage in which one is broken.
    """
    checks = _Checks(embedder, list(texts or _TEXTS))
    vectors = [checks.length, checks.odd, checks.differ, checks.same]
    return findings_of([[checks.named, checks.gates], [checks.shape], vectors])


class _Checks:
    """The rules, and the texts that they embed."""

    def __init__(self, embedder: Embedder, texts: list[str]) -> None:
        self._embedder = embedder
        self._texts = texts

    @rule("fingerprint names the model and its settings, dimension is the length of a vector")
    def named(self) -> str:
        name, dimension = self._embedder.fingerprint, self._embedder.dimension
        require(isinstance(name, str) and name.strip(), f"fingerprint is {name!r}: name the model and its settings")
        require(isinstance(dimension, int) and dimension > 0, f"dimension is {dimension!r}: make it a positive int")
        return f"{name}, {dimension} numbers"

    @rule("task_gate and step_gate are cosines")
    def gates(self) -> str:
        try:
            task, step = self._embedder.task_gate, self._embedder.step_gate
        except ConfigError as error:
            return f"none is known, so a run has to set retrieval.gate ({error})"
        for name, gate in (("task_gate", task), ("step_gate", step)):
            sound = isinstance(gate, (int, float)) and -1 <= gate <= 1
            require(sound, f"{name} is {gate!r}: make it a number from -1 to 1, as `d2skill calibrate` measures it")
        return f"{task:g} and {step:g}"

    @rule("embed(texts) returns an array of shape [texts, dimension], also for no texts")
    def shape(self) -> str:
        dimension = self._embedder.dimension
        for texts in (self._texts, self._texts[:1], []):
            vectors = self._embedder.embed(texts)
            shape = getattr(vectors, "shape", type(vectors).__name__)
            way_out = f"return a NumPy array of shape ({len(texts)}, {dimension})"
            require(shape == (len(texts), dimension), f"{len(texts)} texts gave {shape}: {way_out}")
            require(vectors.dtype == np.float32, f"its numbers are {vectors.dtype}: make them float32")
        return f"{len(self._texts)} texts"

    @rule("vectors have length 1, and finite numbers")
    def length(self) -> str:
        lengths = self._lengths(self._texts)
        far = next((at for at, one in enumerate(lengths) if not abs(one - 1) <= _ROUNDING), None)
        if far is not None:
            seen = f"{self._texts[far][:40]!r} has length {lengths[far]:.4g}"
            raise RuleViolation(f"{seen}: divide each vector by its length")
        return f"lengths are 1 within {_ROUNDING:g}"

    @rule("an empty text, and one of signs alone, have vectors of length 1 or 0")
    def odd(self) -> str:
        lengths = self._lengths(["", "  \n", "!?", "\ud800"])
        sound = all(min(abs(one), abs(one - 1)) <= _ROUNDING for one in lengths)
        require(sound, f"their lengths are {', '.join(f'{one:.4g}' for one in lengths)}: take care of length 0")
        return "they do"

    @rule("texts of different words have different vectors, and the same text has the same")
    def differ(self) -> str:
        vectors = self._embed([*self._texts, self._texts[0]])
        cosines = vectors @ vectors.T
        pairs = [(i, j) for i in range(len(self._texts)) for j in range(i)]
        alike = next(((i, j) for i, j in pairs if cosines[i, j] > 1 - 1e-6), None)
        if alike is not None:
            one, other = (self._texts[at][:40] for at in alike)
            raise RuleViolation(f"{one!r} and {other!r} have the same vector: let their words tell them apart")
        require(cosines[0, -1] > 1 - _ROUNDING, f"the same text in one batch has the cosine {cosines[0, -1]:.4f}")
        return f"cosines of different texts are {max(cosines[i, j] for i, j in pairs):.2f} at most"

    @rule("a vector depends on its text alone: not on the call, nor on the rest of the batch")
    def same(self) -> str:
        together = self._embed(self._texts)
        name = self._embedder.fingerprint
        alone = np.concatenate([self._embed([text]) for text in self._texts])
        for other, how in ((self._embed(self._texts), "again"), (alone, "alone")):
            far = float(np.abs(together - other).max())
            require(far <= _ROUNDING, f"embedded {how}, numbers differ by {far:.2g}: let each text stand for itself")
        require(name == self._embedder.fingerprint, "fingerprint has changed: it stands for the vectors in a bank")
        return "again and alone they are the same"

    def _embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self._embedder.embed(texts)

    def _lengths(self, texts: Sequence[str]) -> list[float]:
        return [math.sqrt(float(vector @ vector)) for vector in self._embed(texts).astype(np.float64)]
