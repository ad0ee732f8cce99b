"""Features of admissible actions for the scorer: hashed crosses of an action's words with the parts of the prompt.

An action has a verb and entities, such as "put", "mug 1" and "desk 2". For each entity, a bit mask has a bit for each
part of the prompt that names it, and a bit for each part that names its type ("mug"). Crossed, that is hashed together
into one bucket, are the verb, the place of the entity in the action, and this mask, as a whole and bit by bit. Since
skills are parts of the prompt, the policy can learn to follow a skill that names an entity. Crosses with the words of
the task let it learn which actions go with which tasks, crosses with the progress of the episode an order of actions.
The features of a prompt do not depend on the rest of the batch.

They come in blocks, which are stored in a table: one of the action's verb and types in its task and progress, one of
each entity and its mask, one of the action's label, one of its part in the procedure that the prompt shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from d2skill.policies.scorer.feature_table import FeatureBatch, FeatureTable
from d2skill.policies.scorer.hashes import Hashes, digest, mix, stir, word_hash
from d2skill.policies.scorer.label_features import LABEL_FEATURES, LabelKey, label_features, label_keys
from d2skill.policies.scorer.procedure_features import (
    PROCEDURE_FEATURES,
    choice_codes,
    pending_acts,
    procedure_codes,
    procedure_features,
    procedure_keys,
)
from d2skill.policies.scorer.prompt_words import (
    BIT,
    ENTITIES,
    PART_BITS,
    TASK_WORDS,
    Ints,
    ParsedActions,
    PromptWords,
    WordReader,
)
from d2skill.types import Prompt

Bools = npt.NDArray[np.bool_]

# The bits that decide whether to follow a skill: whether it names the entity itself, whether the entity was tried
# already, and whether the task and its skills name the type (those bits stand behind the bits of entities).
_ADVICE = (
    sum(BIT[part] for part in ("step_skill_about", "advised_against", "past_action", "last_action"))
    | (BIT["task"] | BIT["task_skill_about"]) << PART_BITS
)
_ACTION_BLOCK = 3 + ENTITIES * (1 + 2 * TASK_WORDS)
_ENTITY_BLOCK = 4 + 2 * PART_BITS
FEATURES = _ACTION_BLOCK + ENTITIES * _ENTITY_BLOCK
"""Features of an action without a label"""
_MASK_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Spreads a mask over a key"""
_KEPT_ROWS = 2**18
"""Rows of the table"""
_KEPT_PROMPTS = 2**15
"""Prompts whose features are kept"""


class ExportedFeatures(NamedTuple):
    """Features of prompts in a form that does not depend on a table.

    Keys of the rows of each action, shape [actions, blocks], and keys [n] and buckets [n, features] of new rows.
    """

    keys: Hashes
    new_keys: Hashes
    new_buckets: npt.NDArray[np.int32]


