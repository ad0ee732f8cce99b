"""Policies: the scorer, a causal language model, a model behind a server; `make_policy` makes one of its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from d2skill.config import Config
from d2skill.config.parts import POLICY, find_part, make_part
from d2skill.protocols import Policy


def make_policy(config: Config, texts: Callable[[], Sequence[str]]) -> Policy:
    """Returns the policy of the settings, a built-in one or one of your own (`config.parts`).

    `texts` yields sample texts of the environment, for a model that has to make its own tokenizer. Raises
    `ConfigError` when the packages of a language model are not installed.
    """
    chosen = config.policy
    if chosen.kind not in POLICY.built_in:
        return cast(Policy, make_part(POLICY, chosen.kind, chosen.settings, chosen.folder))
    make = find_part(POLICY, chosen.kind)
    if chosen.kind == "scorer":
        return cast(Policy, make(chosen.scorer, config.optim, config.warm_start, config.rollout.temperature))
    if chosen.kind == "served":
        return cast(Policy, make(chosen.served, config.prompt.max_tokens))
    policy = make(
        chosen.lm,
        config.optim,
        config.warm_start,
        config.seed,
        texts,
        config.rollout.temperature,
        prompt_tokens=config.prompt.max_tokens,
    )
    return cast(Policy, policy)
