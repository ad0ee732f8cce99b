"""The menu of actions: in which order they are shown, and which of them a typed line means.

An action in brackets, such as `click[next >]`, goes by what stands in them too: `next` means it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from d2skill.play.terminal import plain, say

_BLOCK = 5
_GAP = 2
_NUMBER = 3
_BRACKETED = re.compile(r"(\w+)\[(.*\S.*)\]")


def meanings(typed: str, menu: Sequence[str], forms: Sequence[str] = ()) -> list[str]:
    """Returns the actions that a text can mean.

    That is the one it spells, its number in the menu, a form that it fills in ("search red shoes" for search[...]), or
    those that it abbreviates: abbreviated words are beginnings, some may be left out, but not the first, so that "g fr"
    can mean "go to fridge 1".
    """
    words = typed.casefold().split()
    spelt = [action for action in menu if action == typed] or [a for a in menu if a.casefold().split() == words]
    if spelt:
        return spelt[:1]
    named = [action for action in menu if _parts(typed) in _readings(action)]
    numbered = {str(number): action for number, action in enumerate(menu, start=1)}
    if typed in numbered:
        return list(dict.fromkeys([numbered[typed], *named]))
    filled = [action for form in forms if (action := _filled(form, typed))]
    return named or filled or [action for action in menu if _abbreviates(typed, action)]


def name(action: str) -> str:
    """Returns what stands in an action's brackets, the whole action if it has none."""
    found = _BRACKETED.fullmatch(action)
    return found[2].strip() if found else action


def _parts(text: str) -> list[str]:
    return re.sub(r"[\[\]]", " ", text.casefold()).split()


def _readings(action: str) -> list[list[str]]:
    """Returns the words of an action, and those of its name alone if that is another text."""
    if name(action) == action:
        return [action.casefold().split()]
    return [_parts(action), _parts(name(action))]


def _filled(form: str, typed: str) -> str:
    """Returns a form such as search[...] with the text that is typed after its name, "" if it is not meant."""
    verb, bracket, _ = form.partition("[...]")
    rest = typed[len(verb) :]
    if not bracket or typed[: len(verb)].casefold() != verb.casefold() or rest[:1] not in (" ", "["):
        return ""
    text = rest[1:-1] if rest[0] == "[" and rest[-1] == "]" else rest.strip(" []")
    return f"{verb}[{text}]" if text.strip() else ""


def _abbreviates(typed: str, action: str) -> bool:
    """Tells whether a text stands, word for word and shortened, for an action."""
    readings = _readings(action)
    if len(readings) == 1:
        return _shortens(typed.casefold().split(), readings[0])
    # Among names in brackets are signs that nobody types: "prev" is to mean click[< prev].
    return any(_shortens(_spoken(_parts(typed)), _spoken(reading)) for reading in readings)


def _spoken(words: Iterable[str]) -> list[str]:
    return [word for word in words if any(map(str.isalnum, word))]


def _shortens(short: Sequence[str], words: Sequence[str]) -> bool:
    """Tells whether words stand, in order and shortened, for others; a number stands for itself only."""
    if not short or not words or not _begins(words[0], short[0]):
        return False
    rest = iter(words[1:])
    return all(any(_begins(word, beginning) for word in rest) for beginning in short[1:])


def _begins(word: str, beginning: str) -> bool:
    return word == beginning if beginning.isdecimal() else word.startswith(beginning)


def blocks(actions: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the actions in blocks for display: all that are few of their first word, then each verb with many."""
    verbs: dict[str, list[str]] = {}
    for action in actions:
        verbs.setdefault(_verb(action), []).append(action)
    few = tuple(action for group in verbs.values() if len(group) < _BLOCK for action in group)
    return [block for block in (few, *(tuple(g) for g in verbs.values() if len(g) >= _BLOCK)) if block]


def _verb(action: str) -> str:
    """Returns an action's first word, with its bracket if it has one."""
    found = _BRACKETED.fullmatch(action)
    return f"{found[1]}[" if found else action.partition(" ")[0]


def print_menu(console: Console, actions: Sequence[str], told: Mapping[str, str] | None = None) -> None:
    """Prints the numbered actions, in columns if they are short; what all of a block have stands above it once.

    `told` has what is to be said beside some of the actions.
    """
    number = 1
    for block in blocks(actions):
        heading, labels = _factored(block)
        console.print()
        if heading:
            say(console, heading, style="cyan")
        cells = [(f"{n:>{_NUMBER}}", plain(label)) for n, label in enumerate(labels, start=number)]
        beside = [plain(told.get(action, "")) if told else "" for action in block]
        widest = max(cell_len(f"{n} {label}") for n, label in cells)
        if any(beside) or 2 * widest + _GAP > console.width:
            console.print(_lines(cells, beside))
        else:
            texts = [Text.assemble((f"{n} ", "dim"), label, style="cyan") for n, label in cells]
            console.print(Columns(texts, padding=(0, _GAP), equal=True, column_first=True))
        number += len(block)
    console.print()


def _lines(cells: Iterable[tuple[str, str]], beside: Iterable[str]) -> Table:
    """Returns numbered labels, each on a line of its own; what does not fit goes on below itself."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim cyan", no_wrap=True, min_width=_NUMBER)
    table.add_column(style="cyan", overflow="fold")
    table.add_column(overflow="fold")
    for (number, label), more in zip(cells, beside, strict=True):
        table.add_row(*map(Text, (number, label, more)))
    return table


def _factored(block: Sequence[str]) -> tuple[str, list[str]]:
    """Returns what all actions of a block have, "" if that is nothing, and what is left of each."""
    if len(block) == 1:
        return "", list(block)
    verbs = {_verb(action) for action in block}
    if len(verbs) == 1 and name(block[0]) != block[0]:
        return f"{verbs.pop()}...]", [name(action) for action in block]
    shared = _shared_words(block)
    return shared.strip(), [action.removeprefix(shared).strip() or action for action in block]


def _shared_words(block: Sequence[str]) -> str:
    """Returns the words that all actions begin with, and the space after them; a number keeps the word before it."""
    split = [action.split(" ") for action in block]
    shared = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, zip(*split, strict=False))]
    if "".join(split[0][len(shared) :]).isdecimal():
        shared.pop()
    return "".join(f"{word} " for word in shared)