class Featurizer:
    """Computes the features of prompts, hashed to `buckets` numbers.

    Those of the latest prompts are kept, since an update asks for what was computed to act.
    """

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets
        self._reader = WordReader()
        self._begin_table()

    def _begin_table(self) -> None:
        self._table = FeatureTable((_ACTION_BLOCK, *[_ENTITY_BLOCK] * ENTITIES, LABEL_FEATURES, PROCEDURE_FEATURES))
        self._recent: dict[int, tuple[Prompt, Ints]] = {}  # by identity; a prompt that is held keeps its id
        self._labels: dict[LabelKey, int] = {}  # keys of their blocks
        self._exported = 0  # rows

    def __call__(self, prompts: Sequence[Prompt]) -> FeatureBatch:
        """Returns the features of all admissible actions of all prompts, in order."""
        if self._table.size > _KEPT_ROWS:
            self._begin_table()
        starts = np.cumsum([0, *(len(prompt.actions) for prompt in prompts[:-1])], dtype=np.int64)
        new = [prompt for prompt in prompts if id(prompt) not in self._recent]
        if new:
            rows, end = self._compute(new), 0
            for prompt in new:
                start, end = end, end + len(prompt.actions)
                self._recent[id(prompt)] = prompt, rows[start:end]
        if len(new) < len(prompts):
            rows = np.concatenate([self._recent[id(prompt)][1] for prompt in prompts])
        for oldest in list(islice(self._recent, max(0, len(self._recent) - _KEPT_PROMPTS))):
            del self._recent[oldest]
        return FeatureBatch(self._table, rows, starts)

    def forget_prompts(self) -> None:
        """Drops the prompts whose features are kept."""
        self._recent.clear()

    def export(self, prompts: Sequence[Prompt], *, whole: bool) -> ExportedFeatures:
        """Returns the features of prompts for the featurizer of another process, and forgets the prompts.

        Args:
            prompts: The prompts.
            whole: Export all rows of the table, not only those that are new since the last time.
        """
        batch = self(prompts)
        self.forget_prompts()
        start, self._exported = 0 if whole else self._exported, batch.table.size
        return ExportedFeatures(batch.table.keys[batch.rows], batch.table.keys[start:], batch.table.buckets[start:])

    def adopt(self, prompts: Sequence[Prompt], features: ExportedFeatures) -> bool:
        """Keeps the features of prompts that another featurizer exported; returns False if rows are missing."""
        new = np.flatnonzero(self._table.find(features.new_keys) < 0)
        self._table.add(features.new_keys[new], features.new_buckets[new])
        rows = self._table.find(features.keys)
        if (rows < 0).any():
            return False
        end = 0
        for prompt in prompts:
            start, end = end, end + len(prompt.actions)
            self._recent[id(prompt)] = prompt, rows[start:end]
        return True

    def _compute(self, prompts: Sequence[Prompt]) -> Ints:
        """Returns the rows of all actions in the table, shape [actions, blocks], after adding new blocks to it."""
        self._reader.forget_old()
        words, actions = self._reader.read(prompts), self._reader.actions(prompts)
        of = np.repeat(np.arange(len(prompts)), [len(prompt.actions) for prompt in prompts])
        bits = self._reader.parts_naming(words, of, actions)
        masks = bits[:, :ENTITIES] | bits[:, ENTITIES:] << PART_BITS
        present = actions.ids[:, ENTITIES:] >= 0
        # The key of a block is a sum of hashes of all that it depends on.
        progress = np.array([own.key for own in words.progress], dtype=np.uint64)
        contexts = np.array([task.key for task in words.tasks], dtype=np.uint64) + progress
        keys = actions.keys + np.stack([contexts, *[progress] * ENTITIES], axis=1).take(of, axis=0)
        keys[:, 1:] += masks.astype(np.uint64) * _MASK_FACTOR
        keys[:, 1:] *= present
        rows = self._table.find(keys)
        if len(missing := np.flatnonzero(rows < 0)):
            new, first = np.unique(keys.ravel()[missing], return_index=True)
            action, block = np.divmod(missing[first], keys.shape[1])
            self._table.add(new, self._blocks(words, of[action], actions, action, block, masks))
            rows.ravel()[missing] = self._table.find(keys.ravel()[missing])
        labels = (
            self._label_blocks(prompts) if any(prompt.labels for prompt in prompts) else np.zeros(len(of), np.int64)
        )
        procedure = self._procedure_blocks(prompts, of, actions)
        return np.concatenate([rows, labels[:, None], procedure[:, None]], axis=1)

    def _blocks(
        self, words: PromptWords, of: Ints, actions: ParsedActions, action: Ints, block: Ints, masks: Ints
    ) -> Ints:
        """Returns the buckets of some blocks, shape [n, widest block].

        Args:
            words: Words of all prompts.
            of: Prompt of each block, shape [n].
            actions: Words of all actions.
            action: Action of each block, shape [n].
            block: Number of each block among those of its action, not that of a label, shape [n].
            masks: Masks of the entities of all actions, shape [A, ENTITIES].
        """
        verbs = actions.verbs[action]
        progress = np.array([own.hash for own in words.progress], dtype=np.uint64)[of]
        buckets = np.zeros((len(action), max(_ACTION_BLOCK, _ENTITY_BLOCK)), dtype=np.int64)
        if len(at := np.flatnonzero(block == 0)):
            own, crossed = action[at], np.array([task.crossed for task in words.tasks])[of[at]]
            in_task = (masks[own] >> PART_BITS & BIT["task"] > 0) @ (1 << np.arange(ENTITIES))
            present = actions.ids[own, ENTITIES:] >= 0
            cells = _action_block(verbs[at], actions.kinds[own], present, in_task, progress[at], crossed)
            buckets[at, :_ACTION_BLOCK] = self._bucket(*cells)
        if len(at := np.flatnonzero(block)):
            entities = block[at] - 1
            cells = _entity_block(verbs[at], entities, masks[action[at], entities], progress[at])
            buckets[at, :_ENTITY_BLOCK] = self._bucket(*cells)
        return buckets

    def _bucket(self, hashes: Hashes, present: Bools) -> Ints:
        """Returns the bucket of each hash, from 1 on, and 0 for a feature that is not present."""
        return np.where(present, hashes % np.uint64(self._buckets - 1) + np.uint64(1), 0).astype(np.int64)

    def _label_blocks(self, prompts: Sequence[Prompt]) -> Ints:
        """Returns the rows of the labels of all actions, 0 for none, shape [actions], after adding new blocks."""
        labels = [label for prompt in prompts for label in label_keys(prompt)]
        blocks: dict[int, list[int]] = {}
        for label in set(labels).difference(self._labels):
            features = [f"{column} {feature}" for column, feature in enumerate(label_features(label))]
            self._labels[label] = key = digest("label", *features) if features else 0
            if features:
                blocks[key] = [word_hash(feature) % (self._buckets - 1) + 1 for feature in features]
        if blocks:
            self._table.add(np.array([*blocks], dtype=np.uint64), np.array([*blocks.values()]))
        return self._table.find(np.array([self._labels[label] for label in labels], dtype=np.uint64))

    def _procedure_blocks(self, prompts: Sequence[Prompt], of: Ints, actions: ParsedActions) -> Ints:
        """Returns the rows of the procedure of all actions, 0 for none, shape [actions], after adding new blocks."""
        acts = pending_acts(prompts, self._reader.word_id)
        if acts is None:
            return np.zeros(len(of), np.int64)
        codes = procedure_codes(acts, of, actions)
        choice_codes(prompts, codes)
        keys = procedure_keys(codes, actions.verbs)
        if len(missing := np.flatnonzero(self._table.find(keys) < 0)):
            new, first = np.unique(keys[missing], return_index=True)
            hashes = procedure_features(codes[missing[first]], actions.verbs[missing[first]])
            self._table.add(new, self._bucket(hashes, np.ones(hashes.shape, dtype=bool)))
        return self._table.find(keys)


