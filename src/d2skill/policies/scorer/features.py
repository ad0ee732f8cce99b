"""Features of admissible actions for the scorer: hashed crosses of an action's words with the parts of the prompt.

An action has a verb and entities, such as "put", "mug 1" and "desk 2". For each entity, a bit mask has a bit for each
part of the prompt that names it, and a bit for each part that names its type ("mug"). Crossed, that is hashed together
into one bucket, are the verb, the place of the entity in the action, and this mask, as a whole and bit by bit. Since
skills are parts of the prompt, the policy can learn to follow a skill that names an entity. Crosses with the words of
the task let it learn which actions go with which tasks, crosses with the progress of the episode an order of actions.
The features of a prompt do not depend on the rest of the batch.
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
from d2skill.utils.text import action_words, content, entities

Ints = npt.NDArray[np.int64]
_Hashes = npt.NDArray[np.uint64]

# The parts of a prompt, one bit each. A skill is `about` the task or `aside`. Sentences with a negation in a skill
# about the task are `advised_against`.
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
# The bits that decide whether to follow a skill: whether it names the entity itself, whether the entity was tried
# already, and whether the task and its skills name the type (those bits stand behind the bits of entities).
_ADVICE = sum(_BIT[part] for part in ("step_skill_about", "advised_against", "past_action", "last_action")) | (
    _BIT["task"] | _BIT["task_skill_about"]
) << len(_PARTS)
_ENTITIES = 2
"""Entities of an action that are looked at"""
_TASK_WORDS = 6
"""Words of a task that are looked at, in alphabetical order"""
_ABOUT = 0.5
"""Least share of a skill's title in the task, for the skill to be about the task"""
_CACHED_TEXTS = 100_000
_NEGATION = re.compile(r"\b(not|never|no|nothing|avoid|don't|without)\b", re.IGNORECASE)

FEATURES = 1 + 1 + 1 + _ENTITIES * (2 * len(_PARTS) + 5 + 2 * _TASK_WORDS)


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """Features of the actions of some prompts.

    `index` holds bucket numbers, shape [actions, FEATURES], and LABEL_FEATURES more if there are labels; 0 where a
    feature is absent. `starts` is the first action of each prompt, shape [prompts].
    """

    index: npt.NDArray[np.int32]
    starts: Ints

    def counts(self) -> Ints:
        """Returns the number of actions of each prompt."""
        return np.diff(np.append(self.starts, len(self.index)))


