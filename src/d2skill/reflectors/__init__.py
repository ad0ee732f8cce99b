"""Reflectors: who writes skills from failures. `make_reflector` finds one by its kind."""

from d2skill.config import ReflectConfig
from d2skill.protocols import Reflector
from d2skill.reflectors.contrast import ContrastReflector


def make_reflector(settings: ReflectConfig) -> Reflector:
    """Returns the reflector that the settings ask for; contrast is the only kind so far."""
    return ContrastReflector()


__all__ = ["ContrastReflector", "make_reflector"]
