"""The menu of actions: in which order they are shown, and which of them a typed line means."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from rich.columns import Columns
from rich.console import Console
from rich.text import Text

from d2skill.play.terminal import plain, say

_BLOCK = 5


def meanings(typed: str, menu: Sequence[str]) -> list[str]:
    """Returns the actions that a text can mean: the one it spells, its number in the menu, or those it abbreviates.

    Abbreviated words are beginnings, some may be left out, but not the first: "g fr" can mean "go to fridge 1".
    """
    words = typed.casefold().split()
    numbered = {str(number): action for number, action in enumerate(menu, start=1)}
    spelt = [action for action in menu if action == typed] or [a for a in menu if a.casefold().split() == words]
    if spelt or typed in numbered:
        return spelt[:1] or [numbered[typed]]
    return [action for action in menu if _abbreviates(words, action.casefold().split())]


def _abbreviates(short: Sequence[str], words: Sequence[str]) -> bool:
    """Tells whether words stand, in order and shortened, for others; a number stands for itself only."""
    if not short or not words or not words[0].startswith(short[0]):
        return False
    rest = iter(words[1:])
    return all(any(w == s if s.isdecimal() else w.startswith(s) for w in rest) for s in short[1:])


def blocks(actions: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the actions in blocks for display: all that are few of their first word, then each verb with many."""
    verbs: dict[str, list[str]] = {}
    for action in actions:
        verbs.setdefault(action.partition(" ")[0], []).append(action)
    few = tuple(action for group in verbs.values() if len(group) < _BLOCK for action in group)
    return [block for block in (few, *(tuple(g) for g in verbs.values() if len(g) >= _BLOCK)) if block]


def print_menu(console: Console, actions: Sequence[str]) -> None:
    """Prints the numbered actions in columns; what all of a block begin with stands above it once."""
    number = 1
    for block in blocks(actions):
        shared = _shared_words(block) if len(block) > 1 else ""
        console.print()
        if shared:
            say(console, shared.strip(), style="cyan")
        cells = []
        for action in block:
            label = action.removeprefix(shared).strip() or action
            cells.append(Text.assemble((f"{number:>3} ", "dim"), plain(label), style="cyan"))
            number += 1
        console.print(Columns(cells, padding=(0, 2), equal=True, column_first=True))
    console.print()


def _shared_words(block: Sequence[str]) -> str:
    """Returns the words that all actions begin with, and the space after them; a number keeps the word before it."""
    split = [action.split(" ") for action in block]
    shared = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, zip(*split, strict=False))]
    if "".join(split[0][len(shared) :]).isdecimal():
        shared.pop()
    return "".join(f"{word} " for word in shared)
