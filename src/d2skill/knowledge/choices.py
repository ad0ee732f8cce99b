"""Trajectories whose actions choose among options, such as `click[next >]`, and their procedures.

Such a procedure says what to choose in words that hold for any task of the kind: what the task names, or one that fits
it. So it has no numbers of products and no text of the player's own, such as an answer, and kinds of task are told
apart by how their texts begin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby, pairwise

from d2skill.knowledge.patterns import REST
from d2skill.types import Trajectory, Turn
from d2skill.utils.text import action_words, argument, content, repeats, tokens

NAMED, FITTING, WHOLE = "what the task names", "one that fits the task", "the whole task"
ASKED = "the task names"
_FIELD = "the {} that the task names"
_LAST_WORD = re.compile(r"[a-z]+\Z")
_LONGEST_NAME = 40
_WORD_GOES_ON = re.compile(r"\w")
_BEGINNING = 3
"""Words of a task, at most, that tell its kind"""


class ChoiceProgress:
    """Progress of an episode through the steps of a procedure of choices.

    A step is done once a choice that it means was made; what the task names may be chosen in any order. Where neither
    the next step nor a later one can be made, the episode has gone back to an earlier step, and later choices are to be
    made again. A product that was looked at is not looked at again.

    Args:
        steps: The steps, such as "click what the task names".
        task: Text of the task.
        forms: Forms of actions in which any text may stand.
    """

    next = None
    """No act on a thing comes next; see `ActProgress`"""

    def __init__(self, steps: Sequence[str], task: str, forms: tuple[str, ...] = ()) -> None:
        self._steps = tuple(steps)
        self._forms = forms
        self._task = task
        self._made: dict[str, int] = {}  # steps by choice
        self.done = 0
        """Number of steps that are done, up to the first that is not"""

    @property
    def got(self) -> tuple[str, ...]:
        """Choices that were made, in order."""
        return tuple(self._made)

    def follow(self, action: str, actions: Sequence[str]) -> None:
        """Follows an action that was played, and the actions that are possible after it."""
        step = general_choice(action, self._task, self._forms)
        possible = [at for at in range(until(self._steps, self.done)) if self._steps[at] == step]
        if possible:
            self._made[action] = next((at for at in possible if at not in self._made.values()), possible[-1])
            while self.done < len(self._steps) and self.done in self._made.values():
                self.done += 1
        offered = {general_choice(other, self._task, self._forms) for other in actions}
        if offered and not offered.intersection(self._steps[self.done :]):
            self.done = max((at for at in range(self.done) if self._steps[at] in offered), default=self.done)
            kept = {made: at for made, at in self._made.items() if at <= self.done or self._steps[at].endswith(FITTING)}
            self._made = kept


def until(steps: Sequence[str], done: int) -> int:
    """Returns the end of the steps that may come next: the first one, and all beside it that the task names."""
    end = done
    while end < len(steps) and steps[end].endswith(ASKED):
        end += 1
    return min(len(steps), max(end, done + 1))


def acts_by_choices(trajectory: Trajectory) -> bool:
    """Returns True if every admissible action of a trajectory has an argument in brackets."""
    done = [turn.decision.action for turn in trajectory.turns if turn.admissible]
    return bool(done) and all(argument(action) is not None for action in done)


def is_asked_for(action: str, task: str) -> bool:
    """Returns True if the task names the option that an action chooses."""
    return repeats(task, argument(action) or "")


def turns_not_undone(trajectory: Trajectory) -> tuple[Turn, ...]:
    """Returns the turns that led on: without those between an observation and the return to it.

    Choices that do not change the observation, such as ticking an option, are kept only if the task asks for them.
    """
    path: list[Turn] = []
    for turn in trajectory.turns:
        seen = [past.prompt.observation for past in path]
        if turn.prompt.observation in seen and turn.prompt.observation != seen[-1]:
            del path[len(seen) - 1 - seen[::-1].index(turn.prompt.observation) :]
        path.append(turn)
    task = trajectory.task.text
    moved = [turn.prompt.observation != following.prompt.observation for turn, following in pairwise(path)]
    kept = zip(path, [*moved, True], strict=True)
    return tuple(turn for turn, moves in kept if moves or is_asked_for(turn.decision.action, task))


def choice_steps(trajectory: Trajectory) -> tuple[str, tuple[str, ...]]:
    """Returns the pattern of a task and the steps of a trajectory, in general words.

    The pattern is the words that the task begins with, and the fields whose values were chosen: "Find me {...} color:
    {...}" of a task with "color: red". Neighbouring steps for fields are in the order of the task.
    """
    task, turns = trajectory.task.text, turns_not_undone(trajectory)
    forms = trajectory.turns[0].prompt.forms if trajectory.turns else ()
    actions = [turn.decision.action for turn in turns]
    places = {field: at for action in actions for field, at in [_field(action, task)] if field}
    steps: list[str] = []
    for asked, run in groupby(actions, lambda action: bool(_field(action, task)[0])):
        neighbours = list(run)
        if asked:
            neighbours.sort(key=lambda action: _field(action, task)[1])
        steps += [general_choice(action, task, forms) for action in neighbours]
    fields = "".join(f" {field}: {REST}" for field in sorted(places, key=lambda field: places[field]))
    return f"{_beginning(task, turns)}{REST}{fields}", tuple(step for step, _ in groupby(steps))


@lru_cache(maxsize=2**16)
def general_choice(action: str, task: str, forms: tuple[str, ...] = ()) -> str:
    """Returns an action with what it chooses in general words.

    The text in one of the forms, in which any may stand, holds for one task only, so it is not kept.
    """
    verb, chosen = action_words(action).verb, argument(action) or ""
    is_free = any(action_words(form).verb == verb for form in forms)
    if is_free and chosen == task.strip():
        return f"{verb} {WHOLE}"
    if field := _field(action, task)[0]:
        return f"{verb} {_FIELD.format(field)}"
    if _names(action, task):
        return f"{verb} {NAMED}"
    if is_free or any(character.isdigit() for character in chosen):
        return f"{verb} {FITTING}"
    return f"{verb} {chosen}"


def _names(action: str, task: str) -> bool:
    """Returns True if the task names what an action chooses, as a whole or in two words or more."""
    return is_asked_for(action, task) or len(content(argument(action) or "") & content(task)) > 1


@lru_cache(maxsize=2**16)
def _field(action: str, task: str) -> tuple[str, int]:
    """Returns the field of a task whose value an action chooses, and its place; "" if there is none.

    It is "size" of "size: large tall" for the choice of "large tall", and for that of "large" as well, since shops
    offer values in other words than tasks; it is none for that of "lar" or "tall".
    """
    chosen, text, at = (argument(action) or "").lower(), task.lower(), -1
    while chosen and (at := text.find(f": {chosen}", at + 1)) >= 0:
        name, behind = _LAST_WORD.search(text, max(0, at - _LONGEST_NAME), at), at + 2 + len(chosen)
        if name and not _WORD_GOES_ON.match(text, behind):
            return name[0], name.start()
    return "", -1


def _beginning(task: str, turns: Sequence[Turn]) -> str:
    """Returns the beginning of a task, up to the first word of what the task names and an action chose."""
    named = [argument(turn.decision.action) or "" for turn in turns if _names(turn.decision.action, task)]
    chosen = {word for words in named if words != task.strip() for word in tokens(words)}
    words = task.split(" ")
    size = next((at for at, word in enumerate(words) if chosen & set(tokens(word))), 1)
    return "".join(f"{word} " for word in words[: min(size, _BEGINNING)])
