"""Search for skills of a bank: bank search."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from d2skill.bank.formats.contents import BankContents, check_iteration
from d2skill.bank.history.search import count_hits, search_by_meaning, search_by_words
from d2skill.bank.index import KeyIndex
from d2skill.bank.journal import BankState, Insert, Journal
from d2skill.bank.kept_keys import KeptKeys
from d2skill.cli.bank.open import bank_path, read, settings_of
from d2skill.cli.bank.tables import print_skills, say, skill_record
from d2skill.cli.output import Output
from d2skill.embedders import make_embedder
from d2skill.errors import BankError
from d2skill.types import Granularity

_LEAST_SIMILAR = 0.2  # cosine below which a skill has nothing to do with a search


def bank_search(
    run: Positional[Path],
    text: Positional[str],
    granularity: Granularity | None = None,
    limit: int = 20,
    at: int | None = None,
) -> Output:
    """Find active skills by words of their text or key.

    Lists the skills that have all the words; if there are none, those that the bank's embedder finds similar.

    Args:
        run: Run folder, or a bank file.
        text: Words to look for; a word also finds longer ones that begin with it.
        granularity: Task skills or step skills only.
        limit: Lines, at most.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    if not any(letter.isalnum() for letter in text):
        raise BankError("there is no word to look for: name one or more")
    bank, state, kept = _open(run, at)
    hits = count_hits(state, text)
    rows, total = search_by_words(state, state.rows(granularity, "active"), hits)
    by, scores = "words", total[:limit].tolist()
    if not len(rows):
        embedder = make_embedder(settings_of(run).embedder)
        index = KeyIndex(state, embedder, kept if kept and kept.embedder == embedder.fingerprint else None)
        rows, cosines = search_by_meaning(state, index, text, hits, granularity)
        alike = cosines >= _LEAST_SIMILAR
        by, rows, scores = "meaning", rows[alike], cosines[alike][:limit].tolist()
    found = [state.skill(row) for row in rows[:limit].tolist()]

    def show() -> None:
        if not found:
            say("No skill has all these words, and none is like them.")
        elif by == "words":
            print_skills(bank, found, limit, [str(count) for count in scores], "hits", len(rows))
        else:
            say("No skill has all these words. Alike, by the embedder:")
            print_skills(bank, found, limit, [f"{cosine:.2f}" for cosine in scores], "alike", len(rows))

    skills = [skill_record(bank, skill) | {"score": score} for skill, score in zip(found, scores, strict=True)]
    return Output({"by": by, "skills": skills, "count": len(rows)}, show)


def _open(run: Path, at: int | None) -> tuple[BankContents, BankState, KeptKeys | None]:
    """Returns a bank, its state, and its keys if it has a journal; the skills are in the state alone then."""
    path = bank_path(run)
    if Journal.is_journal(path):
        journal = Journal(path)
        check_iteration(journal, at)
        state, _, kept = KeptKeys.replay(journal, at=at)
        return BankContents(journal.embedder, 0, 0, (), state.tallies, state.marks, state), state, kept
    bank, state = read(run, at), BankState()
    state.apply(Insert(bank.skills, 0, tallies=bank.tallies))
    return bank, state, None
