"""Words of prompts for the scorer: which entities the parts of a prompt name, and how far its episode has come.

Texts recur from step to step, so what depends on a text, an action or a history alone is computed once and kept. Words
are ids of names and types, with the bit of the part that they stand in, as id << PART_BITS | bit. Until all words of
a batch are together they are kept as bytes, which are joined faster than arrays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from d2skill.policies.scorer.hashes import Hashes, digest, word_hash
from d2skill.types import Prompt, Skill
from d2skill.utils.text import action_words, content, names_and_types

Ints = npt.NDArray[np.int64]

# The parts of a prompt, one bit each. A skill is `about` the task or `aside`. Sentences with a negation in a skill
# about the task are `advised_against`.
PARTS = (
    "task",
    "task_skill_about",
    "task_skill_aside",
    "step_skill_about",
    "step_skill_aside",
    "advised_against",
    "observation",
    "past_observation",
    "past_action",
    "last_action",
)
PART_BITS = len(PARTS)
BIT = {part: 1 << i for i, part in enumerate(PARTS)}
ENTITIES = 2
"""Entities of an action that are looked at"""
TASK_WORDS = 6
"""Words of a task that are looked at, in alphabetical order"""
_ABOUT = 0.5
"""Least share of a skill's title in the task, for the skill to be about the task"""
_NEGATION = re.compile(r"\b(not|never|no|nothing|avoid|don't|without)\b", re.IGNORECASE)
_KEPT = 2**26
"""Bytes of words that are kept"""
_ENTRY = 200
"""Bytes that an entry takes beside its words"""


class ProgressHashes(NamedTuple):
    """The verbs that an episode used on entities of its task: a hash as feature, and one as part of keys."""

    hash: int
    key: int


class TaskWords(NamedTuple):
    """A task: a hash of its text, its words, its content words, and hashes of TASK_WORDS of them, 0 for none."""

    key: int
    words: bytes
    content: frozenset[str]
    crossed: Hashes


class _Action(NamedTuple):
    """A past action: its words as such and as the last action, its verb, and the types of its entities."""

    past: bytes
    last: bytes
    verb: str
    kinds: frozenset[str]


class _History(NamedTuple):
    """A history in a task: the words of its turns, and the verbs used on entities of the task.

    Of verbs that follow each other none is like the one before. `last` is the words of the last action, as such.
    """

    task: TaskWords
    turns: tuple[tuple[str, str], ...]
    words: bytes
    last: bytes
    verbs: tuple[str, ...]


class PromptWords(NamedTuple):
    """The words of some prompts.

    `words` are those of all parts of all prompts, in order, and `lengths` says how many belong to each prompt.
    """

    tasks: list[TaskWords]
    progress: list[ProgressHashes]
    words: npt.NDArray[np.int32]
    lengths: list[int]


class ParsedActions(NamedTuple):
    """The words of some actions.

    `ids` are those of the names and then of the types of the entities, shape [A, 2 * ENTITIES], -1 for none. `verbs`
    [A] and `kinds` [A, ENTITIES] are hashes as features. `keys`, shape [A, 1 + ENTITIES], are hashes of verb and types
    together, and of the verb and the place of each entity.
    """

    ids: Ints
    verbs: Hashes
    kinds: Hashes
    keys: Hashes


