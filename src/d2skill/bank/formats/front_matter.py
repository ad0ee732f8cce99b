"""YAML front matter, as much of it as SKILL.md files have.

Written are double-quoted strings, one a line, which every YAML reader takes. Read are keys with plain, quoted, literal
(|) and folded (>) strings, over several lines too, and one level of them under `metadata`. All values are strings.

This is less than YAML and, on purpose, also more. Less: anchors, aliases and tags are errors; metadata of others in
braces is passed over; of literal and folded strings surrounding blank lines and deeper indents are not kept. More: a
plain description may hold ": ", which YAML forbids and many published skills have. Values that nobody asks for, such
as those of `allowed-tools`, are not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_FENCE = "---"
_BLANK = " \t"
_KEY = re.compile(r"""("[^"]*"|'[^']*'|[^\s#"':][^:]*):(?:[ \t]+(.*))?""", re.DOTALL)
_LIST = re.compile(r"-(?: |$)|[\]}]")
_BLOCK = re.compile(r"[|>][-+1-9]{0,2}(?:\s+#.*)?")
_DOUBLE = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"(?:\s+#.*)?', re.DOTALL)
_SINGLE = re.compile(r"'([^']*(?:''[^']*)*)'(?:\s+#.*)?", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|\n+", re.DOTALL)
_ESCAPED = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_ESCAPED |= {"e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0"}
_ESCAPED |= {"L": "\u2028", "P": "\u2029", "\n": ""}
_COMMENT = re.compile(r"(?:^|[ \t])#.*", re.DOTALL)
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(slots=True)
class _Value:
    """What stands after a key, and on the indented lines below it; `line` is the number of the key's line."""

    line: int
    first: str
    below: list[str] = field(default_factory=list)


def write(top: Mapping[str, str], metadata: Mapping[str, str], body: str) -> str:
    """Returns a file of front matter and body."""
    lines = [_FENCE, *(f"{key}: {_quoted(value)}" for key, value in top.items())]
    if metadata:
        lines += ["metadata:", *(f"  {key}: {_quoted(value)}" for key, value in metadata.items())]
    return "\n".join([*lines, _FENCE, body])


def read(content: str, prefix: str) -> tuple[dict[str, str], dict[str, str], str]:
    """Returns name and description, as far as they are there, what is ours in `metadata`, and the body.

    Ours are the keys that begin with `prefix`, which is left off. Raises `ValueError` that begins with the number of
    the line at fault.
    """
    lines = content.replace("\r\n", "\n").split("\n")
    fences = [number for number, line in enumerate(lines) if line.rstrip() == _FENCE]
    if len(fences) < 2 or fences[0] != 0:
        raise ValueError(f'line 1: front matter begins and ends with a line "{_FENCE}"')
    values = _values(lines[1 : fences[1]], 2)
    top: dict[str, str] = {key: _string(values[key]) for key in ("name", "description") if key in values}
    inner = _metadata(values["metadata"], prefix) if "metadata" in values else {}
    ours = {key.removeprefix(prefix): _string(value) for key, value in inner.items() if key.startswith(prefix)}
    return top, ours, "\n".join(lines[fences[1] + 1 :])


def _quoted(text: str) -> str:
    """Returns a string of JSON that is one of YAML too, and never holds the fence, at which some readers split."""
    text = json.dumps(text, ensure_ascii=False)
    text = _UNPRINTABLE.sub(lambda character: f"\\u{ord(character[0]):04x}", text)
    return text.replace("--", "\\u002d-")


def _metadata(value: _Value, prefix: str) -> dict[str, _Value]:
    """Returns what stands under `metadata`; nothing for metadata of others in braces."""
    whole = "\n".join((value.first, *value.below)).strip()
    if not whole.startswith("{"):
        return _values(value.below, value.line + 1)
    if prefix in whole:
        raise ValueError(f"line {value.line}: metadata in braces: write it one key a line, indented")
    return {}


def _values(lines: list[str], number: int) -> dict[str, _Value]:
    """Returns the keys at the outer level of some lines, of which the first has the given number."""
    outer = min((_indent(line) for line in lines if _tells(line)), default=0)
    values: dict[str, _Value] = {}
    last: _Value | None = None
    for at, line in enumerate(lines, start=number):
        if last and (not line.strip() or _indent(line) > outer or _LIST.match(line.lstrip())):
            last.below.append(line)
        elif _tells(line):
            found = _KEY.fullmatch(line.strip(_BLANK))
            if not found:
                raise ValueError(f"line {at}: not a key, a colon and a value")
            key = found[1].strip().strip("\"'")
            if key in values:
                raise ValueError(f"line {at}: {key} stands there twice")
            last = values[key] = _Value(at, found[2] or "")
    return values


def _string(value: _Value) -> str:
    """Returns the string that a value stands for."""
    below = "\n".join(line.strip(_BLANK) for line in value.below)
    if _BLOCK.fullmatch(value.first):
        return below.strip() if value.first[0] == "|" else _folded(below.strip())
    whole = f"{value.first.strip(_BLANK)}\n{below}".strip(_BLANK + "\n")
    if whole.startswith(("&", "*", "!")):
        raise ValueError(f"line {value.line}: anchors, aliases and tags are not read: write the text in quotes")
    if whole.startswith(('"', "'")):
        found = (_DOUBLE if whole[0] == '"' else _SINGLE).fullmatch(whole)
        if not found:
            raise ValueError(f"line {value.line}: the text has no closing quote, or goes on after it")
        return _unescaped(found[1], value.line) if whole[0] == '"' else _folded(found[1].replace("''", "'"))
    return _folded("\n".join(_COMMENT.sub("", line).rstrip(_BLANK) for line in whole.split("\n")).strip("\n"))


def _folded(text: str) -> str:
    """Returns stripped lines as one: a line break is a space, an empty line a line break."""
    return re.sub(r"\n+", _fold, text)


def _fold(breaks: re.Match[str]) -> str:
    return "\n" * (len(breaks[0]) - 1) or " "


def _unescaped(text: str, line: int) -> str:
    """Returns what stands between double quotes, with lines folded and escapes resolved."""

    def resolve(found: re.Match[str]) -> str:
        if found[0][0] == "\n":
            return _fold(found)
        if found[4] is None:
            return chr(int(found[1] or found[2] or found[3], 16))
        return _ESCAPED[found[4]]

    try:
        text = _ESCAPE.sub(resolve, text)
    except (KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"line {line}: an escape that YAML does not have ({error})") from None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _tells(line: str) -> bool:
    """Whether a line is neither empty nor a comment."""
    return line.strip(_BLANK) != "" and not line.lstrip(_BLANK).startswith("#")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(_BLANK))
