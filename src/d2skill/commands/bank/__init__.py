"""The commands about banks: what stands in one, why, how that changed, and what is done to it by hand."""

from d2skill.commands.bank.audit import bank_verify
from d2skill.commands.bank.blame import bank_blame
from d2skill.commands.bank.compare import bank_diff
from d2skill.commands.bank.files import bank_export, bank_import, bank_salvage
from d2skill.commands.bank.lists import bank_list, bank_search, bank_stats
from d2skill.commands.bank.reading import read
from d2skill.commands.bank.show import bank_show
from d2skill.commands.bank.statuses import bank_admit, bank_hold, bank_merge
from d2skill.commands.bank.upkeep import bank_note, bank_undo

__all__ = [
    "bank_admit",
    "bank_blame",
    "bank_diff",
    "bank_export",
    "bank_hold",
    "bank_import",
    "bank_list",
    "bank_merge",
    "bank_note",
    "bank_salvage",
    "bank_search",
    "bank_show",
    "bank_stats",
    "bank_undo",
    "bank_verify",
    "read",
]