class Featurizer:
    """Computes the features of prompts, hashed to `buckets` numbers; caches the words of texts, which recur."""

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets
        self._ids: dict[str, int] = {}  # of words
        self._hashes: list[int] = []  # of words, by id
        self._word_ids: dict[str, Ints] = {}  # by text
        self._label_buckets: dict[str, int] = {}
        self._actions: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}

    def __call__(self, prompts: Sequence[Prompt]) -> FeatureBatch:
        """Returns the features of all admissible actions of all prompts, in order."""
        verbs, names, kinds, rows = self._action_arrays(prompts)
        words, parts = self._part_words(prompts)
        name_bits, kind_bits = self._part_masks(words, parts, rows[:, None], names, kinds)
        progress, task_words = self._task_context(prompts)
        index = self._crosses(verbs, kinds, name_bits, kind_bits, progress[rows], task_words[rows])
        if any(prompt.labels for prompt in prompts):
            index = np.concatenate([index, self._label_columns(prompts)], axis=1)
        starts = np.cumsum([0, *(len(p.actions) for p in prompts[:-1])], dtype=np.int64)
        return FeatureBatch(index, starts)

    def _crosses(
        self, verbs: Ints, kinds: Ints, name_bits: Ints, kind_bits: Ints, progress: _Hashes, task_words: Ints
    ) -> npt.NDArray[np.int32]:
        """Returns bucket numbers of the crossed features, shape [actions, FEATURES].

        All arguments are by action; those of entities (types, and the masks of names and types) have a column for each.
        """
        table = np.array(self._hashes, dtype=np.uint64)  # by word id
        verb = table[verbs]
        in_task = (kind_bits & _BIT["task"] > 0) @ (1 << np.arange(_ENTITIES))
        columns = [_mix(verb, 1), _mix(verb, 2, progress), _mix(verb, 3, progress, in_task)]
        present = [np.ones(len(verb), dtype=bool)] * 3
        for entity in range(_ENTITIES):
            exists = kinds[:, entity] >= 0
            kind = table[kinds[:, entity]]
            mask = name_bits[:, entity] | kind_bits[:, entity] << len(_PARTS)
            advice = mask & _ADVICE
            columns += [
                _mix(verb, 10 + entity, mask),  # all parts that name the entity or its type
                _mix(verb, 20 + entity, mask, progress),
                _mix(verb, 30 + entity, kind, progress),  # the type itself
                _mix(verb, 60 + entity, advice),  # only the parts that decide whether to follow a skill
                _mix(verb, 70 + entity, advice, progress),
            ]
            present += [exists] * 5
            for bit in range(2 * len(_PARTS)):
                columns.append(_mix(verb, 100 + 100 * entity + bit))
                present.append(exists & (mask >> bit & 1 > 0))
            for position in range(_TASK_WORDS):
                word = table[task_words[:, position]]
                known = exists & (task_words[:, position] >= 0)
                columns += [_mix(verb, 40 + entity, kind, word), _mix(verb, 50 + entity, kind, word, progress)]
                present += [known, known]
        hashed = np.stack(columns, axis=1) % np.uint64(self._buckets - 1) + np.uint64(1)
        return np.where(np.stack(present, axis=1), hashed, 0).astype(np.int32)

    def _label_columns(self, prompts: Sequence[Prompt]) -> npt.NDArray[np.int32]:
        """Returns bucket numbers of label features, shape [actions, LABEL_FEATURES]."""
        rows = label_features(prompts)
        index = np.zeros((len(rows), LABEL_FEATURES), dtype=np.int32)
        for row, features in enumerate(rows):
            for column, feature in enumerate(features):
                index[row, column] = self._label_bucket(f"{column} {feature}")
        return index

    def _label_bucket(self, feature: str) -> int:
        bucket = self._label_buckets.get(feature)
        if bucket is None:
            bucket = self._label_buckets[feature] = _hash(feature) % (self._buckets - 1) + 1
        return bucket

    def _task_context(self, prompts: Sequence[Prompt]) -> tuple[_Hashes, Ints]:
        """Returns the progress [P] of each prompt as a hash, and the word ids [P, _TASK_WORDS] of its task."""
        progress = np.zeros(len(prompts), dtype=np.uint64)
        words = np.full((len(prompts), _TASK_WORDS), -1, dtype=np.int64)
        for row, prompt in enumerate(prompts):
            progress[row] = _progress(prompt)
            ids = [self._id(word) for word in sorted(content(prompt.task))[:_TASK_WORDS]]
            words[row, : len(ids)] = ids
        return progress, words

    def _action_arrays(self, prompts: Sequence[Prompt]) -> tuple[Ints, Ints, Ints, Ints]:
        """Returns verb ids [A], entity name and type ids [A, _ENTITIES] (-1 for none), and the prompt index [A]."""
        parsed = [self._action(action) for prompt in prompts for action in prompt.actions]
        verbs = np.array([verb for verb, _, _ in parsed], dtype=np.int64)
        names = np.array([names for _, names, _ in parsed], dtype=np.int64).reshape(-1, _ENTITIES)
        kinds = np.array([kinds for _, _, kinds in parsed], dtype=np.int64).reshape(-1, _ENTITIES)
        rows = np.repeat(np.arange(len(prompts)), [len(prompt.actions) for prompt in prompts])
        return verbs, names, kinds, rows

    def _part_words(self, prompts: Sequence[Prompt]) -> tuple[list[Ints], list[tuple[int, int]]]:
        """Returns the word ids of each text of each prompt, and the prompt index and part bit that go with them."""
        words: list[Ints] = []
        parts: list[tuple[int, int]] = []

        def add(row: int, part: str, text: str) -> None:
            words.append(self._text_ids(text))
            parts.append((row, _BIT[part]))

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
                    relation = _relation(skill, prompt.task)
                    advised, advised_against = _split_advice(skill)
                    add(row, f"{name}_{relation}", advised)
                    if advised_against and relation == "about":
                        add(row, "advised_against", advised_against)
        return words, parts

    def _part_masks(
        self, words: list[Ints], parts: list[tuple[int, int]], prompts: Ints, names: Ints, kinds: Ints
    ) -> tuple[Ints, Ints]:
        """Returns masks of the parts of an action's prompt that name its entities, and that name their types.

        Both have the shape of `names` and `kinds`, [A, _ENTITIES], and are 0 for an absent entity (-1).
        """
        wanted = np.concatenate([names.ravel(), kinds.ravel()])
        used = np.unique(wanted[wanted >= 0])
        column = np.full(len(self._ids) + 1, -1, dtype=np.int64)
        column[used] = np.arange(len(used))
        bits = np.zeros((parts[-1][0] + 1, len(used) + 1), dtype=np.int64)
        flat = column[np.concatenate(words)]
        lengths = [len(ids) for ids in words]
        rows = np.repeat([row for row, _ in parts], lengths)
        part_bits = np.repeat([bit for _, bit in parts], lengths)
        hit = flat >= 0
        np.bitwise_or.at(bits, (rows[hit], flat[hit]), part_bits[hit])
        return bits[prompts, column[names]], bits[prompts, column[kinds]]

    def _id(self, word: str) -> int:
        number = self._ids.get(word)
        if number is None:
            number = self._ids[word] = len(self._ids)
            self._hashes.append(_hash(word))
        return number

    def _text_ids(self, text: str) -> Ints:
        """Returns the ids of names and types of all entities in a text."""
        ids = self._word_ids.get(text)
        if ids is None:
            if len(self._word_ids) > _CACHED_TEXTS:
                self._word_ids.clear()
            numbers = {self._id(word) for entity in entities(text) for word in (entity.name, entity.kind)}
            ids = self._word_ids[text] = np.array(sorted(numbers), dtype=np.int64)
        return ids

    def _action(self, action: str) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """Returns the ids of an action's verb, and of the names and types of its entities."""
        ids = self._actions.get(action)
        if ids is None:
            if len(self._actions) > _CACHED_TEXTS:
                self._actions.clear()
            words = action_words(action)
            named = words.entities[:_ENTITIES]
            rest = (-1,) * (_ENTITIES - len(named))
            names = tuple(self._id(entity.name) for entity in named) + rest
            kinds = tuple(self._id(entity.kind) for entity in named) + rest
            ids = self._actions[action] = (self._id(words.verb), names, kinds)
        return ids


def _progress(prompt: Prompt) -> int:
    """Returns a hash of the verbs already used on entities that the task names, and of the last two of them."""
    task = content(prompt.task)
    verbs: list[str] = []
    for _, action in prompt.history:
        words = action_words(action)
        if any(entity.kind in task for entity in words.entities) and (not verbs or verbs[-1] != words.verb):
            verbs.append(words.verb)
    return _hash(" ".join([*sorted(set(verbs)), "|", *verbs[-2:]]))


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


def _hash(word: str) -> int:
    """Returns a hash of 64 bits that is the same in every process."""
    data = word.encode()
    return zlib.crc32(data) | zlib.crc32(data, 0x9E3779B9) << 32


def _mix(first: _Hashes, salt: int, *others: _Hashes | Ints) -> _Hashes:
    """Returns hashes combined with a number (`salt`) and with each other, element by element."""
    value = _stir(first ^ np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64))
    for other in others:
        value = _stir(value ^ other.astype(np.uint64))
    return value


def _stir(value: _Hashes) -> _Hashes:
    """Returns hashes with their bits spread: a multiply-xorshift step."""
    value = value * np.uint64(0xBF58476D1CE4E5B9)
    return value ^ value >> np.uint64(29)
