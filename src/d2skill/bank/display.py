"""Display of a bank in a line, as a table in a terminal, and as HTML in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2skill.bank.bank import SkillBank

_ROWS = 10
_COLUMNS = ("id", "title", "utility", "shown", "for", "against")


def line(bank: SkillBank) -> str:
    """Returns a bank in one line: where it is, its numbers of skills, and its iteration."""
    counts = bank.counts()
    other = {status: len(bank.skills(status=status)) for status in ("trial", "held")}
    more = "".join(f", {number} {status}" for status, number in other.items() if number)
    place = bank.path or "in memory"
    return f"<SkillBank {place}: {counts['task']} task, {counts['step']} step{more}; iteration {bank.iteration}>"


def table(bank: SkillBank) -> Any:
    """Returns the table of a bank for rich: its most valued skills."""
    from rich.table import Table
    from rich.text import Text

    made = Table(*_COLUMNS, title=Text(line(bank)), title_justify="left")
    for row in _rows(bank):
        made.add_row(*map(Text, row))
    return made


def html(bank: SkillBank) -> str:
    """Returns the same table as HTML."""
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in _rows(bank))
    return f"<p>{escape(line(bank))}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _rows(bank: SkillBank) -> list[tuple[str, ...]]:
    skills = sorted(bank.skills(), key=lambda skill: (-skill.supports, -skill.utility, skill.id))[:_ROWS]
    return [
        (one.id, one.text.title, f"{one.utility:+.2f}", *map(str, (one.retrievals, one.supports, one.refutes)))
        for one in skills
    ]
