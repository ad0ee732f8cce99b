"""Tokenizer: cuts text into words at the boundaries of UAX #29, with emoji sequences as words, like Lucene 8's.

ASCII text is cut by one pattern. In other text each character is replaced by a letter for its kind (`word_break.txt`),
and the rules are patterns over those letters; of the rules that match, the longest match wins:

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
import sys
from functools import cache, lru_cache
from importlib.resources import files

MAX_TOKEN_LENGTH = 255
"""Most UTF-16 units of a token: a longer word is cut there, and the rest is a token of its own."""

_ASCII = re.compile(r"(?:(?<!_)_++)?+(?:(?:[A-Za-z]++(?:[:.'][A-Za-z]++)*+|[0-9]++(?:[,.';][0-9]++)*+)++_*+)++")
# Characters of which any number may begin a token; of a run that begins none, only the end may still begin one.
_PREFIX_RUN = re.compile("_++|Z++")
_NON_ASCII = re.compile(r"(?<![\x21-\x7f])[\x21-\x7f]*+[^\x00-\x7f][^\x00-\x20]*+")  # and the ASCII beside it
_CACHE = 1 << 14  # pieces of text beyond ASCII whose tokens are remembered


def tokenize(text: str) -> list[str]:
    """Returns the tokens of a text in their order, without spaces, punctuation and control characters."""
    if text.isascii():
        return _tokenize_ascii(text)
    tokens = []
    end = 0
    for piece in _NON_ASCII.finditer(text):
        tokens += _tokenize_ascii(text[end : piece.start()])
        tokens += _cached(piece[0]) if len(piece[0]) <= MAX_TOKEN_LENGTH else _tokenize_by_kinds(piece[0])
        end = piece.end()
    return tokens + _tokenize_ascii(text[end:])


def _tokenize_ascii(text: str) -> list[str]:
    tokens = _ASCII.findall(text)
    limit = MAX_TOKEN_LENGTH
    if len(text) > limit and max(map(len, tokens), default=0) > limit:
        return [part for token in tokens for part in (_tokenize_by_kinds(token) if len(token) > limit else (token,))]
    return tokens


def _tokenize_by_kinds(text: str) -> tuple[str, ...]:
    """Returns the tokens of any text, by the kinds of its characters."""
    kinds = text.translate(_kinds())
    rules = _rules()
    tokens = []
    start = 0
    while start < len(kinds):
        end = _token_end(kinds, start, start + MAX_TOKEN_LENGTH, rules)
        if end - start > MAX_TOKEN_LENGTH // 2:
            end = _token_end(kinds, start, _length_limit(text, start, end), rules)
        if end > start:
            tokens.append(text[start:end])
            start = end
        elif run := _PREFIX_RUN.match(kinds, start):
            start = max(start + 1, run.end() - MAX_TOKEN_LENGTH)
        else:
            start += 1
    return tuple(tokens)


_cached = lru_cache(_CACHE)(_tokenize_by_kinds)


def _token_end(kinds: str, start: int, limit: int, rules: dict[str, tuple[re.Pattern[str], ...]]) -> int:
    """Returns the end of the longest token from `start`, at most `limit`; `start` if there is none."""
    matches = [rule.match(kinds, start, limit) for rule in rules.get(kinds[start], ())]
    return max((match.end() for match in matches if match), default=start)


def _length_limit(text: str, start: int, end: int) -> int:
    """Returns the place up to `end` where a token from `start` has as many UTF-16 units as it may have."""
    units = 0
    for place in range(start, end):
        units += 2 if text[place] > "\uffff" else 1
        if units > MAX_TOKEN_LENGTH:
            return place
    return end


@cache
def _rules() -> dict[str, tuple[re.Pattern[str], ...]]:
    """Returns the rules that may match a token, by the kind of its first character."""
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
    """Compiles a pattern over kinds: `[...]` is a character with all that extends it, `%` the extensions of an emoji.

    The kinds F and f extend words, but are parts of their own in an emoji.
    """
    text = re.sub(r"\[[^]]+\]", lambda kinds: f"(?:{kinds[0]}[eZFfCTts]*+)", text)
    return re.compile(text.replace("%", "[eZCTts]*+"))


@cache
def _kinds() -> str:
    """Returns the kind of each character by code point; `-` belongs to no token."""
    kinds = bytearray(b"-" * (sys.maxunicode + 1))
    table = files("d2skill.envs.text_search") / "word_break.txt"
    for line in table.read_text(encoding="utf-8").splitlines()[2:]:
        kind, *ranges = line.split()
        for part in ranges:
            first, _, last = part.partition("-")
            start, end = int(first, 16), int(last or first, 16) + 1
            kinds[start:end] = kind.encode() * (end - start)
    return kinds.decode()
