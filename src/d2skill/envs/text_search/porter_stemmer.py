"""Porter's stemmer for English (1980), in the revision that Lucene has.

Two rules are later than the paper: `-bli` for `-abli`, and `-logi`. Words of one or two UTF-16 units stay as they are.
Every character but a vowel and `y` counts as a consonant: digits, signs and letters of other alphabets.
"""

from __future__ import annotations

_STEP_2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble", "logi": "log",
}  # fmt: skip
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4 = set("al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize".split())


def stem(word: str) -> str:
    """Returns the stem of a lower-case word."""
    if len(word) + sum(char > "\uffff" for char in word) <= 2:
        return word
    word = _step_1c(_step_1b(_step_1a(word)))
    word = _replace_suffix(_replace_suffix(word, _STEP_2), _STEP_3)
    suffix = _suffix(word, _STEP_4)
    rest = word.removesuffix(suffix)
    if suffix and (suffix != "ion" or rest.endswith(("s", "t"))) and _measure(rest) > 1:
        word = rest
    return _step_5(word)


def _step_1a(word: str) -> str:
    """Removes the plural."""
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and word[-2] != "s" else word


def _step_1b(word: str) -> str:
    """Removes `-ed` and `-ing`, and repairs the rest."""
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    rest = word.removesuffix("ed") if word.endswith("ed") else word.removesuffix("ing")
    if rest == word or "v" not in _pattern(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if len(rest) > 1 and rest[-1] == rest[-2] and _pattern(rest)[-1] == "c":
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _ends_cvc(rest) else rest


def _step_1c(word: str) -> str:
    """Turns a last `-y` into `-i` if there is a vowel before it."""
    return word[:-1] + "i" if word.endswith("y") and "v" in _pattern(word[:-1]) else word


def _replace_suffix(word: str, suffixes: dict[str, str]) -> str:
    """Steps 2 and 3: replaces the longest suffix that fits by another."""
    suffix = _suffix(word, suffixes)
    rest = word.removesuffix(suffix)
    return rest + suffixes[suffix] if suffix and _measure(rest) > 0 else word


def _step_5(word: str) -> str:
    """Removes a last `-e` and one of two `l`."""
    measure = _measure(word)
    if word.endswith("e") and (measure > 1 or (measure == 1 and not _ends_cvc(word[:-1]))):
        word = word[:-1]
    return word[:-1] if word.endswith("ll") and measure > 1 else word


def _suffix(word: str, suffixes: dict[str, str] | set[str]) -> str:
    """Returns the longest of some suffixes that a word has; empty if it has none."""
    return next((word[-size:] for size in range(min(7, len(word)), 1, -1) if word[-size:] in suffixes), "")


def _pattern(word: str) -> str:
    """Returns the word with `v` for vowels and `c` for consonants; a `y` is a vowel after a consonant."""
    pattern = ""
    for char in word:
        pattern += "v" if char in "aeiou" or (char == "y" and pattern.endswith("c")) else "c"
    return pattern


def _measure(word: str) -> int:
    """Returns how often a consonant follows a vowel: the paper's m."""
    return _pattern(word).count("vc")


def _ends_cvc(word: str) -> bool:
    """Returns True if a word ends consonant, vowel, consonant, the last one none of w, x, y."""
    return _pattern(word)[-3:] == "cvc" and word[-1] not in "wxy"
