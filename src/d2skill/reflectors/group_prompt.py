"""Question about a group: quotes its attempts and the skills of the bank, and asks a model for edits of the bank.

All attempts start alike, so the start is quoted once, and each action with what it led to is quoted once as well. Over
the budget, a success and a failure keep most; then come attempts that end in another way than those before them. An
attempt that does not fit loses the middle of its texts, and then steps: first those that name nothing of the task.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple

from d2skill.bank.safety import LIMITS
from d2skill.endpoints import estimate_tokens
from d2skill.reflectors.edits import EDITS_SCHEMA, MOST_EDITS, parse_edits
from d2skill.reflectors.prompt import (
    LONGEST_TEXT,
    Question,
    QuestionForm,
    from_both_ends,
    kept_lines,
    quoted,
    with_gaps,
)
from d2skill.types import Edit, Group, Skill, Trajectory
from d2skill.utils.text import content

_REQUEST = f"""\
Skills of the bank are shown to the agent in later tasks. Compare the attempts with each other and with these skills, \
and ask for at most {MOST_EDITS} edits of the bank:

- support: the id of a skill above that the attempts show to be right.
- refute: the id of a skill above that they show to be wrong.
- revise: the id of a skill above, and a better text about the same.
- add: a new skill, with its granularity: task or step. Add nothing that a skill above says already; support it.

A task skill is a procedure for this kind of task. Its title is the text of the task with slots in place of the words \
that other tasks of the kind exchange: {{thing}} for the thing that the task is about, {{place}} for where it goes, \
{{thing 2}} for a second thing. So the title may be: put a hot {{thing}} in {{place}}. Its principle is the acts that \
successes have in common, in their order and in the words of the actions, without searching and detours, with the same \
slots and with a comma and then between them, as in: Take {{thing}}, then heat {{thing}} with microwave, then move \
{{thing}} to {{place}}.

A step skill says for one thing that is sought where it is or what to do there. Its title is the thing, a colon and \
the place, as in: mug: in cabinet 2. Its principle is the way there and the act, as in: Go to cabinet 2, then open \
cabinet 2, then take mug from cabinet 2. It has no slots.

A text has a title (up to {LIMITS["title"]} characters), a principle (up to {LIMITS["principle"]}) and when_to_apply \
(up to {LIMITS["when_to_apply"]}: how to tell that it fits). Say only what the attempts show, do not refer to them, \
and write in the language of the task. If they show nothing new, the list of edits is empty.

