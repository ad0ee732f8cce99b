"""Policy loss of Eq. 6 in PyTorch, and the token log-probabilities that go into it.

Two choices that the paper leaves open: only tokens that were chosen among several are averaged over, since tokens that
the trie forces would merely shrink the loss; and log-ratios are cut at ±20, so that no exponential overflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from d2skill.policies.causal_lm.forward import log_softmax, sequence_logits
from d2skill.policies.causal_lm.prefix_sharing import group_sequences, shared_prefix


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """Tokens of a prompt and of the answer to learn from.

    `positions` are the indices in `tokens` that were chosen, in order. `options` has, for each of them, the tokens to
    choose among (None: the whole vocabulary, for all); `old_log_probs` has the log-probabilities of the choices when
    they were made.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    options: tuple[tuple[int, ...], ...] | None = None
    old_log_probs: tuple[float, ...] = ()
    advantage: float = 0.0

    @property
    def inputs(self) -> tuple[int, ...]:
        """Answer tokens that the model has to read: those before the last chosen one."""
        return self.tokens[: self.positions[-1]]


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """Terms of Eq. 6, each [n]: loss, KL estimate, ratio, and whether the clip decided."""

    loss: torch.Tensor
    kl: torch.Tensor
    ratio: torch.Tensor
    clipped: torch.Tensor


def token_loss(
    log_probs: torch.Tensor,
    old: torch.Tensor,
    advantages: torch.Tensor,
    reference: torch.Tensor | None,
    clip: float,
    kl: float,
) -> TokenLoss:
    """Returns −min(r·A, clip(r, 1−ε, 1+ε)·A) + β·k3 for each token (Eq. 6).

    r = π/π_old, and k3 = q − log q − 1 with q = π_ref/π, the low-variance estimate of KL(π‖π_ref).

    Args:
        log_probs: log-probabilities [n] of chosen tokens under the policy.
        old: the same when they were chosen.
        advantages: advantages [n] of their trajectories.
        reference: log-probabilities [n] under the reference policy; None without a KL term.
        clip: ε, the clipping range of the ratio.
        kl: β, the weight of the KL term.
    """
    ratio = (log_probs - old).clamp(-20, 20).exp()
    plain, cut = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    loss = torch.maximum(plain, cut)
    estimate = torch.zeros_like(loss)
    if reference is not None:
        log_q = (reference - log_probs).clamp(-20, 20)
        estimate = log_q.exp() - log_q - 1
        loss = loss + kl * estimate
    return TokenLoss(loss, estimate, ratio, cut > plain)


def token_log_probs(
    model: Any, examples: Sequence[TrainingExample], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns log-probability and entropy at each chosen token, example after example, both [n].

    A shared prefix is computed once, and gradients flow through it (see prefix_sharing). Either all examples have
    options or none has. The entropy carries no gradient.
    """
    distribution, chosen = _distribution(model, examples, temperature)
    with torch.no_grad():
        entropy = torch.special.entr(distribution.exp()).sum(-1)
    return distribution.gather(1, chosen[:, None])[:, 0], entropy


def score_tokens(model: Any, examples: Sequence[TrainingExample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the log-probability of each chosen token, and whether it is the likeliest there, both [n]."""
    with torch.no_grad():
        distribution, chosen = _distribution(model, examples, 1.0)
        return distribution.gather(1, chosen[:, None])[:, 0], distribution.argmax(-1) == chosen


def _distribution(
    model: Any, examples: Sequence[TrainingExample], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns log-probabilities [n, V], or [n, C] of options, at all chosen tokens, and the columns [n] of these."""
    prompts = [example.prompt for example in examples]
    prefix, lengths = shared_prefix(prompts, [len(example.inputs) for example in examples], model.device.type)
    positions = [[len(example.prompt) - 1 + position for position in example.positions] for example in examples]
    sequences = [example.prompt + example.inputs for example in examples]
    logits = sequence_logits(model, sequences, positions, prefix, lengths)
    options: list[tuple[int, ...]] = []
    columns: list[int] = []
    for example in examples:
        chosen = [example.tokens[position] for position in example.positions]
        if example.options is not None:
            options += example.options
            chosen = [tokens.index(token) for tokens, token in zip(example.options, chosen, strict=True)]
        columns += chosen
    return log_softmax(logits, options or None, temperature), torch.tensor(columns, device=logits.device)


def microbatch_groups(examples: Sequence[TrainingExample], budget: int, device: str) -> list[list[int]]:
    """Returns groups of examples, by index, that are cheap to compute in one forward pass (see prefix_sharing).

    Examples with options and without are kept apart. A pass computes at most `budget` tokens, padding included; an
    example over the budget goes alone.
    """
    groups = []
    for free in (False, True):
        indices = [i for i, example in enumerate(examples) if (example.options is None) == free]
        answers = [len(examples[i].inputs) for i in indices]
        found = group_sequences([examples[i].prompt for i in indices], answers, device, budget)
        groups += [[indices[i] for i in group] for group in found]
    return groups
