"""Porter's algorithm for stripping English suffixes (1980), in the revision that Lucene has.

Two rules are later than the paper: `-bli` for `-abli`, and `-logi`. Words of one or two UTF-16 units stay as they are.
Whatever is no vowel and no `y` counts as a consonant: digits, signs and letters of other alphabets.
"""

from __future__ import annotations

_DERIVED = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble", "logi": "log",
}  # fmt: skip
_FORMED = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_LAST = set("al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize".split())


def stem(word: str) -> str:
    """Returns the stem of a word in small letters."""
    if len(word) + sum(char > "\uffff" for char in word) <= 2:
        return word
    word = _without_y(_without_past(_without_plural(word)))
    word = _replaced(_replaced(word, _DERIVED), _FORMED)
    ending = _ending(word, _LAST)
    rest = word.removesuffix(ending)
    if ending and (ending != "ion" or rest.endswith(("s", "t"))) and _measure(rest) > 1:
        word = rest
    return _tidied(word)


def _without_plural(word: str) -> str:
    """Step 1a."""
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and word[-2] != "s" else word


def _without_past(word: str) -> str:
    """Step 1b: takes off `-ed` and `-ing`, and mends what remains."""
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    rest = word.removesuffix("ed") if word.endswith("ed") else word.removesuffix("ing")
    if rest == word or "v" not in _form(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if _doubled(rest):
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _short(rest) else rest


def _without_y(word: str) -> str:
    """Step 1c."""
    return word[:-1] + "i" if word.endswith("y") and "v" in _form(word[:-1]) else word


def _replaced(word: str, endings: dict[str, str]) -> str:
    """Steps 2 and 3: puts another ending in the place of the longest that fits."""
    ending = _ending(word, endings)
    rest = word.removesuffix(ending)
    return rest + endings[ending] if ending and _measure(rest) > 0 else word


def _tidied(word: str) -> str:
    """Step 5: takes off a last `-e` and one of two `l`."""
    measure = _measure(word)
    if word.endswith("e") and (measure > 1 or (measure == 1 and not _short(word[:-1]))):
        word = word[:-1]
    return word[:-1] if word.endswith("ll") and measure > 1 else word


def _ending(word: str, endings: dict[str, str] | set[str]) -> str:
    """The longest of some endings that a word has; empty if it has none."""
    return next((word[-size:] for size in range(min(7, len(word)), 1, -1) if word[-size:] in endings), "")


def _form(word: str) -> str:
    """The word with `v` for vowels and `c` for consonants; a `y` is a vowel behind a consonant."""
    form = ""
    for char in word:
        form += "v" if char in "aeiou" or (char == "y" and form.endswith("c")) else "c"
    return form


def _measure(word: str) -> int:
    """How often consonants follow vowels: the m of the paper."""
    return _form(word).count("vc")


def _doubled(word: str) -> bool:
    """Whether a word ends with the same consonant twice."""
    return len(word) > 1 and word[-1] == word[-2] and _form(word)[-1] == "c"


def _short(word: str) -> bool:
    """Whether a word ends consonant, vowel, consonant, the last one none of w, x, y."""
    return _form(word)[-3:] == "cvc" and word[-1] not in "wxy"
