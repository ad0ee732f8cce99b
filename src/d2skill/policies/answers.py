"""Answers of language models: the action in them, the kinds of answers without one, and a run that gets no actions.

A model is asked to think inside <think> </think> and to name its action inside <action> </action> (`prompts.render`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from d2skill.errors import RunError
from d2skill.types import Trajectory
from d2skill.utils.text import counted, short

AnswerKind = Literal["action", "empty", "cut", "thought_only", "tool_call", "list", "no_tag"]

_ACTION = re.compile(r"<action>((?:(?!<action>).)*?)</action>", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_TOOL_CALL = re.compile(r"<tool_call>|<function=|\[TOOL_CALLS\]|\"(?:arguments|parameters)\"\s*:", re.IGNORECASE)
_ITEM = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
_LEAST_TURNS, _LEAST_EPISODES = 20, 4
_NEARLY_ALL = 0.95

ANSWER_KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)
_MEANINGS: dict[AnswerKind, str] = {
    "empty": "were empty",
    "cut": "ended before a tag was closed",
    "thought_only": "had nothing after the thought",
    "tool_call": "were tool calls",
    "list": "were lists",
    "no_tag": "had no <action> tag",
}
_WAYS_OUT: dict[AnswerKind, str] = {
    "empty": "see whether the server answers, and whether its chat template is that of the model",
    "cut": "raise policy.lm.max_new_tokens (policy.served.answer_tokens), or turn thinking off",
    "thought_only": "raise policy.lm.max_new_tokens (policy.served.answer_tokens), or turn thinking off",
    "tool_call": "serve the model without tools",
}


def parse_action(text: str) -> str:
    """Returns the text inside the last <action> tags after the thought of an answer, or "" if there are none.

    An answer ends with its first </action>, so tags in a thought that has no end are taken as meant.

    >>> from d2skill.policies.answers import parse_action
    >>> parse_action("<think>Not <action>wait</action>.</think><action>open chest 1</action>")
    'open chest 1'
    """
    found = _ACTION.findall(_after_thought(text))
    return " ".join(found[-1].split()) if found else ""


def kind_of_answer(text: str) -> AnswerKind:
    """Returns the kind of an answer: with an action, or how it is without one."""
    if parse_action(text):
        return "action"
    if not text.strip():
        return "empty"
    rest = _after_thought(text)
    if _TOOL_CALL.search(rest):
        return "tool_call"
    lower = rest.lower()
    if "<think" in lower or lower.rfind("<action>") > lower.rfind("</action>"):
        return "cut"
    if not rest.strip():
        return "thought_only"
    return "list" if len(_ITEM.findall(rest)) > 1 or rest.strip().startswith("[") else "no_tag"


def count_answers(trajectories: Iterable[Trajectory]) -> Counter[AnswerKind]:
    """Returns how many answers of each kind trajectories have; decisions that name an action are of kind action."""
    decisions = (turn.decision for one in trajectories for turn in one.turns)
    return Counter("action" if decision.action else kind_of_answer(decision.text) for decision in decisions)


def require_actions(trajectories: Sequence[Trajectory]) -> None:
    """Raises `RunError` if nearly all answers of some trajectories name no action: nothing could be learned of them."""
    counts = count_answers(trajectories)
    total, named = counts.total(), counts["action"]
    few = total < _LEAST_TURNS or len(trajectories) < _LEAST_EPISODES
    if few or named > (1 - _NEARLY_ALL) * total:
        return
    kinds = [(kind, count) for kind, count in counts.most_common() if kind != "action"]
    seen = ", ".join(f"{count:,} {_MEANINGS[kind]}" for kind, count in kinds)
    texts = (turn.decision.text for one in trajectories for turn in one.turns if not turn.decision.action)
    ways = [_WAYS_OUT.get(kinds[0][0], ""), "let only admissible actions be written with answer choice"]
    raise RunError(
        f"{total - named:,} of {counted(total, 'answer')} name no action ({seen}; the first is {short(next(texts))}): "
        f"{', or '.join(filter(None, ways))}, or imitate first (warm_start.tasks, d2skill sft)"
    )


def _after_thought(text: str) -> str:
    """Returns what stands behind the last end of a thought; all of an answer without one."""
    ends = list(_END_OF_THOUGHT.finditer(text))
    return text[ends[-1].end() :] if ends else text
