"""Policies: the scorer, a causal language model, and a model behind a server; `make_policy` builds one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from d2skill.config import Config
from d2skill.errors import ConfigError
from d2skill.protocols import Policy


def make_policy(config: Config, texts: Callable[[], Sequence[str]]) -> Policy:
    """Returns the policy of the settings.

    `texts` yields sample texts of the environment, for a model that has to make its own tokenizer. Raises
    `ConfigError` when the packages of a language model are not installed.
    """
    if config.policy.kind == "scorer":
        from d2skill.policies.scorer.policy import ScorerPolicy

        return ScorerPolicy(config.policy.scorer, config.optim, config.warm_start, config.rollout.temperature)
    if config.policy.kind == "served":
        from d2skill.policies.served import ServedPolicy

        return ServedPolicy(config.policy.served)
    try:
        from d2skill.policies.causal_lm.policy import CausalLMPolicy
    except ImportError as error:
        raise ConfigError(f'policy "causal-lm" needs the package {error.name}: pip install "d2skill[train]"') from None
    return CausalLMPolicy(
        config.policy.lm,
        config.optim,
        config.warm_start,
        config.seed,
        texts,
        config.rollout.temperature,
        prompt_tokens=config.prompt.max_tokens,
    )
