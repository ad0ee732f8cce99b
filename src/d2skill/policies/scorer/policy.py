"""Scorer policy: a linear model over hashed features of each admissible action, softmax over the actions of a prompt.

It belongs to the family of deep reinforcement relevance networks (He et al., 2016, arXiv 1511.04636), cut down so that
two cores can train it hundreds of times: state and action meet in crossed features (`features.py`), and one weight
vector scores them. It reads the text that a language model would read, parsed to words, and answers with an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from d2skill.config import OptimConfig, ScorerConfig, WarmStartConfig, step_sizes
from d2skill.errors import RunError
from d2skill.policies.scorer.adam import Adam
from d2skill.policies.scorer.feature_table import FeatureBatch, PackedFeatures, RowSums
from d2skill.policies.scorer.features import ExportedFeatures, Featurizer
from d2skill.policies.scorer.loss import clipped_loss
from d2skill.types import AnswerScore, Decision, Prompt, Row
from d2skill.utils.finite import IMITATION, UPDATE, require_finite
from d2skill.utils.foreign_files import explained, read_arrays, reason_of
from d2skill.utils.memory import require_memory
from d2skill.utils.rng import generator
from d2skill.utils.text import tokens

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_FILE = "scorer.npz"
_VERSION = 1
_ARRAYS = ("weights", "reference", "first", "second")
_BYTES_PER_BUCKET = 48  # weights, reference, gradient, and the moments with room to grow


class _LearningBatch(NamedTuple):
    """Decisions to learn from, by row: the features, the choice, its log-probabilities and its advantage."""

    features: PackedFeatures
    choices: Integers
    old: Floats
    reference: Floats
    advantages: Floats

    def select(self, rows: Integers) -> _LearningBatch:
        """Returns some of the rows."""
        old, reference, advantages = self.old[rows], self.reference[rows], self.advantages[rows]
        return _LearningBatch(self.features.select(rows), self.choices[rows], old, reference, advantages)


class ScorerPolicy:
    """Implements `Policy` in NumPy. Untrained, it is uniform over the admissible actions.

    Args:
        settings: size of the weight vector.
        optim: the update of Eq. 6.
        warm_start: epochs and learning rate of imitation.
        temperature: of training rollouts; the ratio of Eq. 6 is between distributions at this temperature.
    """

    def __init__(
        self, settings: ScorerConfig, optim: OptimConfig, warm_start: WarmStartConfig, temperature: float = 1.0
    ) -> None:
        bytes_needed = _BYTES_PER_BUCKET * settings.buckets
        require_memory(bytes_needed, f"policy.scorer.buckets {settings.buckets:,}", "use fewer; 262,144 is usual")
        self._optim = optim
        self._rate, self._imitation_rate = step_sizes("scorer", optim, warm_start)
        self._temperature = temperature
        self._warm_start = warm_start
        self._featurize = Featurizer(settings.buckets)
        self._weights: Floats = np.zeros(settings.buckets)
        self._reference = self._weights.copy()
        self._sums = RowSums()
        self._version = 0  # of the weights
        self._adam = Adam(settings.buckets)

    def count_tokens(self, text: str) -> int:
        """Returns the number of words and numbers of a text."""
        return len(tokens(text))

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """See Policy. The log-probability is that at the temperature; a prompt without actions gets an empty decision.

        An action is drawn by inverse transform from the prompt's own seed.
        """
        decisions = [Decision("", "", (), ())] * len(prompts)
        asked = [i for i, prompt in enumerate(prompts) if prompt.actions]
        if not asked:
            return decisions
        batch = self._featurize([prompts[i] for i in asked])
        log_probs = _log_probs(self._sums.scores(batch, self._weights), batch, temperature or 1.0)
        choices = _sample(batch, log_probs, [seeds[i] for i in asked]) if temperature > 0 else _best(batch, log_probs)
        chosen = log_probs[batch.starts + choices].tolist()
        for i, choice, log_prob in zip(asked, choices.tolist(), chosen, strict=True):
            action = prompts[i].actions[choice]
            decisions[i] = Decision(action, action, (choice,), (log_prob,))
        return decisions

    def distribution(self, prompt: Prompt) -> Floats:
        """Returns the log-probability of each admissible action, shape [actions]."""
        batch = self._featurize([prompt]).packed()
        return _log_probs(batch.scores(self._weights), batch)

    def score_answers(self, decided: Sequence[tuple[Prompt, Decision]]) -> list[AnswerScore]:
        """See SupportsScoring. Raises `ValueError` if the prompt has another action, or none, at the chosen index."""
        for prompt, decision in decided:
            if decision.tokens and prompt.actions[decision.tokens[0] :][:1] != (decision.action,):
                raise ValueError(f"{decision.action!r} is not action {decision.tokens[0]} of this prompt")
        scores = [AnswerScore(0.0, "")] * len(decided)
        asked = [i for i, (prompt, _) in enumerate(decided) if prompt.actions]
        if not asked:
            return scores
        batch = self._featurize([decided[i][0] for i in asked])
        log_probs = _log_probs(self._sums.scores(batch, self._weights), batch)
        for i, start, best in zip(asked, batch.starts.tolist(), _best(batch, log_probs).tolist(), strict=True):
            prompt, decision = decided[i]
            chosen = float(log_probs[start + decision.tokens[0]]) if decision.tokens else 0.0
            scores[i] = AnswerScore(chosen, prompt.actions[best])
        return scores

    def update(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        """See Policy. Each minibatch of the shuffled rows is an Adam step (Eq. 6).

        Raises `Diverged` once a loss, a gradient or a weight is not finite, as `imitate` does.
        """
        rows = [row for row in rows if row.decision.tokens]
        if not rows:
            return {}
        features = self._featurize([row.prompt for row in rows]).packed()
        self._featurize.forget_prompts()
        choices = np.array([row.decision.tokens[0] for row in rows])
        reference = _log_probs(features.scores(self._reference), features, self._temperature)
        batch = _LearningBatch(
            features,
            choices,
            old=np.array([row.decision.log_probs[0] for row in rows]),
            reference=reference[features.starts + choices],
            advantages=np.array([row.advantage for row in rows]),
        )
        order = generator(seed, "update").permutation(len(rows))
        with np.errstate(all="ignore"):
            steps = [self._step(batch.select(part)) for part in _parts(order, self._optim.minibatch_rows)]
            self._require_finite_weights(UPDATE)
        metrics = {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
        metrics["policy/ratio_error"] = steps[0]["policy/ratio_error"]
        return metrics

    def _step(self, batch: _LearningBatch) -> dict[str, float]:
        features, optim = batch.features, self._optim
        log_probs = _log_probs(features.scores(self._weights), features, self._temperature)
        chosen = features.starts + batch.choices
        terms = clipped_loss(
            log_probs[chosen], batch.old, batch.reference, batch.advantages, clip=optim.clip, kl=optim.kl
        )
        loss = float(terms.loss.mean())
        require_finite("the loss", loss, UPDATE)
        slope = terms.slope / (len(chosen) * self._temperature)
        norm = self._descend(features, log_probs, chosen, slope, self._rate, UPDATE)
        entropy = -np.add.reduceat(np.exp(log_probs) * log_probs, features.starts)
        return {
            "policy/loss": loss,
            "policy/kl": float(terms.kl.mean()),
            "policy/clip_fraction": float(terms.clipped.mean()),
            "policy/entropy": float(entropy.mean()),
            "policy/grad_norm": norm,
            "policy/ratio_error": float(np.abs(np.exp(log_probs[chosen] - batch.old) - 1).max()),
        }

    def imitate(self, demonstrations: Sequence[tuple[Prompt, str]], seed: int) -> dict[str, float]:
        """See Policy. Fits the demonstrated actions by cross-entropy; the accuracy is that of the last epoch."""
        demonstrations = [(prompt, action) for prompt, action in demonstrations if action in prompt.actions]
        loss = accuracy = 0.0
        if demonstrations:
            whole = self._featurize([prompt for prompt, _ in demonstrations]).packed()
            self._featurize.forget_prompts()
            choices = np.array([prompt.actions.index(action) for prompt, action in demonstrations])
        for epoch in range(self._warm_start.epochs):
            order = generator(seed, "imitate", epoch).permutation(len(demonstrations))
            loss = accuracy = 0.0
            for part in _parts(order, self._warm_start.minibatch_rows):
                batch = whole.select(part)
                log_probs = _log_probs(batch.scores(self._weights), batch)
                chosen = batch.starts + choices[part]
                best = np.maximum.reduceat(log_probs, batch.starts)
                loss -= float(log_probs[chosen].sum()) / len(order)
                accuracy += float((log_probs[chosen] == best).sum()) / len(order)
                slope = np.full(len(part), -1 / len(part))
                with np.errstate(all="ignore"):
                    self._descend(batch, log_probs, chosen, slope, self._imitation_rate, IMITATION)
        require_finite("the loss", loss, IMITATION)
        self._require_finite_weights(IMITATION)
        return {"warm_start/loss": loss, "warm_start/accuracy": accuracy}

    def replica_state(self) -> tuple[int, Floats]:
        """See SupportsReplicas."""
        return self._version, self._weights

    def set_replica_state(self, state: Floats) -> None:
        """See SupportsReplicas."""
        self._weights = state
        self._sums.forget()

    def export_features(self, prompts: Sequence[Prompt], *, whole: bool) -> ExportedFeatures:
        """See SupportsReplicas."""
        return self._featurize.export([prompt for prompt in prompts if prompt.actions], whole=whole)

    def adopt_features(self, prompts: Sequence[Prompt], features: ExportedFeatures) -> bool:
        """See SupportsReplicas."""
        return self._featurize.adopt([prompt for prompt in prompts if prompt.actions], features)

    def freeze_reference(self) -> None:
        """See Policy. The optimiser forgets its moments from the warm start."""
        self._reference = self._weights.copy()
        self._adam = Adam(len(self._weights))

    def save(self, folder: Path) -> None:
        """See Policy. Writes one NumPy archive."""
        first, second = self._adam.moments()
        np.savez(
            folder / _FILE,
            version=np.array(_VERSION),
            weights=self._weights,
            reference=self._reference,
            first=first,
            second=second,
            steps=np.array(self._adam.steps),
        )

    def load(self, folder: Path) -> None:
        """See Policy. Raises `RunError` for files of another policy, size or version."""
        path = folder / _FILE
        try:
            stored = read_arrays(path)
        except FileNotFoundError:
            raise RunError(f"{path} is missing: was this run made with another policy.kind?") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({reason_of(error)}): use an earlier checkpoint") from None
        with explained(path, RunError, "use an earlier checkpoint"):
            self._restore(path, stored)

    def _restore(self, path: Path, stored: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes over the arrays of a file. Raises `RunError` for those of another size or version."""
        if int(stored.get("version", -1)) != _VERSION:
            raise RunError(f"{path} is of another version of the scorer: use the d2skill that wrote it")
        if stored["weights"].shape != self._weights.shape:
            raise RunError(
                f"{path} has {len(stored['weights'])} buckets, the settings say {len(self._weights)}: "
                "set policy.scorer.buckets to the former"
            )
        if any(stored[name].shape != self._weights.shape or stored[name].dtype != np.float64 for name in _ARRAYS):
            raise RunError(f"{path} has arrays of other sizes or types: use an earlier checkpoint")
        self._weights, self._reference = stored["weights"], stored["reference"]
        self._version += 1
        self._adam = Adam(len(self._weights))
        self._adam.restore(np.stack([stored["first"], stored["second"]]), int(stored["steps"]))

    def _require_finite_weights(self, way_out: str) -> None:
        """Raises `Diverged` if a weight is not finite, or so large that no product with it can be."""
        with np.errstate(all="ignore"):
            require_finite("the norm of the weights", float(self._weights @ self._weights), way_out)

    def _descend(
        self,
        batch: PackedFeatures,
        log_probs: Floats,
        chosen: npt.NDArray[np.int64],
        slope: Floats,
        rate: float,
        way_out: str,
    ) -> float:
        """Takes one Adam step down d loss / d log p_chosen = slope; returns the gradient's norm before clipping.

        Raises `Diverged` for a gradient that is not finite; the weights are then as before.
        """
        by_action = -np.repeat(slope, batch.counts()) * np.exp(log_probs)
        by_action[chosen] += slope
        gradient = batch.gradient(by_action, len(self._weights))
        gradient[0] = 0.0
        norm = float(np.linalg.norm(gradient))
        require_finite("the norm of the gradient", norm, way_out)
        if norm > self._optim.max_grad_norm:
            gradient *= self._optim.max_grad_norm / norm
        self._adam.descend(self._weights, gradient, rate)
        self._sums.forget()
        self._version += 1
        return norm


