"""Menu of admissible actions: its order and layout, and the actions that a typed line can mean.

An action in brackets, such as `click[next >]`, can be typed by its label, `next >`.
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

from d2skill.play.terminal import print_text
from d2skill.utils.foreign_text import visible

_GROUP_SIZE = 5
_GAP = 2
_NUMBER_WIDTH = 3
_BRACKETED = re.compile(r"(\w+)\[(.*\S.*)\]")


def matching_actions(typed: str, actions: Sequence[str], forms: Sequence[str] = ()) -> list[str]:
    """Returns the actions that a typed text can mean.

    That is the action it spells, the one of its number or label, a form that it fills in ("search red shoes" for
    search[...]), or the actions that it abbreviates: abbreviated words are beginnings, some may be left out, but not
    the first, so that "g fr" can mean "go to fridge 1".
    """
    words = typed.casefold().split()
    spelt = [action for action in actions if action == typed] or [a for a in actions if a.casefold().split() == words]
    if spelt:
        return spelt[:1]
    labelled = [action for action in actions if _split_words(typed) in _readings(action)]
    numbered = {str(number): action for number, action in enumerate(actions, start=1)}
    if typed in numbered:
        return list(dict.fromkeys([numbered[typed], *labelled]))
    filled = [action for form in forms if (action := _fill_form(form, typed))]
    return labelled or filled or [action for action in actions if _is_abbreviation(typed, action)]


def label_of(action: str) -> str:
    """Returns the text in an action's brackets, or the whole action if it has none."""
    match = _BRACKETED.fullmatch(action)
    return match[2].strip() if match else action


def _split_words(text: str) -> list[str]:
    return re.sub(r"[\[\]]", " ", text.casefold()).split()


def _readings(action: str) -> list[list[str]]:
    """Returns the words of an action and, if it has a label, those of the label alone."""
    if label_of(action) == action:
        return [action.casefold().split()]
    return [_split_words(action), _split_words(label_of(action))]


def _fill_form(form: str, typed: str) -> str:
    """Returns a form such as search[...] filled with the text typed after its verb, "" if the text does not match."""
    verb, bracket, _ = form.partition("[...]")
    rest = typed[len(verb) :]
    if not bracket or typed[: len(verb)].casefold() != verb.casefold() or rest[:1] not in (" ", "["):
        return ""
    text = rest[1:-1] if rest[0] == "[" and rest[-1] == "]" else rest.strip(" []")
    return f"{verb}[{text}]" if text.strip() else ""


def _is_abbreviation(typed: str, action: str) -> bool:
    """Returns True if a text abbreviates an action, word for word."""
    readings = _readings(action)
    if len(readings) == 1:
        return _abbreviates(typed.casefold().split(), readings[0])
    # Labels contain signs that nobody types: "prev" has to match click[< prev].
    return any(_abbreviates(_words_only(_split_words(typed)), _words_only(reading)) for reading in readings)


def _words_only(words: Iterable[str]) -> list[str]:
    return [word for word in words if any(map(str.isalnum, word))]


def _abbreviates(short: Sequence[str], words: Sequence[str]) -> bool:
    """Returns True if the short words are beginnings of words, in order and from the first; numbers must be equal."""

    def begins(word: str, beginning: str) -> bool:
        return word == beginning if beginning.isdecimal() else word.startswith(beginning)

    if not short or not words or not begins(words[0], short[0]):
        return False
    rest = iter(words[1:])
    return all(any(begins(word, beginning) for word in rest) for beginning in short[1:])


def group_actions(actions: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the actions in groups for display: each verb with many actions is a group, the first has all others."""
    verbs: dict[str, list[str]] = {}
    for action in actions:
        verbs.setdefault(_verb(action), []).append(action)
    rest = tuple(action for group in verbs.values() if len(group) < _GROUP_SIZE for action in group)
    return [group for group in (rest, *(tuple(g) for g in verbs.values() if len(g) >= _GROUP_SIZE)) if group]


def _verb(action: str) -> str:
    """Returns an action's first word, with its bracket if it has one."""
    match = _BRACKETED.fullmatch(action)
    return f"{match[1]}[" if match else action.partition(" ")[0]


def print_menu(console: Console, actions: Sequence[str], notes: Mapping[str, str] | None = None) -> None:
    """Prints the numbered actions in groups, in columns if they are short; words that a group shares are its heading.

    `notes` are texts to print beside some of the actions.
    """
    number = 1
    for group in group_actions(actions):
        heading, labels = _heading_and_labels(group)
        console.print()
        if heading:
            print_text(console, heading, style="cyan")
        cells = [(f"{n:>{_NUMBER_WIDTH}}", visible(label)) for n, label in enumerate(labels, start=number)]
        beside = [visible(notes.get(action, "")) if notes else "" for action in group]
        widest = max(cell_len(f"{n} {label}") for n, label in cells)
        if any(beside) or 2 * widest + _GAP > console.width:
            table = Table.grid(padding=(0, 1))
            table.add_column(style="dim cyan", no_wrap=True, min_width=_NUMBER_WIDTH)
            table.add_column(style="cyan", overflow="fold")
            table.add_column(overflow="fold")
            for cell, note in zip(cells, beside, strict=True):
                table.add_row(*map(Text, (*cell, note)))
            console.print(table)
        else:
            texts = [Text.assemble((f"{n} ", "dim"), label, style="cyan") for n, label in cells]
            console.print(Columns(texts, padding=(0, _GAP), equal=True, column_first=True))
        number += len(group)
    console.print()


def _heading_and_labels(group: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the words that all actions of a group share, "" for none, and the rest of each action."""
    if len(group) == 1:
        return "", list(group)
    verbs = {_verb(action) for action in group}
    if len(verbs) == 1 and label_of(group[0]) != group[0]:
        return f"{verbs.pop()}...]", [label_of(action) for action in group]
    words = [action.split(" ") for action in group]
    shared = [same[0] for same in takewhile(lambda same: len(set(same)) == 1, zip(*words, strict=False))]
    if "".join(words[0][len(shared) :]).isdecimal():
        shared.pop()  # a number keeps the word before it
    prefix = "".join(f"{word} " for word in shared)
    return prefix.strip(), [action.removeprefix(prefix).strip() or action for action in group]
