"""Scripted player for observations that list no actions: it lists them for itself, and writes what is asked for."""

from __future__ import annotations

from collections.abc import Callable

from d2skill.envs.search_qa.session import FORMS, NO_ANSWER
from d2skill.prompts import ANY_TEXT, in_tags
from d2skill.protocols import Expert
from d2skill.types import Observation


class FreeAsker:
    """Plays one episode by another player, which is shown the actions that a policy may choose from; see `Expert`.

    It knows the searches that it asked for itself.
    """

    def __init__(self, observe: Callable[[str, tuple[str, ...]], Observation], question: str, chooser: Expert) -> None:
        """Begins with a question; `observe` returns the observation with listed actions after some searches."""
        self._observe, self._question, self._chooser = observe, question, chooser
        self._asked: tuple[str, ...] = ()

    def act(self, observation: Observation) -> str:
        """Returns the admissible action to play next, in tags where an answer is taken whole."""
        listed = self._observe(self._question, self._asked)
        action = self._chooser.act(listed)
        if action.startswith("search[") and observation.forms == FORMS[1:]:
            action = next((one for one in listed.actions if one.startswith("answer[")), NO_ANSWER)
        if action.startswith("search["):
            self._asked = (*self._asked, action[len("search[") : -1])
        return in_tags(action, FORMS) if observation.forms == ANY_TEXT else action
