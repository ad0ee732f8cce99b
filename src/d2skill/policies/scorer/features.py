"""Features of admissible actions for the scorer: hashed crosses of an action's words with the parts of the prompt.

For each entity that an action names, the parts of the prompt in which the entity and its type occur give a pattern of
bits; the verb of the action, the slot of the entity and that pattern are crossed, bit by bit and as a whole. Skills are
parts like any other, told apart by whether they are about this task, so an action that a skill names can gain from it.
Crosses with the words of the task let the policy learn what goes with what, crosses with its own past how far it is.

All is vectorised over a batch; the features of a prompt do not depend on the rest of the batch.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from d2skill.policies.scorer.label_features import LABEL_FEATURES, label_features
from d2skill.types import Prompt, Skill
from d2skill.utils.text import ActionWords, action_words, content, entities, tokens

Ints = npt.NDArray[np.int64]
_Hashes = npt.NDArray[np.uint64]

# The parts of a prompt, one bit each. A skill is `about` the task or `aside` from it.
_PARTS = (
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
_BIT = {part: 1 << i for i, part in enumerate(_PARTS)}
# What decides about a thing that a skill names: is it named itself, was it tried already, is it what the task is about.
_ADVICE = sum(_BIT[part] for part in ("step_skill_about", "advised_against", "past_action", "last_action")) | (
    _BIT["task"] | _BIT["task_skill_about"]
) << len(_PARTS)
_SLOTS = 2
_TASK_WORDS = 6
_ABOUT = 0.5
_NEGATION = re.compile(r"\b(not|never|no|nothing|avoid|don't|without)\b", re.IGNORECASE)

FEATURES = 1 + 1 + 1 + _SLOTS * (2 * len(_PARTS) + 5 + 2 * _TASK_WORDS)


@dataclass(frozen=True, slots=True)
class Batch:
    """Features of a batch of prompts.

    `index` holds bucket numbers, shape [actions, FEATURES], and LABEL_FEATURES more if there are labels; 0 where a
    feature is absent. `starts` is the first action of each prompt, shape [prompts].
    """

    index: npt.NDArray[np.int32]
    starts: Ints

    def counts(self) -> Ints:
        """Returns the number of actions of each prompt."""
        return np.diff(np.append(self.starts, len(self.index)))


class Featurizer:
    """Turns prompts into features; caches the words of texts, which recur."""

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets
        self._ids: dict[str, int] = {}
        self._hashes: list[int] = []
        self._texts: dict[str, Ints] = {}
        self._labels: dict[str, int] = {}
        self._actions: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}

    def __call__(self, prompts: Sequence[Prompt]) -> Batch:
        """Returns the features of all admissible actions of all prompts, in order."""
        verbs, names, kinds, rows = self._action_arrays(prompts)
        words, marks = self._part_words(prompts)
        mask = self._masks(words, marks, len(prompts), np.concatenate([names.ravel(), kinds.ravel()]))
        name_bits, kind_bits = mask(rows[:, None], names), mask(rows[:, None], kinds)
        progress, task_words = self._contexts(prompts)
        table = np.array(self._hashes, dtype=np.uint64)
        index = self._cross(table, verbs, kinds, name_bits, kind_bits, progress[rows], task_words[rows])
        if any(prompt.labels for prompt in prompts):
            index = np.concatenate([index, self._labelled(prompts)], axis=1)
        starts = np.cumsum([0, *(len(p.actions) for p in prompts[:-1])], dtype=np.int64)
        return Batch(index, starts)

    def _cross(
        self,
        table: _Hashes,
        verbs: Ints,
        kinds: Ints,
        name_bits: Ints,
        kind_bits: Ints,
        progress: _Hashes,
        task_words: Ints,
    ) -> npt.NDArray[np.int32]:
        """Returns bucket numbers, shape [actions, FEATURES]."""
        verb = table[verbs]
        in_task = (kind_bits & _BIT["task"] > 0) @ (1 << np.arange(_SLOTS))
        columns = [_mix(verb, 1), _mix(verb, 2, progress), _mix(verb, 3, progress, in_task)]
        present = [np.ones(len(verb), dtype=bool)] * 3
        for slot in range(_SLOTS):
            there = kinds[:, slot] >= 0
            kind = table[kinds[:, slot]]
            both = name_bits[:, slot] | kind_bits[:, slot] << len(_PARTS)
            advised = both & _ADVICE
            columns += [
                _mix(verb, 10 + slot, both),
                _mix(verb, 20 + slot, both, progress),
                _mix(verb, 30 + slot, kind, progress),
                _mix(verb, 60 + slot, advised),
                _mix(verb, 70 + slot, advised, progress),
            ]
            present += [there] * 5
            for bit in range(2 * len(_PARTS)):
                columns.append(_mix(verb, 100 + 100 * slot + bit))
                present.append(there & (both >> bit & 1 > 0))
            for position in range(_TASK_WORDS):
                word = table[task_words[:, position]]
                known = there & (task_words[:, position] >= 0)
                columns += [_mix(verb, 40 + slot, kind, word), _mix(verb, 50 + slot, kind, word, progress)]
                present += [known, known]
        hashed = np.stack(columns, axis=1) % np.uint64(self._buckets - 1) + np.uint64(1)
        return np.where(np.stack(present, axis=1), hashed, 0).astype(np.int32)

    def _labelled(self, prompts: Sequence[Prompt]) -> npt.NDArray[np.int32]:
        """Returns bucket numbers of what labels say, shape [actions, LABEL_FEATURES]."""
        found = label_features(prompts)
        index = np.zeros((len(found), LABEL_FEATURES), dtype=np.int32)
        for row, features in enumerate(found):
            for column, feature in enumerate(features):
                index[row, column] = self._bucket(f"{column} {feature}")
        return index

    def _bucket(self, feature: str) -> int:
        found = self._labels.get(feature)
        if found is None:
            found = self._labels[feature] = _hash(feature) % (self._buckets - 1) + 1
        return found

    def _contexts(self, prompts: Sequence[Prompt]) -> tuple[_Hashes, Ints]:
        """Returns per prompt a hash of how far it is, shape [P], and the words of its task, shape [P, _TASK_WORDS]."""
        progress = np.zeros(len(prompts), dtype=np.uint64)
        words = np.full((len(prompts), _TASK_WORDS), -1, dtype=np.int64)
        for row, prompt in enumerate(prompts):
            progress[row] = _progress(prompt)
            ids = [self._id(word) for word in sorted(content(prompt.task))[:_TASK_WORDS]]
            words[row, : len(ids)] = ids
        return progress, words

    def _action_arrays(self, prompts: Sequence[Prompt]) -> tuple[Ints, Ints, Ints, Ints]:
        """Returns verb ids [A], entity name ids and type ids [A, _SLOTS] (-1 for none), and the prompt rows [A]."""
        parsed = [self._action(action) for prompt in prompts for action in prompt.actions]
        verbs = np.array([verb for verb, _, _ in parsed], dtype=np.int64)
        names = np.array([names for _, names, _ in parsed], dtype=np.int64).reshape(-1, _SLOTS)
        kinds = np.array([kinds for _, _, kinds in parsed], dtype=np.int64).reshape(-1, _SLOTS)
        rows = np.repeat(np.arange(len(prompts)), [len(prompt.actions) for prompt in prompts])
        return verbs, names, kinds, rows

    def _part_words(self, prompts: Sequence[Prompt]) -> tuple[list[Ints], list[tuple[int, int]]]:
        """Returns word ids of every part of every prompt, and for each its (prompt row, part bit)."""
        words: list[Ints] = []
        marks: list[tuple[int, int]] = []

        def add(row: int, part: str, text: str) -> None:
            words.append(self._words(text))
            marks.append((row, _BIT[part]))

        for row, prompt in enumerate(prompts):
            add(row, "task", prompt.task)
            add(row, "observation", prompt.observation)
            for observation, action in prompt.history:
                add(row, "past_observation", observation)
                add(row, "past_action", action)
            if prompt.history:
                add(row, "last_action", prompt.history[-1][1])
            for name, skills in (("task_skill", prompt.task_skills), ("step_skill", prompt.step_skills)):
                for skill in skills:
                    stance = _stance(skill, prompt.task)
                    do, leave = _advice(skill)
                    add(row, f"{name}_{stance}", do)
                    if leave and stance == "about":
                        add(row, "advised_against", leave)
        return words, marks

    def _masks(self, words: list[Ints], marks: list[tuple[int, int]], prompts: int, wanted: Ints) -> _Masks:
        """Returns in which parts of each prompt the wanted words occur."""
        used = np.unique(wanted[wanted >= 0])
        column = np.full(len(self._ids) + 1, -1, dtype=np.int64)
        column[used] = np.arange(len(used))
        bits = np.zeros((prompts, len(used) + 1), dtype=np.int64)
        flat = column[np.concatenate(words)]
        lengths = [len(part) for part in words]
        rows = np.repeat([row for row, _ in marks], lengths)
        marked = np.repeat([bit for _, bit in marks], lengths)
        hit = flat >= 0
        np.bitwise_or.at(bits, (rows[hit], flat[hit]), marked[hit])
        return _Masks(bits, column)

    def _id(self, word: str) -> int:
        found = self._ids.get(word)
        if found is None:
            found = self._ids[word] = len(self._ids)
            self._hashes.append(_hash(word))
        return found

    def _words(self, text: str) -> Ints:
        found = self._texts.get(text)
        if found is None:
            if len(self._texts) > 100_000:
                self._texts.clear()
            named = entities(text)
            found = np.array(sorted({self._id(w) for e in named for w in (e.name, e.kind)}), dtype=np.int64)
            self._texts[text] = found
        return found

    def _action(self, action: str) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        found = self._actions.get(action)
        if found is None:
            if len(self._actions) > 100_000:
                self._actions.clear()
            words: ActionWords = action_words(action)
            named = words.entities[:_SLOTS]
            rest = (-1,) * (_SLOTS - len(named))
            names = tuple(self._id(entity.name) for entity in named) + rest
            kinds = tuple(self._id(entity.kind) for entity in named) + rest
            found = self._actions[action] = (self._id(words.verb), names, kinds)
        return found


@dataclass(frozen=True, slots=True)
class _Masks:
    bits: Ints
    column: Ints

    def __call__(self, rows: Ints, words: Ints) -> Ints:
        """Returns the part bits of words in prompts; 0 for an absent word (-1)."""
        return self.bits[rows, self.column[words]]


def _progress(prompt: Prompt) -> int:
    """Hashes how far an episode is: the verbs already used on things the task names, and the last two of them."""
    task = content(prompt.task)
    done: list[str] = []
    for _, action in prompt.history:
        words = action_words(action)
        if any(entity.kind in task for entity in words.entities) and (not done or done[-1] != words.verb):
            done.append(words.verb)
    return _hash(" ".join([*sorted(set(done)), "|", *done[-2:]]))


@lru_cache(maxsize=8192)
def _stance(skill: Skill, task: str) -> str:
    """Says whether a skill is about a task: half of the words of its title, up to a colon, stand in the task."""
    head = content(skill.text.title.partition(":")[0])
    return "about" if head and len(head & content(task)) >= _ABOUT * len(head) else "aside"


@lru_cache(maxsize=8192)
def _advice(skill: Skill) -> tuple[str, str]:
    """Returns what a skill says to do and what it says not to: the sentences without and with a negation."""
    sentences = re.split(r"(?<=[.!?;])\s+", f"{skill.text.title}. {skill.text.principle}")
    against = [sentence for sentence in sentences if _NEGATION.search(sentence)]
    return " ".join(sentence for sentence in sentences if sentence not in against), " ".join(against)


def _hash(word: str) -> int:
    data = word.encode()
    return zlib.crc32(data) | zlib.crc32(data, 0x9E3779B9) << 32


def _mix(first: _Hashes, salt: int, *others: _Hashes | Ints) -> _Hashes:
    """Combines hashes into one, element by element."""
    value = _stir(first ^ np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64))
    for other in others:
        value = _stir(value ^ other.astype(np.uint64))
    return value


def _stir(value: _Hashes) -> _Hashes:
    """Spreads the bits of hashes: a multiply-xorshift step."""
    value = value * np.uint64(0xBF58476D1CE4E5B9)
    return value ^ value >> np.uint64(29)


def count_words(text: str) -> int:
    """Returns the number of words and numbers of a text: the scorer's tokens."""
    return len(tokens(text))
