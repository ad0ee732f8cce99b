"""Check of a loaded model: log-probabilities of acting and of learning against plain forward passes of Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError
from d2skill.policies.causal_lm.architectures import ExecutionPath, likely_paths, set_path, text_config
from d2skill.policies.causal_lm.constrained_decoding import DecodingState
from d2skill.policies.causal_lm.forward import sequence_logits
from d2skill.policies.causal_lm.generation import Sampling, make_engine
from d2skill.utils.foreign_text import logger

_log = logger(__name__)


def plain_log_probs(model: Any, tokens: Sequence[int], start: int) -> torch.Tensor:
    """Returns the log-probabilities of `tokens[start:]` by one plain pass over the unpadded sequence."""
    ids = torch.tensor([list(tokens)], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1].float()
    chosen = ids[0, start:, None].to(logits.device)
    return logits.log_softmax(-1).gather(1, chosen)[:, 0]


def check_execution(model: Any, settings: CausalLMConfig) -> None:
    """Chooses the execution path of a model, and says so if it is a slow one. Raises ConfigError if there is none."""
    path = choose_path(model, settings.model)
    if path == "batched":
        return
    if settings.gradient_checkpointing:
        raise ConfigError(
            f"policy.lm.gradient_checkpointing does not work with the layers of a {type(model).__name__}: turn it off"
        )
    _log.warning(
        '"%s" is a %s, whose prompts are read one by one and from the beginning at each step, so it is slow',
        settings.model,
        type(model).__name__,
    )


def choose_path(model: Any, name: str) -> ExecutionPath:
    """Measures on which path a model gives what plain passes give, and sets the fastest such.

    Raises ConfigError if there is none.
    """
    reason = ""
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.5
    for path in likely_paths(type(model), model.config):
        set_path(model, path)
        try:
            error = max(measure_errors(model))
        except Exception as problem:  # whatever a model raises, its sentence is the reason
            lines = str(problem).strip().splitlines()
            reason = f"{type(problem).__name__}: {lines[0] if lines else ''}".strip(": ")
            continue
        if error <= tolerance:
            return path
        reason = f"log-probabilities differ by {error:.2g} from those of a plain forward pass"
    raise ConfigError(
        f'policy.lm.model "{name}" is a {type(model).__name__}, which cannot be played here ({reason}): use a model of '
        "another family, such as Qwen3 or Llama"
    )


def measure_errors(model: Any, tokens: int = 5) -> tuple[float, float]:
    """Returns the largest errors of log-probabilities in acting and in learning, against plain forward passes.

    Two sequences begin alike and are of different lengths; when the first answer has ended, its sequence goes on.
    """
    vocabulary = min(int(text_config(model.config).vocab_size), 256)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary // 8, vocabulary, (40,), generator=draw).tolist()
    prompts = [tuple(ids[:17]), tuple(ids[:12] + ids[30:33])]
    finished: list[tuple[tuple[int, ...], Any]] = []
    engine = make_engine(model, 2, Sampling(1.0))
    running = {}
    for key, prompt in enumerate(prompts):
        running[key] = prompt, _RandomAnswer(tokens - 2 * key)
        engine.submit(key, *running[key])
    again = True
    while running:
        for key in engine.run():
            prompt, state = running.pop(key)
            finished.append((prompt, state))
            if key == 0 and again:
                again = False
                running[0] = (*prompt, *state.tokens, *ids[20:24]), _RandomAnswer(tokens)
                engine.submit(0, *running[0])
    acting = 0.0
    expected = []
    for prompt, state in finished:
        exact = plain_log_probs(model, (*prompt, *state.tokens), len(prompt))
        acting = max(acting, float((exact.cpu() - torch.tensor(state.log_probs)).abs().max()))
        expected.append(exact)
    sequences = [(*prompt, *state.tokens) for prompt, state in finished]
    positions = [range(len(prompt) - 1, len(whole) - 1) for (prompt, _), whole in zip(finished, sequences, strict=True)]
    shared = [min(12, len(prompt) - 1) for prompt, _ in finished]
    with torch.no_grad():
        logits = sequence_logits(model, sequences, positions, sequences[0][:12], shared).float()
    chosen = torch.tensor([t for _, state in finished for t in state.tokens], device=logits.device)
    found = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
    learning = float((found.cpu() - torch.cat(expected).cpu()).abs().max())
    return acting, learning


class _RandomAnswer(DecodingState):
    """Answer of any tokens, `limit` of them."""

    def __init__(self, limit: int) -> None:
        super().__init__(np.random.default_rng(limit))
        self._limit = limit

    def append(self, token: int, log_prob: float) -> tuple[int, ...]:
        """Appends a sampled token; see DecodingState."""
        fed = super().append(token, log_prob)
        return () if len(self.tokens) == self._limit else fed
