"""The bank's half of an iteration, which every engine shares: counts, utilities, reflection, insertion (Eq. 3, 7)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from d2skill import credit
from d2skill.bank import Draft, SkillBank
from d2skill.config import ReflectConfig
from d2skill.credit import Hindsight
from d2skill.errors import ReflectionFault
from d2skill.protocols import Reflector, Signs
from d2skill.rng import generator
from d2skill.types import Group, Reflection, Trajectory


@dataclass(frozen=True, slots=True)
class BankUpdate:
    """What an iteration did to the bank.

    Skills credited, groups reflected on and reflections that failed; drafts that were added (on trial, if skills have
    one), refused, or held back; trials that ended with the skill in the bank, and out of it.
    """

    credited: int
    reflected: int
    failed: int
    added: int
    refused: int
    held: int = 0
    promoted: int = 0
    dropped: int = 0


class Learner:
    """Turns the groups of an iteration into a better bank.

    The result does not depend on the order in which trajectories finished: counts are sums, credits are order-free,
    and drafts are inserted in the order of their task ids.
    """

    def __init__(self, bank: SkillBank, reflector: Reflector, reflect: ReflectConfig) -> None:
        self.bank = bank
        self._reflector = reflector
        self._reflect = reflect

    def observe(
        self,
        groups: Sequence[Group],
        hindsights: Sequence[Hindsight],
        *,
        iteration: int,
        seed: int,
        effects: Mapping[str, Sequence[tuple[float, bool]]] | None = None,
    ) -> BankUpdate:
        """Counts retrievals, moves utilities, ends trials, reflects on failures and inserts what is new.

        New skills are in the bank when this returns, so they are seen from the next iteration on. What happens to the
        bank is one record of it, with the `effects` that a probe found.
        """
        with self.bank.batch(iteration):
            self.bank.probed(effects or {})
            return self._observe(groups, hindsights, iteration, seed)

    def _observe(
        self, groups: Sequence[Group], hindsights: Sequence[Hindsight], iteration: int, seed: int
    ) -> BankUpdate:
        policy = {"policy": f"after {iteration} updates"}
        played = " ".join(t.name for group in groups for t in group.half("skills"))
        self.bank.count_retrievals(_shown(groups), origin=policy | {"trajectories": played})
        on_trial = {skill.id for skill in self.bank.skills(status="trial")}
        signals = credit.signals(groups, hindsights, on_trial)
        self.bank.credit(
            {skill_id: [signal.value for signal in own] for skill_id, own in signals.items()},
            {skill_id: [signal.source for signal in own] for skill_id, own in signals.items()},
            origin=policy,
        )
        promoted, dropped = self.bank.settle(iteration)
        chosen = self._choose(groups, hindsights, iteration, seed)
        drafts: list[Draft] = []
        pairs: list[tuple[Trajectory, Trajectory | None]] = []
        for group in chosen:
            failure, success = _contrasted(group, generator(seed, "reflect", iteration, group.task.id))
            try:
                drafts += drafts_from(self._reflector.reflect(failure, success), failure)
            except ReflectionFault:
                continue
            pairs.append((failure, success))
        failed = len(chosen) - len(pairs)
        inserted = self.bank.insert(drafts, iteration, origin=policy | self._origin(pairs))
        refused = sum(result.skill is None for result in inserted)
        held = sum(result.reason.startswith("held") for result in inserted)
        return BankUpdate(
            credited=len(signals),
            reflected=len(chosen),
            failed=failed,
            added=len(inserted) - refused - held,
            refused=refused,
            held=held,
            promoted=len(promoted),
            dropped=len(dropped),
        )

    def _choose(
        self, groups: Sequence[Group], hindsights: Sequence[Hindsight], iteration: int, seed: int
    ) -> list[Group]:
        """Returns at most R groups whose skill half fell short of τ_ref, drawn at random, in order of task ids."""
        weak = [
            group
            for group, seen in zip(groups, hindsights, strict=True)
            if seen.skilled is not None and seen.skilled < self._reflect.threshold and _failures(group)
        ]
        weak.sort(key=lambda group: group.task.id)
        if len(weak) > self._reflect.max_groups:
            rng = generator(seed, "reflect", iteration)
            picks = sorted(rng.choice(len(weak), self._reflect.max_groups, replace=False).tolist())
            weak = [weak[i] for i in picks]
        return weak

    def _origin(self, pairs: Sequence[tuple[Trajectory, Trajectory | None]]) -> dict[str, str]:
        """Returns who wrote, and what was reflected on."""
        return {
            "reflector": re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(self._reflector).__name__).lower(),
            **(self._reflector.origin if isinstance(self._reflector, Signs) else {}),
            "split": " ".join(sorted({failure.task.split for failure, _ in pairs})),
            "trajectories": " ".join(failure.name for failure, _ in pairs),
            "successes": " ".join(success.name for _, success in pairs if success),
        }


def _contrasted(group: Group, rng: np.random.Generator) -> tuple[Trajectory, Trajectory | None]:
    """Draws one failed skill trajectory and, if there is one, a success of either half (Eq. 7)."""
    failures = _failures(group)
    successes = [t for t in (*group.half("skills"), *group.half("none")) if t.success and t.turns]
    failure = failures[int(rng.integers(len(failures)))]
    return failure, successes[int(rng.integers(len(successes)))] if successes else None


def _failures(group: Group) -> list[Trajectory]:
    """Returns what of the skill half can be reflected on: failures of the policy, not of the environment."""
    return [t for t in group.half("skills") if not t.success and t.turns and not t.fault]


def drafts_from(reflection: Reflection, failure: Trajectory) -> list[Draft]:
    """Keys a reflection: the task skill by the task, the step skill by task and observation of the failing step."""
    task = failure.task
    step = min(max(reflection.failing_step, 0), len(failure.turns) - 1)
    observation = failure.turns[step].prompt.observation
    drafts = []
    if reflection.task_skill is not None:
        drafts.append(Draft("task", reflection.task_skill, task.text, "", task.id))
    if reflection.step_skill is not None:
        drafts.append(Draft("step", reflection.step_skill, task.text, observation, task.id))
    return drafts


def _shown(groups: Sequence[Group]) -> dict[str, int]:
    """Returns how often each skill was put before the policy: a task skill once an episode, a step skill each step."""
    counts: Counter[str] = Counter()
    for group in groups:
        for trajectory in group.half("skills"):
            task_ids = {skill.id for turn in trajectory.turns for skill in turn.prompt.task_skills}
            counts.update(task_ids)
            for turn in trajectory.turns:
                counts.update(skill.id for skill in turn.prompt.step_skills)
    return dict(counts)
