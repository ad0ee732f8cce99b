"""Language filter: recognises a text in a foreign language by its letters and its most frequent words.

It errs on one side only: a text is foreign if its words are clearly of a language that is neither English, in which the
reflector is asked, nor a language of the texts that the reflector was shown. Names, lists of things and short texts
have no clear language and are never foreign. Languages that resources/languages.toml lacks are recognised by their
script alone.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from importlib import resources

_MIN_FOREIGN = 3  # different words of another language that make a text foreign
_MARGIN = 2  # times as many words of that language as words of a known one
_MIN_SHOWN = 2  # words that a shown text has beyond those of a language in which it is not
_MIN_SHARE_SHOWN = 0.1  # share of its words that those are at least
_MINOR = 4  # a text is in a language that has one word of its own for this many of the main language
_MIN_SCRIPT_SHARE = 0.05  # share of letters from which on a text is in a script

_ENGLISH = "en"
_WORD = re.compile(r"[^\W\d_]+")
_BEGINNING = re.compile(r"(?:\A|[.!?:;。\n])\W*\Z")
_PLAIN_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzабвгдежзийклмнопрстуфхцчшщъыьэюяё")


@lru_cache(maxsize=1)
def _lexicon() -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    """Returns the frequent words and the accented letters of each language."""
    text = (resources.files("d2skill.reflectors") / "resources" / "languages.toml").read_text("utf-8")
    tables = tomllib.loads(text)
    words = {language: frozenset(listed.split()) for language, listed in tables["words"].items()}
    return words, {language: frozenset(letters) for language, letters in tables["accents"].items()}


def is_foreign(text: str, *shown: str) -> bool:
    """Returns True if a text is clearly in a language that is neither English nor one of the texts shown.

    A text is in another script if most of its letters are, and in another language if its frequent words are. Words
    that a shown text has as well do not count. If no shown text has a clear language, only the script is compared.
    """
    letters = [letter for letter in text if letter.isalpha()]
    scripts = {script for one in shown for script in _scripts(one)}
    if not scripts:
        return False
    if sum(_script(letter) not in scripts | {"LATIN"} for letter in letters) > len(letters) / 2:
        return True
    clear = [languages for one in shown if len(languages := _possible_languages(one)) < len(_lexicon()[0])]
    shown_words = {word for one in shown for word in _words(one)}
    return bool(clear) and _has_foreign_words(text, {_ENGLISH}.union(*clear), shown_words)


def _has_foreign_words(text: str, known: Collection[str], shown_words: Collection[str]) -> bool:
    """Returns True if the words of a text are clearly of a language that is not among the known ones."""
    frequent, _ = _lexicon()
    languages, candidates = [_languages(word) for word in _words(text)], _words_but_names(text)
    if len(candidates) < len(languages) / 2:
        return False  # mostly names
    strange = [word for word in candidates if word not in shown_words and _languages(word).isdisjoint(known)]
    for language in frequent.keys() - known:
        speaking = [word for word in strange if language in _languages(word)]
        against = sum(language not in of_word and not of_word.isdisjoint(known) for of_word in languages)
        has_frequent = frequent[language].intersection(speaking)
        if has_frequent and len(set(speaking)) >= _MIN_FOREIGN and len(speaking) > _MARGIN * against:
            return True
    return False


def _possible_languages(text: str) -> frozenset[str]:
    """Returns the languages that a text may be in: all of them if it is not clearly in any."""
    frequent, _ = _lexicon()
    words = [_languages(word) for word in _words(text)]
    counts = Counter(language for of_word in words for language in of_word)
    main = max(frequent, key=lambda language: counts[language])
    shared = Counter(language for of_word in words if main in of_word for language in of_word)
    return frozenset(
        language
        for language in frequent
        if counts[main] - shared[language]
        < max(_MIN_SHOWN, _MIN_SHARE_SHOWN * len(words), _MINOR * (counts[language] - shared[language]))
    )


@lru_cache(maxsize=65536)
def _languages(word: str) -> frozenset[str]:
    """Returns the languages that have a word among their frequent ones, or all of its accented letters."""
    (frequent, accents), beyond = _lexicon(), set(word) - _PLAIN_LETTERS
    accented = (language for language, letters in accents.items() if beyond and beyond <= letters)
    return frozenset(language for language, words in frequent.items() if word in words).union(accented)


def _words_but_names(text: str) -> list[str]:
    """Returns the words without those that may be names: with a capital, except at the beginning of a sentence."""
    return [
        _lower(match[0])
        for match in _WORD.finditer(text)
        if not _is_letter(match[0])
        and (match[0].islower() or _BEGINNING.search(text, max(0, match.start() - 5), match.start()))
    ]


def _words(text: str) -> list[str]:
    return [_lower(word) for word in _WORD.findall(text) if not _is_letter(word)]


def _is_letter(word: str) -> bool:
    """Returns True for a single ASCII letter: a size, an option, or a word of many languages."""
    return len(word) == 1 and word.isascii()


def _lower(word: str) -> str:
    return word.replace("İ", "i").lower()


def _scripts(text: str) -> set[str]:
    """Returns the scripts of a text that more than a few of its letters are in."""
    counts = Counter(_script(letter) for letter in text if letter.isalpha())
    return {script for script, count in counts.items() if count >= _MIN_SCRIPT_SHARE * counts.total()}


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
