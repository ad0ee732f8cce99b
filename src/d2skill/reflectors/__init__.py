"""Reflectors: who writes skills from failures. `make_reflector` finds one by its kind."""

from d2skill.config import ReflectConfig
from d2skill.protocols import Reflector
from d2skill.reflectors.contrast import ContrastReflector


def make_reflector(settings: ReflectConfig, check: bool = True) -> Reflector:
    """Returns the reflector that the settings ask for.

    One that works elsewhere is checked: `ConfigError` says what is missing. Without `check` it is not even reached.
    """
    if settings.kind == "llm":
        from d2skill.reflectors.llm import LLMReflector

        reflector = LLMReflector(settings)
        if check:
            reflector.check()
        return reflector
    return ContrastReflector()


__all__ = ["ContrastReflector", "make_reflector"]
