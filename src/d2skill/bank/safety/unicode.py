"""Removal of invisible characters, and mapping of accented and look-alike letters (homoglyphs) to Latin ones."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_MOST_MARKS = 3  # combining marks on one letter; pointed Hebrew and Vietnamese need no more
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control; zero-width, bidirectional, tags; surrogates; private; unassigned
_BLANK = {*"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\ufffc"}  # fillers that are called letters
_BLANK |= {chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))}  # variation selectors
_LOOKALIKES = {
    fake: plain
    for fakes, plains in (
        ("АВЕЅІЈКМНОРСТУХаеіјорсѕухһԁԛԝткмп", "ABESIJKMHOPCTYXaeijopcsyxhdqwtkmn"),  # Cyrillic
        ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοινραυετκηıɡɑ", "ABEZHIKMNOPTYXoivpauetkniga"),  # Greek, Latin
        ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘǫʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz"),
        ("‹›〈〉⟨⟩❮❯❬❭ᐸᐳ≺≻│∣ǀ❘┃꞉∶ː▁【】〔〕⁄∕", "<><><><><><><>|||||:::_[][]//"),
    )
    for fake, plain in zip(fakes, plains, strict=True)
}


def visible(text: str) -> str:
    """Returns the text as NFKC without invisible characters and with few combining marks on a letter."""
    if text.isascii() and text.isprintable():
        return text
    kept, room = [], 0
    for character in unicodedata.normalize("NFKC", text):
        kind = unicodedata.category(character)
        if character.isspace():
            room = 0
        elif kind in _INVISIBLE or character in _BLANK:
            continue
        elif kind in ("Mn", "Me"):
            room -= 1
            if room < 0:
                continue
        else:
            room = _MOST_MARKS
        kept.append(character)
    return "".join(kept)


def latin(text: str) -> str:
    """Returns the text with accented and look-alike letters replaced by Latin ones, one for one."""
    return text if text.isascii() else "".join(map(_latin_letter, text))


@lru_cache(maxsize=4096)
def _latin_letter(character: str) -> str:
    return _LOOKALIKES.get(character) or unicodedata.normalize("NFD", character)[0]
