"""Rules of a contract: each says what is wrong with a part, and how to fix it.

No rule throws: an exception in the part is a finding, with its place. Rules come in stages; after a stage with a broken
rule the later ones are left out, since they would say the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from d2skill.config.parts import described

_Checks = TypeVar("_Checks")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one rule; `detail` says what was seen and, if the rule is broken, how to fix it.

    A `hint` is no fault, but says what a part would gain by a change.
    """

    ok: bool
    rule: str
    detail: str
    hint: bool = False

    def __str__(self) -> str:
        mark = "WRONG" if not self.ok else "hint " if self.hint else "ok   "
        return f"{mark} {self.rule}" + f": {self.detail}" * bool(self.detail)


class RuleViolation(Exception):
    """A rule does not hold; the message says what was seen and how to fix it."""


class Hint(Exception):
    """A part keeps the contract, but could do better; the message says how."""


def require(holds: object, message: str) -> None:
    """Raises `RuleViolation` with a message if a condition does not hold."""
    if not holds:
        raise RuleViolation(message)


def rule(text: str) -> Callable[[Callable[[_Checks], str]], Callable[[_Checks], Finding]]:
    """Makes a finding of a method that returns what it saw or raises `RuleViolation`."""

    def decorate(check: Callable[[_Checks], str]) -> Callable[[_Checks], Finding]:
        def run(checks: _Checks) -> Finding:
            try:
                return Finding(True, text, check(checks))
            except Hint as hint:
                return Finding(True, text, str(hint), hint=True)
            except Exception as error:  # code that is not ours; a finding, whatever it is
                return Finding(False, text, str(error) if isinstance(error, RuleViolation) else described(error))

        return run

    return decorate


def findings_of(stages: Sequence[Sequence[Callable[[], Finding]]]) -> list[Finding]:
    """Returns the findings of the rules, up to the first stage in which one is broken."""
    findings: list[Finding] = []
    for stage in stages:
        findings += [check() for check in stage]
        if not all(finding.ok for finding in findings):
            break
    return findings


def assert_sound(findings: Sequence[Finding]) -> None:
    """Raises `AssertionError` with what is wrong, a line for each broken rule.

    >>> from d2skill.testing import TinyEmbedder, assert_sound, check_embedder
    >>> assert_sound(check_embedder(TinyEmbedder()))
    """
    broken = [str(finding) for finding in findings if not finding.ok]
    if broken:
        raise AssertionError("\n".join(broken))
