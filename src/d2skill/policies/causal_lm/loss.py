"""The policy loss of Eq. 6 in PyTorch, and the log-probabilities that go into it.

Two things the paper leaves open. A token is averaged over only if there was a choice: those that the trie
forces have probability one whatever the weights, and would merely shrink the loss. And log-ratios are cut at
±20, far outside what training shows, so that no exponential overflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from d2skill.policies.causal_lm.forward import log_softmax, read
from d2skill.policies.causal_lm.prefix_sharing import clusters, trunk


@dataclass(frozen=True, slots=True)
class Item:
    """An answer to learn from.

    `positions` are the places in `tokens` that were chosen, in order; at each of them `options` has what
    there was to choose from (None: the whole vocabulary, everywhere). `recorded` are their log-probabilities
    when they were chosen.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    options: tuple[tuple[int, ...], ...] | None = None
    recorded: tuple[float, ...] = ()
    advantage: float = 0.0

    @property
    def fed(self) -> tuple[int, ...]:
        """The tokens the model reads to give all probabilities that are wanted."""
        return self.tokens[: self.positions[-1]]


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """The terms of Eq. 6, each [n]: loss, KL estimate, ratio, and whether the clip decided."""

    loss: torch.Tensor
    kl: torch.Tensor
    ratio: torch.Tensor
    clipped: torch.Tensor


def policy_terms(
    log_probs: torch.Tensor,
    recorded: torch.Tensor,
    advantages: torch.Tensor,
    reference: torch.Tensor | None,
    clip: float,
    kl: float,
) -> TokenTerms:
    """Returns −min(r·A, clip(r, 1−ε, 1+ε)·A) + β·k3 for each token (Eq. 6); all tensors [n].

    r = π/π_old, and k3 = q − log q − 1 with q = π_ref/π, the low-variance estimate of KL(π‖π_ref).
    """
    ratio = (log_probs - recorded).clamp(-20, 20).exp()
    plain, cut = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    loss = torch.maximum(plain, cut)
    estimate = torch.zeros_like(loss)
    if reference is not None:
        log_q = (reference - log_probs).clamp(-20, 20)
        estimate = log_q.exp() - log_q - 1
        loss = loss + kl * estimate
    return TokenTerms(loss, estimate, ratio, cut > plain)


def token_log_probs(model: Any, items: Sequence[Item], temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns log-probability and entropy of each token that was chosen, item after item, both [n].

    What prompts have in common with the longest is read once, with gradients all the way back (see prefixes). The
    items have options, or none of them has. The entropy carries no gradient.
    """
    distribution, targets = _distribution(model, items, temperature)
    with torch.no_grad():
        entropy = torch.special.entr(distribution.exp()).sum(-1)
    return distribution.gather(1, targets[:, None])[:, 0], entropy


def token_weights(model: Any, items: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns log-probability, and whether it is the likeliest there, of each token that was chosen, both [n]."""
    with torch.no_grad():
        distribution, targets = _distribution(model, items, 1.0)
        return distribution.gather(1, targets[:, None])[:, 0], distribution.argmax(-1) == targets


def _distribution(model: Any, items: Sequence[Item], temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns log-probabilities [n, V], or [n, C] of options, at all places that were chosen at, and the choices."""
    logits, options, targets = _logits(model, items), None, []
    if items[0].options is not None:
        options = [o for item in items for o in item.options or ()]
    for item in items:
        chosen = [item.tokens[p] for p in item.positions]
        if item.options is not None:
            chosen = [o.index(t) for o, t in zip(item.options, chosen, strict=True)]
        targets += chosen
    return log_softmax(logits, options, temperature), torch.tensor(targets, device=logits.device)


def _logits(model: Any, items: Sequence[Item]) -> torch.Tensor:
    """Returns the logits [n, V] that predict each chosen token, item after item."""
    prompts = [item.prompt for item in items]
    start, shares = trunk(prompts, [len(item.fed) for item in items], model.device.type)
    places = [[len(item.prompt) - 1 + position for position in item.positions] for item in items]
    return read(model, [item.prompt + item.fed for item in items], places, start, shares)


def pack(items: Sequence[Item], budget: int, device: str) -> list[list[int]]:
    """Groups items, by index, for a forward pass each: those that are cheap to read together (see prefixes).

    Items with options and without are kept apart. A pass computes at most `budget` tokens, padding included; an
    item over the budget goes alone.
    """
    groups = []
    for free in (False, True):
        mine = [i for i, item in enumerate(items) if (item.options is None) == free]
        answers = [len(items[i].fed) for i in mine]
        found = clusters([items[i].prompt for i in mine], answers, device, budget)
        groups += [[mine[i] for i in group] for group in found]
    return groups
