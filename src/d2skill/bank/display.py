"""Display of a bank in a line, as a table in a terminal, and as HTML in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from d2skill.utils.foreign_text import shown, visible

if TYPE_CHECKING:
    from d2skill.bank.bank import SkillBank

_ROWS = 10
_COLUMNS = ("id", "title", "utility", "shown", "for", "against")


def line(bank: SkillBank) -> str:
    """Returns a bank in one line: where it is, its numbers of skills, and its iteration."""
    counts = bank.counts()
    other = {status: len(bank.skills(status=status)) for status in ("trial", "held")}
    more = "".join(f", {number} {status}" for status, number in other.items() if number)
    place = visible(str(bank.path or "in memory"))
    return f"<SkillBank {place}: {counts['task']} task, {counts['step']} step{more}; iteration {bank.iteration}>"


def flagged(bank: SkillBank) -> dict[str, str]:
    """Returns why skills that are shown look like no advice, by id, unless bank.suspicion is off."""
    from d2skill.bank.safety import flags

    if bank._bank.suspicion == "off":
        return {}
    return flags((*bank.skills(), *bank.skills(status="trial")), bank._state.vouched)


def table(bank: SkillBank) -> Any:
    """Returns the table of a bank for rich: its most valued skills."""
    from rich.table import Table

    made = Table(*_COLUMNS, title=shown(line(bank)), title_justify="left")
    for row in _rows(bank):
        made.add_row(*map(shown, row))
    return made


def html(bank: SkillBank) -> str:
    """Returns the same table as HTML."""
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    cells = ([f"<td>{escape(visible(cell))}</td>" for cell in row] for row in _rows(bank))
    rows = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f"<p>{escape(line(bank))}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _rows(bank: SkillBank) -> list[tuple[str, ...]]:
    skills = sorted(bank.skills(), key=lambda skill: (-skill.supports, -skill.utility, skill.id))[:_ROWS]
    return [
        (one.id, one.text.title, f"{one.utility:+.2f}", *map(str, (one.retrievals, one.supports, one.refutes)))
        for one in skills
    ]
