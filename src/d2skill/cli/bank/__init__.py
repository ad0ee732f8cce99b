"""The commands `d2skill bank ...`: they show the skills of a bank and their history, and change it by hand."""

from d2skill.cli.bank.blame import bank_blame
from d2skill.cli.bank.diff import bank_diff
from d2skill.cli.bank.edit import bank_admit, bank_hold, bank_merge, bank_note, bank_undo
from d2skill.cli.bank.import_export import bank_export, bank_import, bank_salvage
from d2skill.cli.bank.list import bank_list, bank_search, bank_stats
from d2skill.cli.bank.open import read
from d2skill.cli.bank.show import bank_show
from d2skill.cli.bank.verify import bank_verify

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
