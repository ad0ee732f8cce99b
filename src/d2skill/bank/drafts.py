"""What may enter the bank: drafts of skills, and the cleaning of their text.

Skill text comes from a reflector, often a language model that has read what an environment printed, and goes
into later prompts. So each field is one line of bounded length, without invisible characters and without the
markers by which chat templates tell who speaks.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from d2skill.types import Granularity, Skill, SkillText

LIMITS = {"title": 120, "principle": 600, "when_to_apply": 300}
"""Longest text of each field, in characters."""

_CHAT_MARKERS = re.compile(
    r"<[|｜][^<>]{0,40}[|｜]>"  # <|im_start|>, <|eot_id|>, <｜User｜>
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"
    r"|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn|start_of_image)>"
    r"|</?(?:think|tool_call|tool_response)>",
    re.IGNORECASE,
)
_INVISIBLE = {"Cc", "Cf", "Cs"}  # control; zero-width, bidirectional and tag characters; lone surrogates


@dataclass(frozen=True, slots=True)
class Draft:
    """A skill that a reflector wrote, before the bank has taken it.

    The key is `task_text` for a task skill, (`task_text`, `observation`) for a step skill. `evidence` is
    the id of the task whose failure it was written from.
    """

    granularity: Granularity
    text: SkillText
    task_text: str
    observation: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Insertion:
    """What became of a draft: the new skill and "added", or None and why not ("empty", "duplicate of t3")."""

    draft: Draft
    skill: Skill | None
    reason: str


def clean(text: SkillText) -> SkillText:
    """Returns the text as the bank stores it; a field of nothing but noise comes out empty."""
    return SkillText(**{field: _clean_line(getattr(text, field), limit) for field, limit in LIMITS.items()})


def storable(text: str) -> str:
    """Returns the text with lone surrogates replaced, which no UTF-8 file can hold."""
    return text.encode("utf-8", "replace").decode()


def said(text: SkillText) -> str:
    """Returns what two skills are compared by: title and principle."""
    return f"{text.title}. {text.principle}"


def numbers(text: str) -> tuple[str, ...]:
    """Returns the numbers in a text, sorted: "drawer 3" and "drawer 4" are different advice however alike."""
    return tuple(sorted(re.findall(r"\d+", text)))


def _clean_line(text: str, limit: int) -> str:
    """Returns one line of visible characters without chat markers, cut at a word to `limit` characters."""
    text = " ".join(text.split())
    text = "".join(c for c in text if unicodedata.category(c) not in _INVISIBLE)
    while (less := " ".join(_CHAT_MARKERS.sub(" ", text).split())) != text:  # a removal can join up another marker
        text = less
    if len(text) <= limit:
        return text
    return text[: limit + 1].rpartition(" ")[0] or text[:limit]
