"""Cuts text into words as Lucene 8's StandardTokenizer does: the word boundaries of UAX #29, emoji sequences as words.

What is plain ASCII is cut by one pattern over the text. Elsewhere each character is replaced by a letter for its kind
(`word_break.txt`), and the rules are patterns over those letters; of the rules that match, the longest match wins:

    L H l   letters: any, Hebrew, such that are emoji too (ℹ)       e       what extends the character before it
    N       digits                                                  Z       the zero-width joiner
    K       Katakana, which stays together                          F f     asks for an emoji, for a text picture
    I       Han and Hiragana, each a word                           C       a key cap
    S s     South-East Asian scripts, kept together; s extends      T t     letters and end of a tag
    _       what joins letters, digits and Katakana                 p B M   emoji; bases of a skin tone; skin tones
    : . '   joins two letters, if it stands between them            R       regional indicators, two of them a flag
    , . '   joins two digits, if it stands between them             #       bases of a key cap other than digits
    Q       joins two Hebrew letters, if it stands between them

Lucene departs from UAX #29 where this does: a Hebrew letter that a sign has joined takes no further quotation mark,
what would join letters behind such a mark does not, and no word is longer than 255 UTF-16 units.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache, lru_cache
from importlib.resources import files

LONGEST = 255
"""UTF-16 units that a word has at most: what is longer is cut there, and the rest is a word of its own."""

_ASCII = re.compile(r"(?:(?<!_)_++)?+(?:(?:[A-Za-z]++(?:[:.'][A-Za-z]++)*+|[0-9]++(?:[,.';][0-9]++)*+)++_*+)++")
_VAIN = re.compile("_++|Z++")  # what a word may start with any number of: where none does, only the last may start one
_PIECE = re.compile(r"(?<![\x21-\x7f])[\x21-\x7f]*+[^\x00-\x7f][^\x00-\x20]*+")  # other characters, and what is beside
_KNOWN = 1 << 14  # pieces of text with other characters that are remembered


def tokens(text: str) -> list[str]:
    """Returns the words of a text in their order; spaces, punctuation and control characters are none."""
    if text.isascii():
        return _plain(text)
    found = []
    done = 0
    for piece in _PIECE.finditer(text):
        found += _plain(text[done : piece.start()])
        found += _remembered(piece[0]) if len(piece[0]) <= LONGEST else _exact(piece[0])
        done = piece.end()
    return found + _plain(text[done:])


def _plain(text: str) -> list[str]:
    """The words of ASCII text."""
    found = _ASCII.findall(text)
    if len(text) > LONGEST and max(map(len, found), default=0) > LONGEST:
        return [part for token in found for part in (_exact(token) if len(token) > LONGEST else (token,))]
    return found


def _exact(text: str) -> tuple[str, ...]:
    """The words of any text, by its characters' kinds."""
    kinds = text.translate(_kinds())
    rules = _rules()
    found = []
    start = 0
    while start < len(kinds):
        end = _end(kinds, start, start + LONGEST, rules)
        if end - start > LONGEST // 2:
            end = _end(kinds, start, _limit(text, start, end), rules)
        if end > start:
            found.append(text[start:end])
            start = end
        elif run := _VAIN.match(kinds, start):
            start = max(start + 1, run.end() - LONGEST)
        else:
            start += 1
    return tuple(found)


_remembered = lru_cache(_KNOWN)(_exact)


def _end(kinds: str, start: int, limit: int, rules: dict[str, tuple[re.Pattern[str], ...]]) -> int:
    """Where the longest word that starts at `start` ends, before `limit`; `start` if there is none."""
    matches = [rule.match(kinds, start, limit) for rule in rules.get(kinds[start], ())]
    return max((match.end() for match in matches if match), default=start)


def _limit(text: str, start: int, end: int) -> int:
    """How far a word reaches, of the text up to `end`, before its UTF-16 units are too many."""
    units = 0
    for at in range(start, end):
        units += 2 if text[at] > "\uffff" else 1
        if units > LONGEST:
            return at
    return end


@cache
def _rules() -> dict[str, tuple[re.Pattern[str], ...]]:
    """The rules that may match a word, by the kind of its first character."""
    letters = "[H][']|[H][Q][H]|[LHl](?:[:.'][LHl])*+"
    digits = "[N](?:[,.'][N])*+"
    run = f"(?:[K]++|(?:{letters}|{digits})++)"
    word = _rule(f"[_]*+{run}(?:[_]++{run})*+[_]*+")
    picture = "B%(?:M%|F)?|(?:p|l)%F?"
    emoji = _rule(f"(?:Z*+(?:{picture})|M%)(?:(?<=F)T++t|(?:(?:(?<=Z)|Z(?=M)|Z++(?=B|p|l))(?:{picture}|M%))*+)")
    asian, flag, single = _rule("[Ss]++"), _rule("[R][R]"), _rule("[I]")
    key = _rule("#(?:%FC%|(?=(?:e|Z|T|t|s)*+C)%)")
    rules = dict.fromkeys("_KNLH", (word,)) | dict.fromkeys("pBMZ", (emoji,))
    return rules | {"l": (word, emoji), "S": (asian,), "s": (asian,), "R": (flag,), "I": (single,), "#": (key,)}


def _rule(text: str) -> re.Pattern[str]:
    """A pattern over kinds, where `[...]` is a character with all that extends it, and `%` extensions of an emoji.

    What chooses a picture extends words, but is a part of its own in an emoji.
    """
    text = re.sub(r"\[[^]]+\]", lambda kinds: f"(?:{kinds[0]}[eZFfCTts]*+)", text)
    return re.compile(text.replace("%", "[eZCTts]*+"))


class _Kinds(dict[int, str]):
    """The kind of a character, by its code point; those that were met are kept."""

    def __init__(self) -> None:
        super().__init__()
        ranges = []
        table = files("d2skill.envs.text_search") / "word_break.txt"
        for line in table.read_text(encoding="utf-8").splitlines()[2:]:
            kind, *parts = line.split()
            for part in parts:
                first, _, last = part.partition("-")
                ranges.append((int(first, 16), int(last or first, 16), kind))
        self.ranges = sorted(ranges)
        self.firsts = [first for first, _, _ in self.ranges]

    def __missing__(self, code: int) -> str:
        """`-` is what belongs to no word."""
        first, last, kind = self.ranges[bisect_right(self.firsts, code) - 1]
        self[code] = kind if first <= code <= last else "-"
        return self[code]


_kinds = cache(_Kinds)