def _action_block(
    verbs: Hashes, kinds: Hashes, present: Bools, in_task: Ints, progress: Hashes, crossed: Hashes
) -> tuple[Hashes, Bools]:
    """Returns the features of actions in their tasks: hashes, shape [n, _ACTION_BLOCK], and which are present.

    Args:
        verbs: Hashes of the verbs, shape [n].
        kinds: Hashes of the types of the entities, shape [n, ENTITIES].
        present: True for entities that exist, shape [n, ENTITIES].
        in_task: Bits of the entities whose types the task names, shape [n].
        progress: Hashes of the progress, shape [n].
        crossed: Hashes of words of the task, shape [n, TASK_WORDS], 0 for none.
    """
    whole = np.stack([mix(verbs, 1), mix(verbs, 2, progress), mix(verbs, 3, progress, in_task)], axis=1)
    verb, place, progress = verbs[:, None], np.arange(ENTITIES), progress[:, None]
    pairs = stir(mix(verb, 40 + place, kinds)[:, :, None] ^ crossed[:, None])
    triples = stir(stir(mix(verb, 50 + place, kinds)[:, :, None] ^ crossed[:, None]) ^ progress[:, :, None])
    by_entity = np.concatenate([mix(verb, 30 + place, kinds, progress)[:, :, None], pairs, triples], axis=2)
    known = np.concatenate([np.ones((len(verbs), 1), dtype=bool), *[crossed > 0] * 2], axis=1)
    hashes = np.concatenate([whole, by_entity.reshape(len(verbs), -1)], axis=1)
    exists = (present[:, :, None] & known[:, None]).reshape(len(verbs), -1)
    return hashes, np.concatenate([np.ones(whole.shape, dtype=bool), exists], axis=1)


def _entity_block(verbs: Hashes, entities: Ints, masks: Ints, progress: Hashes) -> tuple[Hashes, Bools]:
    """Returns the features of entities in their prompts: hashes, shape [n, _ENTITY_BLOCK], and which are present.

    Args:
        verbs: Hashes of the verbs of their actions, shape [n].
        entities: Their places in the actions, shape [n].
        masks: Bits of the parts that name them, and behind these of the parts that name their types, shape [n].
        progress: Hashes of the progress, shape [n].
    """
    advice, bits = masks & _ADVICE, np.arange(2 * PART_BITS)
    whole = [
        mix(verbs, 10 + entities, masks),  # all parts that name the entity or its type
        mix(verbs, 20 + entities, masks, progress),
        mix(verbs, 60 + entities, advice),  # only the parts that decide whether to follow a skill
        mix(verbs, 70 + entities, advice, progress),
    ]
    by_bit = mix(verbs[:, None], 100 + 100 * entities[:, None] + bits)
    present = np.concatenate([np.ones((len(verbs), len(whole)), dtype=bool), masks[:, None] >> bits & 1 > 0], axis=1)
    return np.concatenate([np.stack(whole, axis=1), by_bit], axis=1), present
