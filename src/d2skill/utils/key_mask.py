"""Keys of servers, masked in every text that could quote them: whole, in part, and in the usual encodings.

A server or proxy that refuses a key often quotes it, as "Bearer sk-..." or by its first and last characters. The client
of a server masks what it receives (`endpoints.limited_http`); `mask_keys` is the last guard before a terminal or file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

MASK = "[key]"
"""Text that stands where a key, or a part of one, was."""

_SHORTEST = 4  # characters of a key; a shorter one is no secret, and hides half of all texts
_LONGEST_WORD = 11  # letters of a key that may be a word, as in OPENAI_API_KEY=EMPTY: no secret, and part of many texts
_LONGEST_END = 200  # characters of a key's beginning or end, as all of them in one pattern take their square
_RUN = 8  # characters of a key that are masked wherever they are
_LONG_KEY = 12  # characters of a key whose first and last ones are masked without dots beside them
_FILLER = r"\s?(?:[.*•●·#_x-]{2,}|[…*•●])\s?"  # in place of the middle of a key
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}  # keeps the length, unlike str.lower

_WORD = re.compile(r"(?<![a-z0-9])[a-z]+(?![a-z0-9])")

_masks: dict[str, KeyMask] = {}


class KeyMask:
    """Mask of one key."""

    def __init__(self, key: str) -> None:
        from base64 import b64encode  # only where there is a key: each command imports this module
        from urllib.parse import quote

        key = "" if is_word(key := key.strip()) else key
        shifted = (b64encode(b"\0" * shift + key.encode()).decode()[4 if shift else 0 :] for shift in range(3))
        encoded = [form.rstrip("=")[:-1] for form in shifted]  # the last character depends on what follows
        forms = [key, quote(key, safe=""), *(form for form in encoded if len(form) >= _RUN)]
        self._forms = [form.translate(_LOWER) for form in dict.fromkeys(forms) if len(form) >= _SHORTEST]
        self._runs = [_pieces(form, min(len(form), _RUN)) for form in self._forms]
        self._ends = _pattern_of_ends(self._forms[0]) if self._forms else None
        parts = [form[start : start + 4] for form in self._forms for start in range(0, len(form) - 3, 4)]
        parts += [end for form in self._forms[:1] for end in (form[:3], form[-3:])]
        self._parts = list(dict.fromkeys(parts))

    def hide(self, text: str) -> str:
        """Returns a text with `MASK` for each part of it that may be of the key."""
        low = text.translate(_LOWER) if not text.islower() else text
        if not any(part in low for part in self._parts):
            return text
        hidden = bytearray(len(low))
        for runs in self._runs:
            width = len(next(iter(runs)))
            for start in range(len(low) - width + 1):
                if low[start : start + width] in runs:
                    hidden[start : start + width] = b"\1" * width
        for found in self._ends.finditer(low) if self._ends else ():
            hidden[found.start() : found.end()] = b"\1" * len(found[0])
        pieces, end = [], 0
        for run in re.finditer(b"\1+", hidden):
            pieces += [text[end : run.start()], MASK]
            end = run.end()
        return "".join([*pieces, text[end:]])

    def hide_body(self, body: str) -> str:
        """Returns the body of a response with the key masked, in a JSON document also where it is escaped."""
        if "\\u" in body or "\\/" in body:
            import json

            try:
                return json.dumps(_map_texts(json.loads(body), self.hide))
            except (ValueError, RecursionError):
                pass
        return self.hide(body)


def is_word(key: str) -> bool:
    """Returns True for a key that is a word, which servers without keys are often given."""
    return key.isalpha() and len(key) <= _LONGEST_WORD


def mask_of(key: str) -> KeyMask:
    """Returns the mask of a key, which `mask_keys` masks from now on."""
    return _masks.setdefault(key, KeyMask(key))


def mask_keys(text: str) -> str:
    """Returns a text with all keys masked that this process has used."""
    for mask in _masks.values():
        text = mask.hide(text)
    return text


def mask_value(value: Any) -> Any:
    """Returns a value of JSON with all keys masked in its texts."""
    return _map_texts(value, mask_keys) if _masks else value


def mask_error(error: BaseException | None) -> None:
    """Masks all keys in what an exception says, and in those that led to it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        error.args = tuple(_masked(argument) for argument in error.args)
        of_system = ("strerror", "filename", "filename2") if isinstance(error, OSError) else ()
        for name in (*vars(error), *of_system):
            if isinstance(value := getattr(error, name, None), str):
                setattr(error, name, mask_keys(value))
        waiting += [error.__cause__, error.__context__]


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Returns a value of JSON with all its texts changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    if isinstance(value, dict):
        return {_map_texts(name, change): _map_texts(item, change) for name, item in value.items()}
    return value


def _masked(value: Any) -> Any:
    """Returns a text, or the text of bytes, masked; anything else as it is."""
    if isinstance(value, bytes | bytearray):
        value = value.decode("utf-8", "replace")
    return mask_keys(value) if isinstance(value, str) else value


def _pieces(text: str, width: int) -> set[str]:
    """Returns what lies in a text in a row, but for parts of words, as in sk-project-4f7a: paths have them as well."""
    words = _WORD.findall(text)
    pieces = {text[start : start + width] for start in range(len(text) - width + 1)}
    return {piece for piece in pieces if not any(piece in word for word in words)} or pieces


def _pattern_of_ends(key: str) -> re.Pattern[str]:
    """Returns the pattern of a key's first and last characters, beside dots or as a word of their own."""
    longest = min(len(key) - 1, _LONGEST_END)
    word_end = "(?![a-z0-9])"

    def heads(least: int) -> str:
        return "|".join(re.escape(key[:length]) for length in range(longest, least - 1, -1))

    def tails(least: int) -> str:
        return "|".join(re.escape(key[-length:]) for length in range(longest, least - 1, -1))

    patterns = [f"(?:{heads(3)})(?:{_FILLER}(?:{tails(2)}){word_end}|{_FILLER})", f"{_FILLER}(?:{tails(3)}){word_end}"]
    if len(key) >= _LONG_KEY:
        patterns += [f"(?<![a-z0-9])(?:{heads(4)}|{tails(4)}){word_end}"]
    return re.compile("|".join(patterns))
