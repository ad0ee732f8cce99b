"""Contract of a reflector as rules that run on any."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from d2skill.bank.safety import objection
from d2skill.errors import ReflectionFault
from d2skill.protocols import BatchReflector, GroupReflector, Reflector
from d2skill.testing.rules import Finding, findings_of, require, rule
from d2skill.testing.samples import sample_groups, sample_skills
from d2skill.types import Edit, Group, Reflection, SkillText, Trajectory
from d2skill.utils.text import short

_MOST_EDITS = 100  # of a group


def check_reflector(reflector: Reflector, groups: Sequence[Group] = ()) -> list[Finding]:
    """Checks the contract of `Reflector`, and of `BatchReflector` and `GroupReflector` as far as it has them.

    >>> from d2skill.testing import TinyReflector, check_reflector
    >>> all(finding.ok for finding in check_reflector(TinyReflector()))
    True

    Args:
        reflector: The reflector to check; sound if all findings are ok.
        groups: Groups to reflect on; without them those of a tiny environment, among them empty ones.

    Returns:
        The findings of the rules, up to the first stage in which one is broken.
    """
    checks = _Checks(reflector, list(groups) or sample_groups())
    more = [checks.batch] if isinstance(reflector, BatchReflector) else []
    return findings_of([[checks.pairs], [*more, checks.edits], [checks.unchanged]])


class _Checks:
    """The rules, and the groups that they ask about."""

    def __init__(self, reflector: Reflector, groups: list[Group]) -> None:
        self._reflector = reflector
        self._groups = groups
        self._kept = deepcopy(groups)
        self._pairs: list[tuple[Trajectory, Trajectory | None]] = []
        for group in groups:
            failures = [member for member in group.trajectories if not member.success]
            success = next((member for member in group.trajectories if member.success), None)
            self._pairs += [(failure, success) for failure in failures]

    @rule("reflect(failure, success) returns a Reflection whose skills have texts that a bank takes")
    def pairs(self) -> str:
        if not hasattr(self._reflector, "reflect"):
            return "it has no reflect, so it needs bank.skills consolidated"
        skills = answers = 0
        for failure, success in self._pairs:
            try:
                answer = self._reflector.reflect(failure, success)
            except ReflectionFault:  # no answer is allowed
                continue
            answers += 1
            skills += self._checked(answer)
        asked = len(self._pairs)
        require(answers or not asked, f"it answered none of {asked} failures: let ReflectionFault be the exception")
        return f"{skills} skills from {asked} failures, with a success and without, one of them without a step"

    @rule("reflect_batch(pairs) returns an answer for each pair, None where there is none")
    def batch(self) -> str:
        assert isinstance(self._reflector, BatchReflector)
        answers = self._reflector.reflect_batch(self._pairs)
        count = f"it returned {short(answers)} for {len(self._pairs)} pairs: return one answer for each"
        require(isinstance(answers, list) and len(answers) == len(self._pairs), count)
        require(list(self._reflector.reflect_batch([])) == [], "reflect_batch([]) is not []: there may be no failures")
        return f"{sum(map(self._checked, filter(None, answers)))} skills"

    @rule("reflect_groups(questions) returns edits for each group: of known skills, or with texts that a bank takes")
    def edits(self) -> str:
        if not isinstance(self._reflector, GroupReflector):
            return "it has no reflect_groups, so it needs bank.skills paper"
        known = sample_skills()
        ids = {skill.id for skill in known}
        answers = self._reflector.reflect_groups([(group, known) for group in self._groups])
        count = f"it returned {short(answers)} for {len(self._groups)} groups: return one list for each"
        require(isinstance(answers, list) and len(answers) == len(self._groups), count)
        require(list(self._reflector.reflect_groups([])) == [], "reflect_groups([]) is not []: there may be no groups")
        for edits in filter(None, answers):
            require(len(edits) <= _MOST_EDITS, f"{len(edits)} edits of one group: keep to a few")
            for edit in edits:
                require(isinstance(edit, Edit), f"{short(edit)} is among the edits: make it a d2skill.types.Edit")
                if edit.op == "add":
                    require(edit.granularity in ("task", "step"), f"{short(edit)} adds a skill without a granularity")
                else:
                    unknown = f"{short(edit)} is about a skill that it was not given: {', '.join(sorted(ids))}"
                    require(edit.op in ("support", "refute", "revise") and edit.skill_id in ids, unknown)
                if edit.op in ("add", "revise"):
                    _check_text(edit.text, "edit")
        return f"{sum(len(edits or []) for edits in answers)} edits for {len(self._groups)} groups, one of them empty"

    @rule("it leaves the trajectories as they are")
    def unchanged(self) -> str:
        require(self._groups == self._kept, "a trajectory has changed: work on a copy")
        return f"{len(self._groups)} groups are as before"

    def _checked(self, answer: Reflection) -> int:
        """Returns the number of skills of an answer."""
        wrong = f"it returned a {type(answer).__name__}: return a d2skill.types.Reflection"
        require(isinstance(answer, Reflection), wrong)
        step = answer.failing_step
        require(isinstance(step, int) and step >= 0, f"failing_step is {step!r}: it is the number of a step, from 0")
        texts = [text for text in (answer.step_skill, answer.task_skill) if text is not None]
        for text in texts:
            _check_text(text, "skill")
        return len(texts)


def _check_text(text: object, name: str) -> None:
    require(isinstance(text, SkillText), f"the text of a {name} is a {type(text).__name__}: make it a SkillText")
    assert isinstance(text, SkillText)
    for field in ("title", "principle", "when_to_apply"):
        value = getattr(text, field)
        require(isinstance(value, str) and value.strip(), f"{field} of a {name} is {value!r}: write a text")
    why = objection(text)
    require(not why, f"no bank takes {short(text.title)} ({why}): write one short line of plain words in each field")