def _parts(order: Integers, size: int) -> list[Integers]:
    """Returns minibatches of a permutation."""
    return [order[at : at + size] for at in range(0, len(order), size)]


def _log_probs(scores: Floats, batch: FeatureBatch | PackedFeatures, temperature: float = 1.0) -> Floats:
    """Returns the log-probability of each action among those of its prompt, given the scores of actions."""
    scores = scores / temperature
    counts = batch.counts()
    shifted = scores - np.repeat(np.maximum.reduceat(scores, batch.starts), counts)
    total = np.log(np.add.reduceat(np.exp(shifted), batch.starts))
    log_probs: Floats = shifted - np.repeat(total, counts)
    return log_probs


def _by_prompt(batch: FeatureBatch, values: Floats, absent: float) -> Floats:
    """Returns values of actions as a table, shape [prompts, most actions], padded with `absent`."""
    counts = batch.counts()
    table = np.full((len(counts), counts.max()), absent)
    table[np.arange(table.shape[1]) < counts[:, None]] = values
    return table


def _best(batch: FeatureBatch, log_probs: Floats) -> Integers:
    """Returns the index of the most probable action of each prompt, the first of several."""
    best: Integers = _by_prompt(batch, log_probs, -np.inf).argmax(axis=1)
    return best


def _sample(batch: FeatureBatch, log_probs: Floats, seeds: Sequence[int]) -> Integers:
    """Draws an index for each prompt by inverse transform, the low 53 bits of its seed taken as a fraction."""
    cumulative = _by_prompt(batch, np.exp(log_probs), 0.0).cumsum(axis=1)
    uniform = np.array([seed & (1 << 53) - 1 for seed in seeds]) / (1 << 53)
    below = (cumulative <= (uniform * cumulative[:, -1])[:, None]).sum(axis=1)
    choices: Integers = np.minimum(below, batch.counts() - 1)
    return choices
