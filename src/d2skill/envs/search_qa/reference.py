"""Episodes as the reference plays them, with its faults, to compare with: SearchEnv of skyrl-gym 0.4, as verl-agent's.

An answer of the policy is taken whole. The faults are listed in docs/environments.md.
"""

from __future__ import annotations

import re

from d2skill.envs.search_qa.information import framed
from d2skill.envs.search_qa.questions import QAQuestion
from d2skill.envs.search_qa.scoring import exact_match
from d2skill.envs.search_qa.session import Desk
from d2skill.prompts import ANY_TEXT
from d2skill.types import Observation, Task

_SEARCH = re.compile(r"<search>(.*?)</search>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_FIRST = "Write <search>words to look for</search> or <answer>a few words</answer>."


class ReferenceSession:
    """One episode of one question, by the reference's rules; see `Session`."""

    def __init__(self, desk: Desk, question: QAQuestion, task: Task) -> None:
        self.task = task
        self.observation = Observation(_FIRST, forms=ANY_TEXT)
        self._desk, self._question = desk, question
        self._turns = 0
        self._said = ""  # by the policy and by the search

    def step(self, action: str) -> Observation:
        """Plays a whole answer of the policy: the first search in it, or the end if it has the tags of an answer."""
        self._turns += 1
        self._said += action
        if self._turns >= self._desk.settings.turns or ("<answer>" in action and "</answer>" in action):
            answers = _ANSWER.findall(self._said)
            is_right = bool(answers) and exact_match(answers[-1], self._question.answers)
            self.observation = Observation("", done=True, success=is_right, score=float(is_right))
        else:
            asked = _SEARCH.search(action)
            text = self._desk.find(asked[1].strip()).text if asked else framed("")
            self._said += text
            self.observation = Observation(text, forms=ANY_TEXT)
        return self.observation
