"""Information that a search shows: passages between tags, in the shape of Search-R1 or of verl-agent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from d2skill.envs.search_qa.passage import Passage

_TAG = re.compile(r"<(\s*+/?+\s*+(?:information|search|answer|action|think(?:ing)?)\b[^<>]*+)>", re.IGNORECASE)


def without_tags(passage: Passage) -> Passage:
    """Returns a passage whose tags of an agent's language, such as <answer>, are in square brackets.

    So nothing that a passage says ends the information, or looks like an answer. All else stays as it is.
    """
    contents = _TAG.sub(r"[\1]", passage.contents)
    return passage if contents == passage.contents else passage._replace(contents=contents)


def search_r1(passages: Sequence[Passage]) -> str:
    """Returns passages as Search-R1 shows them: `Doc 1(Title: "Title") text`, one below the other."""
    texts = []
    for number, passage in enumerate(passages, 1):
        title, _, text = passage.contents.partition("\n")
        texts.append(f"Doc {number}(Title: {title}) {text}\n")
    return f"<information>{''.join(texts).strip() or 'No passage was found.'}</information>"


def verl_agent(passages: Sequence[Passage]) -> str:
    """Returns passages as verl-agent shows them: a JSON string with its escapes, `{"result": "Doc 1: ..."}`."""
    return reference(passages) if passages else framed(json.dumps({"result": "No search results found."}))


def reference(passages: Sequence[Passage]) -> str:
    """Returns passages in verl-agent's shape as the reference shows a server's list of them, also an empty one."""
    texts = [f"Doc {number}: {one.contents.strip()}\n" for number, one in enumerate(passages, 1)]
    return framed(json.dumps({"result": "".join(texts)}))


def framed(result: str) -> str:
    """Returns a result between the tags as verl-agent writes them."""
    return f"\n<information>{result}</information>\n"


SHAPES: Mapping[str, Callable[[Sequence[Passage]], str]] = {"search-r1": search_r1, "verl-agent": verl_agent}
"""The shapes by their names in settings"""
