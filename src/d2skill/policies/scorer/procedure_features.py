"""Features of actions for a prompt whose first task skill is a procedure: is it the next act, does it lead there?

An action is `next` if it is the act that comes next, `leads` if it names nothing but things of that act, such as going
to the microwave before heating something with it, `later` if it is an act that comes after the next one, and `again` if
it gets a thing that was got already. Of a procedure of choices, a choice `leads` if the task names it as it names the
last one, and any other action is `before` if such a choice, or the next, is still to be made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from d2skill.knowledge.choices import ASKED, general_choice, until
from d2skill.knowledge.procedures import acts_in, choices_in
from d2skill.policies.scorer.hashes import Hashes, mix, stir, word_hash
from d2skill.policies.scorer.prompt_words import ENTITIES, Ints, ParsedActions
from d2skill.types import Prompt

PROCEDURE_FEATURES = 3
_LATER = 6
"""Acts after the next one that are looked at"""
_KINDS = 2
"""Things of an act that are looked at"""
_GOT = 3
"""Things that were got that are looked at"""
_NEXT, _LEADS, _ANY_LATER, _FINISHED, _AGAIN, _BEFORE = 1, 2, 4, 8, 16, 32


class PendingActs(NamedTuple):
    """Acts that are still to be played, by prompt.

    Hashes of verbs, shape [P, 1 + _LATER], 0 for none, and ids of the types of their things, shape [P, 1 + _LATER,
    _KINDS], -1 for none. `done` is the number of acts played, [P], -1 where no procedure is followed. `getting` has
    hashes of the verbs that get things, [P], and `got` ids of the names of things that were got, [P, _GOT].
    """

    verbs: Hashes
    kinds: Ints
    done: Ints
    getting: Hashes
    got: Ints


def pending_acts(prompts: Sequence[Prompt], word_id: Callable[[str], int]) -> PendingActs | None:
    """Returns the acts that are still to be played in prompts; None if no prompt follows a procedure."""
    followed = [at for at, prompt in enumerate(prompts) if prompt.acts_done >= 0 and prompt.task_skills]
    if not followed:
        return None
    verbs = np.zeros((len(prompts), 1 + _LATER), dtype=np.uint64)
    kinds = np.full((len(prompts), 1 + _LATER, _KINDS), -1, dtype=np.int64)
    done = np.full(len(prompts), -1, dtype=np.int64)
    getting = np.zeros(len(prompts), dtype=np.uint64)
    got = np.full((len(prompts), _GOT), -1, dtype=np.int64)
    for at in followed:
        prompt = prompts[at]
        if not (acts := acts_in(prompt.task_skills[0].text.principle)):
            continue
        done[at] = prompt.acts_done
        getting[at] = word_hash(acts[0].verb)
        names = prompt.got[-_GOT:]
        got[at, : len(names)] = [word_id(name) for name in names]
        for place, act in enumerate(acts[prompt.acts_done : prompt.acts_done + 1 + _LATER]):
            verbs[at, place] = word_hash(act.verb)
            named = sorted(act.kinds)[:_KINDS]
            kinds[at, place, : len(named)] = [word_id(kind) for kind in named]
    return PendingActs(verbs, kinds, done, getting, got)


def procedure_codes(acts: PendingActs, of: Ints, actions: ParsedActions) -> Ints:
    """Returns for each action its relation to the acts as bits, -1 where no procedure is followed, shape [A].

    Args:
        acts: Acts of the prompts.
        of: Prompt of each action, shape [A].
        actions: Words of the actions.
    """
    own = actions.ids[:, ENTITIES:]  # [A, ENTITIES]
    wanted = acts.kinds[of]  # [A, acts, _KINDS]
    named = ((wanted[..., None] == own[:, None, None, :]).any(axis=-1) | (wanted < 0)).all(axis=-1)
    fits = named & (acts.verbs[of] == actions.verbs[:, None])
    names = actions.ids[:, 0]
    again = (names >= 0) & (names[:, None] == acts.got[of]).any(axis=1) & (actions.verbs == acts.getting[of])
    following = fits[:, 0] & ~again
    within = ((own[:, :, None] == wanted[:, None, 0, :]).any(axis=-1) | (own < 0)).all(axis=1) & (own[:, 0] >= 0)
    finished = acts.verbs[of, 0] == 0
    leads = within & ~following & (acts.done[of] > 0) & ~finished
    later = fits[:, 1:].any(axis=1)
    codes = following * _NEXT + leads * _LEADS + later * _ANY_LATER + finished * _FINISHED + again * _AGAIN
    return np.where(acts.done[of] < 0, -1, codes)


def choice_codes(prompts: Sequence[Prompt], codes: Ints) -> None:
    """Sets the relations of the actions of prompts that follow a procedure of choices, given codes, shape [A]."""
    end = 0
    for prompt in prompts:
        start, end = end, end + len(prompt.actions)
        principle = prompt.task_skills[0].text.principle if prompt.task_skills and prompt.acts_done >= 0 else ""
        if steps := choices_in(principle):
            told = steps, prompt.acts_done, prompt.got, prompt.task, prompt.actions, prompt.forms
            codes[start:end] = _choice_codes(*told)


@lru_cache(maxsize=2**12)
def _choice_codes(
    steps: tuple[str, ...],
    done: int,
    made: tuple[str, ...],
    task: str,
    actions: tuple[str, ...],
    forms: tuple[str, ...],
) -> tuple[int, ...]:
    """Returns the relation of each action to the steps of a procedure, of which some are done."""
    done = min(done, len(steps))
    end = until(steps, done)
    chosen = {general_choice(action, task, forms) for action in made}
    following = [step for at, step in enumerate(steps[done:end]) if at == 0 or step not in chosen]
    former = steps[done - 1] if done and steps[done - 1].endswith(ASKED) else ""
    codes = []
    for action in actions:
        step = general_choice(action, task, forms)
        code = (step in following) * _NEXT | (step == former) * _LEADS | (step in steps[end:]) * _ANY_LATER
        codes.append(_AGAIN if action in made else code | (done == len(steps)) * _FINISHED)
    still = [code & (_NEXT | _LEADS) for code in codes]
    first = _LEADS if _LEADS in still else _NEXT if _NEXT in still else 0
    return tuple(code | (_BEFORE if first and not code & first else 0) for code in codes)


def procedure_keys(codes: Ints, verbs: Hashes) -> Hashes:
    """Returns the keys of the blocks of actions, 0 where no procedure is followed, given codes and verbs, shape [A]."""
    return np.where(codes < 0, np.uint64(0), stir(verbs ^ mix(np.full(len(codes), 7, np.uint64), 200, codes)))


def procedure_features(codes: Ints, verbs: Hashes) -> Hashes:
    """Returns hashes of features, shape [n, PROCEDURE_FEATURES], given codes and verbs [n]."""
    ones = np.ones(len(codes), dtype=np.uint64)
    step = codes & ~_ANY_LATER
    ahead = codes & ~_LEADS
    return np.stack([mix(verbs, 201, step), mix(ones, 202, step), mix(ones, 203, ahead)], axis=1)
