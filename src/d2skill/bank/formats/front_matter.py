"""YAML front matter of SKILL.md files: PyYAML reads it, and double-quoted strings, one a line, are written.

All values are strings. Front matter that is not YAML is read entry by entry, since many published skills hold what YAML
forbids, such as ": " in a plain description. Anchors, aliases and tags are refused in the values that are read; other
values, such as those of `allowed-tools`, are not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from textwrap import dedent

import yaml

from d2skill.utils.foreign_text import visible

_FENCE = "---"
LONGEST = 2**18
"""Characters of front matter that are read, at most"""
_COMMENT = re.compile(r"(?:^|\s)#.*")


def write(top: Mapping[str, str], metadata: Mapping[str, str], body: str) -> str:
    """Returns a file of front matter and body."""
    lines = [_FENCE, *(f"{key}: {_quoted(value)}" for key, value in top.items())]
    if metadata:
        lines += ["metadata:", *(f"  {key}: {_quoted(value)}" for key, value in metadata.items())]
    return "\n".join([*lines, _FENCE, body])


def read(content: str, prefix: str) -> tuple[dict[str, str], dict[str, str], str]:
    """Returns name and description, as far as the file has them, its `metadata` with a prefix, and the body.

    Keys of `metadata` that do not begin with `prefix` are left out, and the prefix is removed. Raises `ValueError` that
    begins with the number of the line at fault.
    """
    lines = content.replace("\r\n", "\n").split("\n")
    fences = [number for number, line in enumerate(lines) if line.rstrip() == _FENCE]
    if len(fences) < 2 or fences[0] != 0:
        raise ValueError(f'line 1: front matter begins and ends with a line "{_FENCE}"')
    block = dedent("\n".join(lines[1 : fences[1]]))
    if len(block) > LONGEST:
        raise ValueError(f"line 1: front matter of more than {LONGEST} characters is not read: shorten it")
    try:
        entries = _entries(_parsed(block, 1))
    except yaml.YAMLError:
        entries = _entries_one_by_one(block.split("\n"), prefix)
    inner = _entries(entries.get("metadata"))
    return (
        {key: _string(entries[key]) for key in ("name", "description") if key in entries},
        {key.removeprefix(prefix): _string(node) for key, node in inner.items() if key.startswith(prefix)},
        "\n".join(lines[fences[1] + 1 :]),
    )


def _quoted(text: str) -> str:
    """Returns a string of JSON that is one of YAML too, and never holds the fence, at which some readers split."""
    text = json.dumps(text, ensure_ascii=False)
    text = visible(text).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")  # which YAML forbids
    return text.replace("--", "\\u002d-")


def _entries_one_by_one(lines: list[str], prefix: str) -> dict[str, yaml.Node]:
    """Returns name, description and metadata of front matter that is not YAML as a whole.

    A plain name or description that is not YAML is taken as it is, up to a comment. Metadata that is not YAML is
    passed over if no key has the prefix.
    """
    entries: dict[str, yaml.Node | None] = {}
    starts = [number for number, line in enumerate(lines) if line and line[0] not in " \t#-]}"]
    for start, end in pairwise([*starts, len(lines)]):
        entry = "\n".join(lines[start:end])
        key, colon, text = entry.partition(":")
        key, text = key.strip(" \t\"'"), text.strip()
        if not colon:
            raise ValueError(f"line {start + 2}: not a key, a colon and a value")
        if key in entries:
            raise ValueError(f"line {start + 2}: {key} stands there twice")
        entries[key] = None
        if key in ("name", "description", "metadata"):
            try:
                entries |= _entries(_parsed(entry, start + 1))
            except yaml.YAMLError as error:
                if key == "metadata" and prefix not in text:
                    continue
                if key == "metadata" or text[:1] in {*"\"'|>&*!"}:
                    why = getattr(error, "problem", None) or error
                    raise ValueError(f"line {start + 2}: {key} is not YAML ({why}): write it in quotes") from None
                plain = " ".join(_COMMENT.sub("", text).split())
                entries |= _entries(_parsed(f"{key}: {_quoted(plain)}", start + 1))
    return {key: node for key, node in entries.items() if node}


def _parsed(text: str, before: int) -> yaml.Node | None:
    """Returns the node of a text that stands below so many lines. Raises `yaml.YAMLError` if it is not YAML."""
    try:
        return yaml.compose("\n" * before + text, yaml.BaseLoader)
    except (ValueError, OverflowError, RecursionError) as error:  # of an escape beyond Unicode, or of deep nesting
        raise yaml.YAMLError(str(error)) from None


def _entries(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """Returns the keys of a mapping with their values, and nothing for another node."""
    entries: dict[str, yaml.Node] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            if key.value in entries:
                raise ValueError(f"line {key.start_mark.line + 1}: {key.value} stands there twice")
            entries[key.value] = value
    return entries


def _string(node: yaml.Node) -> str:
    """Returns the text of a string, and of a list or mapping as it stands in the file."""
    source, start = node.start_mark.buffer or "", node.start_mark.pointer
    if source[start : start + 1] in {*"&*!"}:  # for an alias, the start is that of its anchor
        raise ValueError(f"line {node.start_mark.line + 1}: anchors, aliases and tags are not read: write it in quotes")
    if not isinstance(node, yaml.ScalarNode):
        return " ".join(source[start : node.end_mark.pointer].split())
    text: str = node.value.strip() if node.style in ("|", ">") else node.value
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins the halves of escaped characters