Answer with one JSON object and nothing else. Its only field is edits, a list of objects with the field op (add, \
support, refute or revise) and these fields: for add granularity, title, principle and when_to_apply; for support and \
refute id; for revise id, title, principle and when_to_apply."""
_REPAIR = (
    "That answer cannot be used: {}. Answer again, with nothing but the one JSON object that has edits, and keep it "
    "short."
)
GROUP_FORM = QuestionForm(_REQUEST, _REPAIR, EDITS_SCHEMA)

_LENGTHS = (LONGEST_TEXT, 300, 80)  # characters of an observation or action, by the room there is
_LEAST_SHARE = 60  # tokens; an attempt with less room is left out


class _Step(NamedTuple):
    action: str
    admissible: bool
    after: str


def group_question(group: Group, skills: Sequence[Skill], tokens: int) -> Question[list[Edit]]:
    """Returns the question about a group, with about `tokens` tokens of attempts and half as many of skills."""
    said = [_skill(skill) for skill in skills]
    fits = kept_lines(said, tokens // 2, range(len(said)), least=0)
    given = [skill for skill, fit in zip(skills, fits, strict=True) if fit]
    parts = [
        f"The task: {quoted(group.task.text)}",
        *_attempts(group, {skill.id for skill in given}, tokens),
        "\n".join(("Skills of the bank about this task:", *(said[: len(given)] or ["none"]))),
    ]
    read = partial(parse_edits, group=group, skills=given)
    return Question(group.task.id, None, GROUP_FORM, GROUP_FORM.messages(parts), read)


def _attempts(group: Group, given: Collection[str], tokens: int) -> list[str]:
    """Returns the start, and an attempt in each part."""
    ranked, heads = _ranked([member for member in group.trajectories if member.turns])
    if not ranked:
        return ["There are no attempts."]
    start = quoted(ranked[0].turns[0].prompt.observation, min(LONGEST_TEXT, tokens))
    parts, above = [f"At the start of all attempts, seen {start}."], set[_Step]()
    left = tokens - estimate_tokens(parts[0])
    for at, member in enumerate(ranked):
        rest = ranked[at:]
        share = min(left, max(tokens // 3 if at < heads else 0, left // len(rest)))
        if at and share < _LEAST_SHARE:
            parts.append(f"({len(rest)} more attempts are left out, {sum(t.success for t in rest)} of them successful)")
            break
        parts.append(_attempt(f"Attempt {at + 1}", member, given, share, above))
        left -= estimate_tokens(parts[-1])
    return parts


def _ranked(members: Sequence[Trajectory]) -> tuple[list[Trajectory], int]:
    """Returns members in the order of their shares, and how many of them are heads: a success, a failure, or both.

    Those whose end is that of an earlier one come last.
    """
    ranks: list[tuple[int, bool, Trajectory]] = []
    known: set[object] = set()
    for member in sorted(members, key=lambda one: (bool(one.fault), len(one.turns), one.index)):
        end = member.success, member.final
        ranks.append((0 if member.success not in known else 1 if end not in known else 2, not member.success, member))
        known |= {member.success, end}
    ranks.sort(key=lambda one: one[:2])
    return [member for _, _, member in ranks], sum(rank == 0 for rank, _, _ in ranks)


def _attempt(name: str, member: Trajectory, given: Collection[str], tokens: int, above: set[_Step]) -> str:
    """Returns an attempt in lines, and adds its steps to those that are quoted `above`.

    Args:
        name: Name of the attempt in the question.
        member: The trajectory.
        given: Ids of the skills that the question gives.
        tokens: Budget of the attempt.
        above: Steps that attempts before it quote.
    """
    outcome = "success" if member.success else "failure of the environment" if member.fault else "failure"
    shown = sorted({skill_id for turn in member.turns for skill_id in turn.skill_ids if skill_id in given})
    with_skills = f", shown {' '.join(shown)}" if shown else ""
    head = f"{name} ({outcome}, {len(member.turns)} steps from step 0{with_skills}):"
    seen = [*(turn.prompt.observation for turn in member.turns[1:]), member.final]
    steps = [
        _Step(turn.decision.action, turn.admissible, after) for turn, after in zip(member.turns, seen, strict=True)
    ]
    wanted = content(member.task.text)
    named = [len(wanted & (content(step.action) | content(step.after))) for step in steps]
    order = sorted(from_both_ends(len(steps)), key=lambda at: (at < len(steps) - 1, -named[at]))
    for length in _LENGTHS:
        lines = [_line(at, step, length, is_above=step in above) for at, step in enumerate(steps)]
        kept = kept_lines(lines, tokens - estimate_tokens(head), order, least=int(length == _LENGTHS[-1]))
        if all(kept):
            break
    above |= {step for step, is_kept in zip(steps, kept, strict=True) if is_kept}
    return "\n".join((head, *with_gaps(lines, kept)))


def _line(at: int, step: _Step, length: int, *, is_above: bool) -> str:
    remark = "" if step.admissible else " (not possible there)"
    seen = "as above" if is_above else quoted(step.after, length)
    return f"step {at}: done {quoted(step.action, length)}{remark}, seen {seen}"


def _skill(skill: Skill) -> str:
    texts = ", ".join(f"{field} {quoted(getattr(skill.text, field))}" for field in LIMITS)
    return f"{skill.id} ({skill.granularity} skill, supports: {skill.supports}, refutes: {skill.refutes}): {texts}"
