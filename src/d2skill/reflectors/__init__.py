"""Reflectors: writers of skills from failures. `make_reflector` makes the one that the settings name."""

from typing import cast

from d2skill.config import ReflectConfig
from d2skill.config.parts import REFLECTOR, find_part, make_part
from d2skill.errors import ConfigError
from d2skill.protocols import BudgetedReflector, Policy, Reflector, SupportsChat
from d2skill.reflectors.contrast import ContrastReflector


def make_reflector(settings: ReflectConfig, check: bool = True, policy: Policy | None = None) -> Reflector:
    """Returns the reflector of the settings, a built-in one or one of your own (`config.parts`).

    For kind policy the `policy` reflects. One behind a server is checked, which raises `ConfigError` with the way out;
    without `check` it is not contacted.
    """
    if settings.kind == "contrast":
        return ContrastReflector()
    if settings.kind == "policy" and not isinstance(policy, SupportsChat):
        raise ConfigError("reflect.kind policy needs a policy that writes text: --policy causal-lm or --policy served")
    if settings.kind in REFLECTOR.built_in:
        own = (policy,) if settings.kind == "policy" else ()
        reflector = cast(Reflector, find_part(REFLECTOR, settings.kind)(settings, *own))
    else:
        reflector = cast(Reflector, make_part(REFLECTOR, settings.kind, settings.settings, settings.folder))
    if check and settings.kind != "policy" and isinstance(reflector, BudgetedReflector):
        reflector.check()
    return reflector


__all__ = ["ContrastReflector", "make_reflector"]
