"""What an environment's expert would do next in a game that a person plays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from d2skill.protocols import Expert, Session

_LOOKAHEAD = 100


@dataclass(frozen=True, slots=True)
class _Way:
    """All actions of a game that an expert took over, and what they came to."""

    actions: tuple[str, ...]
    won: bool
    score: float

    @property
    def worth(self) -> tuple[bool, float, int]:
        """What makes one way better than another: a win, else the score; then how short it is."""
        return self.won, self.score, -len(self.actions)


class Adviser:
    """Plays ahead in sessions of its own: with the expert that `make` makes, on games that `start` starts."""

    def __init__(self, start: Callable[[], Session], make: Callable[[], Expert]) -> None:
        self._start, self._make = start, make
        self._way: _Way | None = None

    def hint(self, played: Sequence[str]) -> str:
        """Returns the next step of the best way on that the expert finds, and what it gets if that is no win.

        An expert that was not obeyed loses track of what it wanted to try, and one that has not watched does not know
        what the player holds. So both are asked, one that has watched the whole game and one that begins here.
        """
        so_far, way = tuple(played), self._way
        if way is None or len(way.actions) <= len(so_far) or way.actions[: len(so_far)] != so_far:
            ways = (self._played_on(so_far, since) for since in (0, len(so_far)))
            self._way = way = max(filter(None, ways), key=lambda found: found.worth, default=None)
        if way is None:
            return "The expert knows no way from here."
        gets = "" if way.won else f" (it gets {way.score:.2f} of 1 that way)"
        return f"The expert would: {way.actions[len(so_far)]}{gets}"

    def _played_on(self, played: Sequence[str], since: int) -> _Way | None:
        """Returns a game taken over after `played` by an expert that has watched from turn `since` on.

        None if it neither wins nor gets a higher score than there was.
        """
        try:
            session, expert = self._start(), self._make()
            for number, action in enumerate(played):
                if number >= since:
                    expert.act(session.observation)
                session.step(action)
            actions, before = list(played), session.observation.score or 0.0
            while not session.observation.done and len(actions) < len(played) + _LOOKAHEAD:
                actions.append(expert.act(session.observation))
                session.step(actions[-1])
        except Exception:  # an expert may give up in whatever way it likes: it has no hint then
            return None
        seen = session.observation
        score = seen.score or 0.0
        return _Way(tuple(actions), seen.success, score) if seen.success or score > before else None
