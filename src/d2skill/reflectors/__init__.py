"""Reflectors: writers of skills from failures. `make_reflector` builds the one that the settings name."""

from d2skill.config import ReflectConfig
from d2skill.errors import ConfigError
from d2skill.protocols import Policy, Reflector, SupportsChat
from d2skill.reflectors.contrast import ContrastReflector


def make_reflector(settings: ReflectConfig, check: bool = True, policy: Policy | None = None) -> Reflector:
    """Returns the reflector of `settings.kind`; for kind policy the `policy` reflects.

    One behind a server is checked, which raises `ConfigError` with the way out; without `check` it is not contacted.
    """
    if settings.kind == "policy":
        from d2skill.reflectors.policy import PolicyReflector

        if not isinstance(policy, SupportsChat):
            raise ConfigError(
                "reflect.kind policy needs a policy that writes text: --policy causal-lm or --policy served"
            )
        return PolicyReflector(settings, policy)
    if settings.kind == "llm":
        from d2skill.reflectors.llm import LLMReflector

        reflector = LLMReflector(settings)
        if check:
            reflector.check()
        return reflector
    return ContrastReflector()


__all__ = ["ContrastReflector", "make_reflector"]
