"""Checks of arguments of public functions: a wrong one is a sentence that names it, before anything is done."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from d2skill.errors import ConfigError, D2SkillError
from d2skill.utils.text import short


def path_of(value: Any, name: str, error: type[D2SkillError] = ConfigError) -> Path:
    """Returns a path, which may be given as a string."""
    if not isinstance(value, (str, os.PathLike)):
        raise error(f"{name} is a string or a Path, not {short(value)}")
    return Path(value)


def text_of(value: Any, name: str, error: type[D2SkillError] = ConfigError) -> str:
    """Returns a text."""
    if not isinstance(value, str):
        raise error(f"{name} is a string, not {short(value)}")
    return value


def whole_of(value: Any, name: str, least: int | None = None, error: type[D2SkillError] = ConfigError) -> int:
    """Returns a whole number.

    Args:
        value: The argument.
        name: Its name in the sentence.
        least: The least number that is allowed.
        error: Class of the error.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise error(f"{name} is {short(value)}: it is a whole number") from None
    if least is not None and number < least:
        raise error(f"{name} is {short(value)}: it is {least} or more")
    return number


def number_of(
    value: Any, name: str, least: float = -math.inf, most: float = math.inf, error: type[D2SkillError] = ConfigError
) -> float:
    """Returns a finite number; nan and infinity are none.

    Args:
        value: The argument.
        name: Its name in the sentence.
        least: The least number that is allowed.
        most: The largest.
        error: Class of the error.
    """
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and least <= number <= most):
        limits = f", {least:g} or more" * (least > -math.inf) + f", {most:g} at most" * (most < math.inf)
        raise error(f"{name} is {short(value)}: it is a finite number{limits}")
    return number


def items_of(values: Any, wanted: str, error: type[D2SkillError] = ConfigError) -> list[Any]:
    """Returns a list of what an argument has; a text is no list. `wanted` says in the sentence what it should be."""
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
        raise error(f"{short(values)} is not {wanted}")
    return list(values)