class WordReader:
    """Reads prompts and actions as words. What is kept by identity is kept with the object, so its id stays its own."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Begins with nothing kept."""
        self._kept = 0
        self._ids: dict[str, int] = {}
        self._texts: dict[str, npt.NDArray[np.int32]] = {}  # ids, shifted, without a bit
        self._observations: dict[str, bytes] = {}
        self._tasks: dict[str, TaskWords] = {}
        self._past_observations: dict[str, bytes] = {}
        self._past_actions: dict[str, _Action] = {}
        self._histories: dict[int, _History] = {}  # by identity of the last turn
        self._skills: dict[tuple[int, str, str], tuple[Skill, bytes]] = {}  # by identity, task and part
        self._lists: dict[int, tuple[tuple[str, ...], Ints]] = {}  # by identity, rows of the following
        self._actions: dict[str, int] = {}  # rows of the following
        self._action_ids: Ints = np.zeros((1024, 2 * ENTITIES), dtype=np.int64)
        self._action_hashes: Hashes = np.zeros((1024, 2 + 2 * ENTITIES), dtype=np.uint64)

    def forget_old(self) -> None:
        """Drops all that is kept, if it is too much. Ids of words are other ones afterwards."""
        if self._kept > _KEPT:
            self._begin()

    def read(self, prompts: Sequence[Prompt]) -> PromptWords:
        """Returns the words of prompts."""
        tasks: list[TaskWords] = []
        progress: list[ProgressHashes] = []
        words: list[bytes] = []
        for prompt in prompts:
            text, turns = prompt.task, prompt.history
            task = self._tasks.get(text) or self._read_task(text)
            seen = self._observations.get(prompt.observation)
            parts = [task.words, self._read_observation(prompt.observation) if seen is None else seen]
            for skill in prompt.task_skills:
                parts.append(self._skill(skill, text, "task_skill"))
            for skill in prompt.step_skills:
                parts.append(self._skill(skill, text, "step_skill"))
            verbs: tuple[str, ...] = ()
            if turns:
                history = self._histories.get(id(turns[-1]))
                if history is None or history.task is not task or history.turns != turns:
                    history = self._read_history(task, turns)
                parts += history.words, history.last
                verbs = history.verbs
            words.append(b"".join(parts))
            tasks.append(task)
            progress.append(_progress(verbs))
        lengths = [len(own) // np.dtype(np.int32).itemsize for own in words]
        return PromptWords(tasks, progress, np.frombuffer(b"".join(words), dtype=np.int32), lengths)

    def actions(self, prompts: Sequence[Prompt]) -> ParsedActions:
        """Returns the words of the admissible actions of prompts, in order."""
        rows = np.concatenate([self._action_rows(prompt.actions) for prompt in prompts])
        ids, hashes = self._action_ids.take(rows, axis=0), self._action_hashes.take(rows, axis=0)
        return ParsedActions(ids, hashes[:, 0], hashes[:, 1 : 1 + ENTITIES], hashes[:, 1 + ENTITIES :])

    def parts_naming(self, prompts: PromptWords, of: Ints, actions: ParsedActions) -> Ints:
        """Returns the bits of the parts of an action's prompt that name its entities, and that name their types.

        Args:
            prompts: Words of the prompts.
            of: Prompt of each action, shape [A].
            actions: Words of the actions.

        Returns:
            Bits, shape [A, 2 * ENTITIES], 0 for an absent entity.
        """
        wanted = np.zeros(len(self._ids) + 1, dtype=bool)
        wanted[actions.ids.ravel()] = True
        wanted[-1] = False
        column = np.cumsum(wanted) * wanted  # 0 for a word that no action has
        width = int(wanted.sum()) + 1
        cells = np.repeat(np.arange(len(prompts.lengths)) * width, prompts.lengths)
        cells += column.take(prompts.words >> PART_BITS)
        bits = np.zeros((len(prompts.lengths), width), dtype=np.int32)
        np.bitwise_or.at(bits.ravel(), cells, prompts.words & (1 << PART_BITS) - 1)
        bits[:, 0] = 0
        named: Ints = bits.ravel().take((of * width)[:, None] + column.take(actions.ids)).astype(np.int64)
        return named

    def word_id(self, word: str) -> int:
        """Returns the id of a word."""
        return self._ids.setdefault(word, len(self._ids))

    def _text(self, text: str, part: str) -> bytes:
        """Returns the words of a text as a part of a prompt."""
        words = self._texts.get(text)
        if words is None:
            ids = {self.word_id(word) for word in names_and_types(text)}
            words = self._texts[text] = np.array([*ids], dtype=np.int32) << PART_BITS
            self._kept += words.nbytes + _ENTRY
        return (words | BIT[part]).tobytes()

    def _read_task(self, text: str) -> TaskWords:
        words = content(text)
        crossed = np.zeros(TASK_WORDS, dtype=np.uint64)
        hashes = [word_hash(word) for word in sorted(words)[:TASK_WORDS]]
        crossed[: len(hashes)] = hashes
        task = self._tasks[text] = TaskWords(digest("task", text), self._text(text, "task"), words, crossed)
        return task

    def _read_observation(self, text: str) -> bytes:
        words = self._observations[text] = self._text(text, "observation")
        self._kept += len(words) + _ENTRY
        return words

    def _read_history(self, task: TaskWords, turns: tuple[tuple[str, str], ...]) -> _History:
        """Returns a history, made from the one before its last turn if that is kept, else turn by turn."""
        history, start = _History(task, (), b"", b"", ()), 0
        former = self._histories.get(id(turns[-2])) if len(turns) > 1 else None
        if former is not None and former.task is task and former.turns == turns[:-1]:
            history, start = former, len(turns) - 1
        words, verbs = history.words, history.verbs
        for observation, text in turns[start:]:
            action = self._past_actions.get(text) or self._read_past_action(text)
            seen = self._past_observations.get(observation)
            words += (self._read_past_observation(observation) if seen is None else seen) + action.past
            if verbs[-1:] != (action.verb,) and not action.kinds.isdisjoint(task.content):
                verbs = (*verbs, action.verb)
        history = self._histories[id(turns[-1])] = _History(task, turns, words, action.last, verbs)
        self._kept += len(words) + _ENTRY
        return history

    def _read_past_observation(self, text: str) -> bytes:
        words = self._past_observations[text] = self._text(text, "past_observation")
        self._kept += len(words) + _ENTRY
        return words

    def _read_past_action(self, text: str) -> _Action:
        parsed = action_words(text)
        kinds = frozenset(entity.kind for entity in parsed.entities)
        past, last = self._text(text, "past_action"), self._text(text, "last_action")
        action = self._past_actions[text] = _Action(past, last, parsed.verb, kinds)
        self._kept += 2 * len(past) + _ENTRY
        return action

    def _skill(self, skill: Skill, task: str, part: str) -> bytes:
        """Returns the words of a skill in a prompt with a task."""
        kept = self._skills.get((id(skill), task, part))
        if kept is None:
            relation = _relation(skill, task)
            advised, advised_against = _split_advice(skill)
            words = self._text(advised, f"{part}_{relation}")
            if advised_against and relation == "about":
                words += self._text(advised_against, "advised_against")
            kept = self._skills[id(skill), task, part] = skill, words
            self._kept += len(words) + _ENTRY
        return kept[1]

    def _action_rows(self, actions: tuple[str, ...]) -> Ints:
        """Returns the rows of actions in `_action_ids` and `_action_hashes`."""
        kept = self._lists.get(id(actions))
        if kept is None:
            found = map(self._actions.get, actions)
            rows = [
                self._read_action(action) if row is None else row for action, row in zip(actions, found, strict=True)
            ]
            kept = self._lists[id(actions)] = actions, np.array(rows, dtype=np.int64)
            self._kept += 8 * len(rows) + _ENTRY
        return kept[1]

    def _read_action(self, action: str) -> int:
        words, row = action_words(action), len(self._actions)
        if row == len(self._action_ids):
            self._action_ids = np.concatenate([self._action_ids, np.zeros_like(self._action_ids)])
            self._action_hashes = np.concatenate([self._action_hashes, np.zeros_like(self._action_hashes)])
        named = words.entities[:ENTITIES]
        kinds = [entity.kind for entity in named]
        absent = [""] * (ENTITIES - len(named))
        keys = [digest("action", words.verb, *kinds), *(digest("entity", words.verb, str(i)) for i in range(ENTITIES))]
        self._action_hashes[row] = [*map(word_hash, [words.verb, *kinds, *absent]), *keys]
        self._action_ids[row] = -1
        self._action_ids[row, : len(named)] = [self.word_id(entity.name) for entity in named]
        self._action_ids[row, ENTITIES : ENTITIES + len(named)] = [self.word_id(kind) for kind in kinds]
        self._actions[action] = row
        self._kept += _ENTRY
        return row


@lru_cache(maxsize=2**14)
def _progress(verbs: tuple[str, ...]) -> ProgressHashes:
    """Returns hashes of the verbs as a set and of the last two of them."""
    text = " ".join([*sorted(set(verbs)), "|", *verbs[-2:]])
    return ProgressHashes(word_hash(text), digest("progress", text))


@lru_cache(maxsize=8192)
def _relation(skill: Skill, task: str) -> str:
    """Returns "about" if half of the words of a skill's title, up to a colon, stand in the task, else "aside"."""
    head = content(skill.text.title.partition(":")[0])
    return "about" if head and len(head & content(task)) >= _ABOUT * len(head) else "aside"


@lru_cache(maxsize=8192)
def _split_advice(skill: Skill) -> tuple[str, str]:
    """Returns the sentences of a skill without a negation (advised) and those with one (advised against)."""
    sentences = re.split(r"(?<=[.!?;])\s+", f"{skill.text.title}. {skill.text.principle}")
    against = [sentence for sentence in sentences if _NEGATION.search(sentence)]
    return " ".join(sentence for sentence in sentences if sentence not in against), " ".join(against)
