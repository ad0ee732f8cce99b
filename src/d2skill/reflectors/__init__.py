"""Reflectors: who writes skills from failures. `make_reflector` finds one by its kind."""

from d2skill.config import ReflectConfig
from d2skill.errors import ConfigError
from d2skill.protocols import Policy, Reflector, SupportsChat
from d2skill.reflectors.contrast import ContrastReflector


def make_reflector(settings: ReflectConfig, check: bool = True, policy: Policy | None = None) -> Reflector:
    """Returns the reflector that the settings ask for; the `policy` may be the one to reflect.

    One that works elsewhere is checked: `ConfigError` says what is missing. Without `check` it is not even reached.
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
