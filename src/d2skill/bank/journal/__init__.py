"""The bank's durable record: an append-only journal in SQLite, from which any past state of the bank can be replayed.

A rewind takes a journal back to an earlier event: what lies between no longer counts, but stays on record.
"""

from d2skill.bank.journal.events import (
    Change,
    Credit,
    Event,
    Insert,
    Mark,
    Note,
    Origin,
    Probe,
    Refute,
    Repeat,
    Retrieve,
    Revise,
    Rewind,
    Status,
    Support,
    Tally,
    source_task,
)
from d2skill.bank.journal.journal import Journal, JournalWriter, from_records
from d2skill.bank.journal.salvage import Salvaged, salvage
from d2skill.bank.journal.sqlite_file import JournalHead
from d2skill.bank.journal.state import GONE, BankState

__all__ = [
    "GONE",
    "BankState",
    "Change",
    "Credit",
    "Event",
    "Insert",
    "Journal",
    "JournalHead",
    "JournalWriter",
    "Mark",
    "Note",
    "Origin",
    "Probe",
    "Refute",
    "Repeat",
    "Retrieve",
    "Revise",
    "Rewind",
    "Salvaged",
    "Status",
    "Support",
    "Tally",
    "from_records",
    "salvage",
    "source_task",
]
