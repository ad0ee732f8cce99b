r"""Characters that show nothing, and accents in heaps: escaped, but where honest text needs them.

All that Unicode calls default ignorable counts as invisible. They stay where they have a use: in emoji, and in scripts
whose letters join or that have no spaces between words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_MOST_ACCENTS = 4
"""Accents in a row, which go on a letter of any script"""
_MOST_MARKS = 8
"""Marks in a row in a script that has its own: Burmese words have five, Tibetan monograms seven"""

_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ACCENTS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u302a-\u302f\ufe20-\ufe2f"
_NO_MARKS = "\x00-\xff\u2010-\u2027\u2030-\u205f\u20a0-\u20cf\u2190-\u2bff\u3000-\u3020\uff00-\uff65"  # usual signs
_FLAGS = "|".join(  # of England, Scotland and Wales: their names are spelled in invisible letters
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in f"{name}\x7f")
    for name in ("gbeng", "gbsct", "gbwls")
)
_SUSPECT = re.compile(
    f"(?P<flag>{_FLAGS})|[{_IGNORABLE}]|[{_ACCENTS}]{{{_MOST_ACCENTS + 1},}}|[^\\w\\s{_NO_MARKS}]{{{_MOST_MARKS + 1},}}"
)
"""Flags, what may have to be escaped, and anything else that may be a row of marks, as marks are no letters"""
_RARE = re.compile(f"[{_IGNORABLE}]|[^\\w\\s{_NO_MARKS}]")
"""A character without which nothing has to be escaped"""

_is_ignorable = re.compile(f"[{_IGNORABLE}]").fullmatch
_is_accent = re.compile(f"[{_ACCENTS}]").fullmatch
_is_emoji = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d"
    "\u3297\u3299\U0001f000-\U0001faff]"
).fullmatch
_is_joining = re.compile(  # letters that join or stack: of Arabic, India, South East Asia, Mongolia and others
    "[\u0620-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1a20-\u1aaf\u1b00-\u1b7f\u1cd0-\u1cff\ua840-\ua87f\ua8e0-\ua8ff"
    "\ua980-\ua9df\uaa60-\uaa7f\uabc0-\uabff\ufb50-\ufdff\ufe70-\ufefc\U00010a00-\U00011fff\U0001e900-\U0001e95f]"
).fullmatch
_is_cursive = re.compile("[\u0620-\u08ff\u1820-\u18aa\ufb50-\ufdff\ufe70-\ufefc]").fullmatch
_is_mongolian = re.compile("[\u1820-\u18aa]").fullmatch
_is_unspaced = re.compile("[\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf]").fullmatch
_VIRAMA = 9  # combining class of the signs that take a letter its vowel


def show_invisible(text: str, escape: Callable[[str], str]) -> str:
    """Returns a text with invisible characters and marks in heaps escaped, unless honest text needs them."""
    if not _RARE.search("".join(set(text))):
        return text

    def shown(found: re.Match[str]) -> str:
        if found["flag"]:
            return found[0]
        pieces, row = [], 0
        for at in range(*found.span()):
            character = text[at]
            row = row + 1 if unicodedata.category(character)[0] == "M" else 0
            most = _MOST_ACCENTS if _is_accent(character) else _MOST_MARKS
            hidden = _is_ignorable(character) and not _has_use(
                text[max(0, at - 2) : at], character, text[at + 1 : at + 2]
            )
            pieces.append(escape(character) if hidden or row > most else character)
        return "".join(pieces)

    return _SUSPECT.sub(shown, text)


def _has_use(before: str, character: str, after: str) -> bool:
    """Returns True if an invisible character has a use between the two before it and the one after it."""
    last = before[-1:]
    if character in "\ufe0e\ufe0f":  # as a picture, or as a sign
        return bool(_is_emoji(last)) or (last in "0123456789#*" and after == "\u20e3")
    if character == "\u200d" and _is_emoji(after):
        return bool(_is_emoji(last)) or (last == "\ufe0f" and bool(_is_emoji(before[:1])))
    if character in "\u200c\u200d":
        cursive = character == "\u200d" and _is_cursive(last)
        return bool(_is_letter(last) and (cursive or unicodedata.combining(last) == _VIRAMA or _is_letter(after)))
    if character == "\u200b":  # between words
        return bool(_is_unspaced(last) or _is_unspaced(after)) and not (_is_ignorable(last) or _is_ignorable(after))
    return "\u180b" <= character <= "\u180f" and bool(_is_mongolian(last))


def _is_letter(character: str) -> bool:
    """Returns True for a letter or mark of a script whose letters join."""
    joins = _is_joining(character) and not _is_ignorable(character)
    return bool(joins) and unicodedata.category(character)[0] in "LM"
