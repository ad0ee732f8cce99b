"""Answers of language models: the action in them, the kinds of answers without one, and a run that gets no actions.

A model is asked to think inside <think> </think> and to name its action inside <action> </action>, or inside tags of
the action's own name, such as <search> </search>, where the forms of a prompt are all written name[...]
(`prompts.render`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, get_args

from d2skill.errors import RunError
from d2skill.prompts import ANY_TEXT, free_forms, tag_names
from d2skill.types import Trajectory
from d2skill.utils.text import counted, short

AnswerKind = Literal["action", "empty", "cut", "thought_only", "tool_call", "list", "no_tag"]

_START_OF_THOUGHT = re.compile(r"<think", re.IGNORECASE)
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
    "no_tag": "had no {tags} tag",
}
_WAYS_OUT: dict[AnswerKind, str] = {
    "empty": "see whether the server answers, and whether its chat template is that of the model",
    "cut": "raise policy.lm.max_new_tokens (policy.served.answer_tokens), or turn thinking off",
    "thought_only": "raise policy.lm.max_new_tokens (policy.served.answer_tokens), or turn thinking off",
    "tool_call": "serve the model without tools",
}


def parse_action(text: str, forms: Sequence[str] = ()) -> str:
    """Returns the text inside the last <action> tags after the thought of an answer, or "" if there are none.

    `forms` are those of a prompt without listed actions (`prompts.free_forms`). Where they have names, the first tags
    of such a name after the thought count, or <action> tags if these come first, as in Search-R1 and verl-agent. With
    the form "..." alone the answer is the action.

    An answer ends with its first closing tag, so tags in a thought that has no end are taken as meant.

    >>> from d2skill.policies.answers import parse_action
    >>> parse_action("<think>Not <action>wait</action>.</think><action>open chest 1</action>")
    'open chest 1'
    >>> parse_action("<think>Who?</think><search> Ada Lovelace </search>", ("search[...]", "answer[...]"))
    'search[Ada Lovelace]'
    """
    if tuple(forms) == ANY_TEXT:
        return text
    names = tag_names(forms)
    if names == ("action",):
        found = _blocks(names).findall(_after_thought(text))
        return " ".join(found[-1][1].split()) if found else ""
    first = _blocks((*names, "action")).search(_without_first_thought(text))
    if first is None:
        return ""
    inside, name = " ".join(first[2].split()), first[1].lower()
    return inside if name == "action" else f"{_as_in(names, name)}[{inside}]"


def closing_tags(forms: Sequence[str]) -> tuple[str, ...]:
    """Returns the tags that end an answer to a prompt with such forms (`prompts.free_forms`).

    Answers that are taken whole end at those of the search task, for the reference that plays so (SkyRL) stops there.
    """
    names = ("search", "answer") if tuple(forms) == ANY_TEXT else dict.fromkeys((*tag_names(forms), "action"))
    return tuple(f"</{name}>" for name in names)


def kind_of_answer(text: str, forms: Sequence[str] = ()) -> AnswerKind:
    """Returns the kind of an answer: with an action, or how it is without one; see `parse_action` for the forms."""
    if parse_action(text, forms).strip():
        return "action"
    if not text.strip():
        return "empty"
    rest = _after_thought(text)
    if _TOOL_CALL.search(rest):
        return "tool_call"
    lower = rest.lower()
    tags = [tag.lower() for tag in closing_tags(forms)]
    if "<think" in lower or any(lower.rfind(tag.replace("/", "")) > lower.rfind(tag) for tag in tags):
        return "cut"
    if not rest.strip():
        return "thought_only"
    return "list" if len(_ITEM.findall(rest)) > 1 or rest.strip().startswith("[") else "no_tag"


def count_answers(trajectories: Iterable[Trajectory]) -> Counter[AnswerKind]:
    """Returns how many answers of each kind trajectories have; decisions that name an action are of kind action."""
    turns = (turn for one in trajectories for turn in one.turns)
    return Counter(
        "action" if turn.decision.action else kind_of_answer(turn.decision.text, free_forms(turn.prompt))
        for turn in turns
    )


def require_actions(trajectories: Sequence[Trajectory]) -> None:
    """Raises `RunError` if nearly all answers of some trajectories name no action: nothing could be learned of them."""
    counts = count_answers(trajectories)
    total, named = counts.total(), counts["action"]
    few = total < _LEAST_TURNS or len(trajectories) < _LEAST_EPISODES
    if few or named > (1 - _NEARLY_ALL) * total:
        return
    kinds = [(kind, count) for kind, count in counts.most_common() if kind != "action"]
    first = next(turn for one in trajectories for turn in one.turns if not turn.decision.action)
    tags, text = " or ".join(f"<{name}>" for name in tag_names(free_forms(first.prompt))), first.decision.text
    seen = ", ".join(f"{count:,} {_MEANINGS[kind].format(tags=tags)}" for kind, count in kinds)
    ways = [_WAYS_OUT.get(kinds[0][0], ""), "let only admissible actions be written with answer choice"]
    raise RunError(
        f"{total - named:,} of {counted(total, 'answer')} name no action ({seen}; the first is {short(text)}): "
        f"{', or '.join(filter(None, ways))}, or imitate first (warm_start.tasks, d2skill sft)"
    )


def _after_thought(text: str) -> str:
    """Returns what stands behind the last end of a thought; all of an answer without one."""
    ends = list(_END_OF_THOUGHT.finditer(text))
    return text[ends[-1].end() :] if ends else text


def _without_first_thought(text: str) -> str:
    """Returns an answer without its first thought, and without what stands before one that was opened by the prompt."""
    end = _END_OF_THOUGHT.search(text)
    if end is None:
        return text
    start = _START_OF_THOUGHT.search(text, 0, end.start())
    return text[: start.start() if start else 0] + text[end.end() :]


@lru_cache(maxsize=2**8)
def _blocks(names: tuple[str, ...]) -> re.Pattern[str]:
    """Returns the pattern of a closed tag of some names: its name, and what is inside."""
    # By ASCII, or the long s of other alphabets would be an s too.
    return re.compile(rf"<({'|'.join(names)})>((?:(?!<\1>).)*?)</\1>", re.DOTALL | re.IGNORECASE | re.ASCII)


def _as_in(names: Sequence[str], name: str) -> str:
    """Returns a name as it is written among `names`, whatever its case."""
    return next(one for one in names if one.lower() == name)
