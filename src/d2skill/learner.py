"""The bank's half of an iteration, shared by all engines: counts, utilities, evidence or reflection (Eq. 3, 7).

With consolidated skills the evidence of all groups is counted, and a reflector that is given groups edits the bank.
With the paper's, failures are reflected on and their drafts inserted.

Reflection reads the trajectories and nothing that changes afterwards. So it can begin as soon as the rollouts have
ended, and a slow reflector works beside the policy update.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
from time import perf_counter

import numpy as np

from d2skill import credit
from d2skill.bank import Draft, SkillBank
from d2skill.bank.answer_guard import AnswerGuard
from d2skill.config import ReflectConfig
from d2skill.credit import Hindsight
from d2skill.errors import ConfigError, ReflectionFault
from d2skill.knowledge.edits import Question, as_evidence
from d2skill.knowledge.evidence import gather
from d2skill.protocols import BatchReflector, GroupReflector, HasOrigin, KnowsAnswers, Reflector
from d2skill.reflectors import ContrastReflector
from d2skill.types import Edit, Group, Reflection, Trajectory
from d2skill.utils.rng import generator
from d2skill.utils.text import short

Pair = tuple[Trajectory, Trajectory | None]
"""A failure and, if there is one, a success of its group."""


@dataclass(frozen=True, slots=True)
class BankUpdate:
    """Changes of the bank in an iteration, as counts.

    Skills credited, groups reflected on and reflections that failed; drafts that were added (on trial, if skills have
    one), refused, or held back; trials that ended with the skill in the bank, and out of it. Of consolidated skills
    those that evidence supports and refutes, and those merged into a shorter one; None for the paper's. Texts that held
    an answer of their own task, without which they entered the bank or for which they did not; None where the
    environment does not tell its answers.
    """

    credited: int
    reflected: int
    failed: int
    added: int
    refused: int
    held: int = 0
    promoted: int = 0
    dropped: int = 0
    supported: int | None = None
    refuted: int | None = None
    merged: int | None = None
    with_answer: int | None = None


class PendingReflections:
    """The reflections of an iteration: on pairs for drafts, or on groups for edits.

    A reflector that `runs_beside_update` already works on them, in a thread, which holds up neither an interrupt nor
    the end of the program. `seconds` is the time of the reflector, once it is done.
    """

    def __init__(self, reflector: Reflector, pairs: Sequence[Pair] = (), questions: Sequence[Question] = ()) -> None:
        self.pairs = tuple(pairs)
        self.questions = tuple(questions)
        self.seconds = 0.0
        self._reflector = reflector
        self._reflections: list[Reflection | None] = []
        self._edits: list[list[Edit] | None] = []
        self._error: BaseException | None = None
        self._ran = False
        self._thread: Thread | None = None
        if isinstance(reflector, BatchReflector) and reflector.runs_beside_update:
            self._thread = Thread(target=self._run, name="reflect", daemon=True)
            self._thread.start()

    def reflections(self) -> list[Reflection | None]:
        """Returns a reflection for each pair, None where there is no answer; raises what the reflector raised."""
        self._wait()
        return self._reflections

    def edits(self) -> list[list[Edit] | None]:
        """Returns the edits for each question, None where there is no answer; raises what the reflector raised."""
        self._wait()
        return self._edits

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
        elif not self._ran:
            self._run()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        started, reflector, self._ran = perf_counter(), self._reflector, True
        try:
            if isinstance(reflector, BatchReflector):
                self._reflections = list(reflector.reflect_batch(self.pairs)) if self.pairs else []
            else:
                self._reflections = [_reflect(reflector, pair) for pair in self.pairs]
            if isinstance(reflector, GroupReflector) and self.questions:
                self._edits = _edits(reflector, self.questions)
        except BaseException as error:
            self._error = error
        self.seconds = perf_counter() - started


class Learner:
    """Turns the groups of an iteration into a better bank.

    The result does not depend on the order in which trajectories finished: counts are sums, credits are order-free,
    and drafts are inserted in the order of their task ids.
    """

    def __init__(
        self, bank: SkillBank, reflector: Reflector, reflect: ReflectConfig, environment: object = None
    ) -> None:
        """Prepares to learn.

        Args:
            bank: The bank.
            reflector: Writer of drafts or edits.
            reflect: Settings of reflection.
            environment: The environment of the groups, whose answers no skill may hold if it tells them.
        """
        self.bank = bank
        self._guard = answer_guard(environment, reflect)
        self._reflector = reflector
        self._reflect = reflect

    def reflect(
        self, groups: Sequence[Group], hindsights: Sequence[Hindsight], *, iteration: int, seed: int
    ) -> PendingReflections:
        """Begins to reflect on the failures of an iteration; `observe` waits for the result.

        Args:
            groups: The groups of the iteration.
            hindsights: Success rates of their halves, in the same order.
            iteration: Number of the iteration, from 0.
            seed: Seed of the iteration, for the choice of failures.
        """
        if self.bank.consolidated and not isinstance(self._reflector, GroupReflector):
            return PendingReflections(self._reflector)
        chosen = self._choose(groups, hindsights, iteration, seed)
        if self.bank.consolidated:
            return PendingReflections(self._reflector, questions=[self._question(group) for group in chosen])
        pairs = [_contrasted(group, generator(seed, "reflect", iteration, group.task.id)) for group in chosen]
        return PendingReflections(self._reflector, pairs)

    def observe(
        self,
        groups: Sequence[Group],
        hindsights: Sequence[Hindsight],
        *,
        iteration: int,
        seed: int,
        effects: Mapping[str, Sequence[tuple[float, bool]]] | None = None,
        reflecting: PendingReflections | None = None,
    ) -> BankUpdate:
        """Counts retrievals, moves utilities, ends trials, reflects on failures and inserts what is new.

        New skills are in the bank when this returns, so they are seen from the next iteration on. All changes of the
        bank are one transaction of its journal.

        Args:
            groups: The groups of the iteration.
            hindsights: Success rates of their halves, in the same order.
            iteration: Number of the iteration, from 0.
            seed: Seed of the iteration.
            effects: Results of the skill probe, by skill id.
            reflecting: Reflections that have begun; without them they begin now.
        """
        reflecting = reflecting or self.reflect(groups, hindsights, iteration=iteration, seed=seed)
        reflections, edits = reflecting.reflections(), reflecting.edits()
        with self.bank.batch(iteration):
            self.bank.add_probes(effects or {})
            done = self._credit(groups, hindsights, iteration)
            if self.bank.consolidated:
                done |= self._consolidate(groups, list(zip(reflecting.questions, edits, strict=True)), iteration)
            else:
                done |= self._insert(list(zip(reflecting.pairs, reflections, strict=True)), iteration)
            return BankUpdate(**done, with_answer=self._guard.caught())

    def _question(self, group: Group) -> Question:
        """Returns a group with the skills of the bank that are about its task and its start."""
        task, known = group.task.text, self.bank.knowledge.known
        start = next((t.turns[0].prompt.observation for t in group.trajectories if t.turns), "")
        places = [skill for ranked in known.sought(task, start) for skill in ranked]
        return group, (*known.procedures(task), *places)

    def _credit(self, groups: Sequence[Group], hindsights: Sequence[Hindsight], iteration: int) -> dict[str, int]:
        """Counts retrievals, moves utilities and ends trials; returns fields of `BankUpdate`."""
        policy = _policy(iteration)
        played = " ".join(t.name for group in groups for t in group.half("skills"))
        self.bank.count_retrievals(_shown(groups), origin=policy | {"trajectories": played})
        on_trial = {skill.id for skill in self.bank.skills(status="trial")}
        signals = credit.signals(groups, hindsights, on_trial, by=self.bank.step_signal)
        self.bank.credit(
            {skill_id: [signal.value for signal in own] for skill_id, own in signals.items()},
            {skill_id: [signal.source for signal in own] for skill_id, own in signals.items()},
            origin=policy,
        )
        promoted, dropped = self.bank.settle(iteration)
        return {"credited": len(signals), "promoted": len(promoted), "dropped": len(dropped)}

    def _consolidate(
        self, groups: Sequence[Group], answers: Sequence[tuple[Question, list[Edit] | None]], iteration: int
    ) -> dict[str, int]:
        """Counts the evidence of all groups, carries out a reflector's edits; returns fields of `BankUpdate`."""
        counted = gather(groups, self.bank.knowledge.known) if any(group.half("skills") for group in groups) else []
        done = self.bank.knowledge.consolidate(self._guard.evidence(counted), iteration, origin=_policy(iteration))
        answered = [
            ((group, known), self._guard.edits(edits, group.task.id, known))
            for (group, known), edits in answers
            if edits is not None
        ]
        edited = self._guard.evidence(one for question, edits in answered for one in as_evidence(edits, *question))
        revised = {
            edit.skill_id: edit.text for _, edits in answered for edit in edits if edit.op == "revise" and edit.text
        }
        if edited or revised:
            origin = _policy(iteration) | self._source() | {"tasks": " ".join(g.task.id for (g, _), _ in answered)}
            if revised:
                self.bank.knowledge.revise(revised, iteration, origin=origin)
            done += self.bank.knowledge.consolidate(edited, iteration, origin=origin)
        reflected = {"reflected": len(answers), "failed": len(answers) - len(answered), "refused": 0}
        return reflected | done._asdict()

    def _insert(self, reflected: Sequence[tuple[Pair, Reflection | None]], iteration: int) -> dict[str, int]:
        """Inserts the drafts of reflections (Eq. 7); returns fields of `BankUpdate`."""
        answered = [(pair, reflection) for pair, reflection in reflected if reflection is not None]
        drafts = self._guard.drafts(
            draft for (failure, _), reflection in answered for draft in drafts_from(reflection, failure)
        )
        origin = _policy(iteration) | self._origin([pair for pair, _ in answered])
        inserted = self.bank.insert(drafts, iteration, origin=origin)
        refused = sum(result.skill is None for result in inserted)
        held = sum(result.reason.startswith("held") for result in inserted)
        return {
            "reflected": len(reflected),
            "failed": len(reflected) - len(answered),
            "added": len(inserted) - refused - held,
            "refused": refused,
            "held": held,
        }

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

    def _origin(self, pairs: Sequence[Pair]) -> dict[str, str]:
        """Returns the origin of drafts: the reflector and the trajectories."""
        return {
            **self._source(),
            "split": " ".join(sorted({failure.task.split for failure, _ in pairs})),
            "trajectories": " ".join(failure.name for failure, _ in pairs),
            "successes": " ".join(success.name for _, success in pairs if success),
        }

    def _source(self) -> dict[str, str]:
        """Returns the name of the reflector, and where its texts come from."""
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", type(self._reflector).__name__)
        return {"reflector": name.lower(), **(self._reflector.origin if isinstance(self._reflector, HasOrigin) else {})}


def answer_guard(environment: object, settings: ReflectConfig) -> AnswerGuard:
    """Returns the guard of the answers of an environment; it does nothing if that does not tell them."""
    return AnswerGuard(environment if settings.guard_answers and isinstance(environment, KnowsAnswers) else None)


def _policy(iteration: int) -> dict[str, str]:
    return {"policy": f"after {iteration} updates"}


def _reflect(reflector: Reflector, pair: Pair) -> Reflection | None:
    try:
        answer: object = reflector.reflect(*pair)
    except ReflectionFault:
        return None
    if not isinstance(answer, Reflection):
        raise _wrong(reflector, "reflect", answer, "a d2skill.Reflection, or raise d2skill.ReflectionFault")
    return answer


def _edits(reflector: GroupReflector, questions: Sequence[Question]) -> list[list[Edit] | None]:
    """Returns the edits of a reflector for each question."""
    answers = list(reflector.reflect_groups(questions))
    for edits in answers:
        if edits is not None and not all(isinstance(edit, Edit) for edit in edits):
            raise _wrong(reflector, "reflect_groups", edits, "a list of d2skill.Edit for each group, or None")
    if len(answers) != len(questions):
        raise _wrong(reflector, "reflect_groups", answers, f"an answer for each of the {len(questions)} groups")
    return answers


def _wrong(reflector: object, method: str, answer: object, wanted: str) -> ConfigError:
    """Returns the error for a reflector whose answer is of no use."""
    return ConfigError(
        f"{method} of reflector {type(reflector).__name__} returned {short(answer)}: it has to return {wanted} "
        "(`d2skill check-reflector` checks it)"
    )


def _contrasted(group: Group, rng: np.random.Generator) -> Pair:
    """Draws one failed skill trajectory and, if there is one, a success of either half (Eq. 7)."""
    failures = _failures(group)
    successes = [t for t in (*group.half("skills"), *group.half("none")) if t.success and t.turns]
    failure = failures[int(rng.integers(len(failures)))]
    return failure, successes[int(rng.integers(len(successes)))] if successes else None


def _failures(group: Group) -> list[Trajectory]:
    """Returns the failures of the skill half that are the policy's, not the environment's."""
    return [t for t in group.half("skills") if not t.success and t.turns and not t.fault]


def drafts_from(reflection: Reflection, failure: Trajectory) -> list[Draft]:
    """Returns the drafts of a reflection: the task skill keyed by the task, the step skill by task and observation."""
    task = failure.task
    step = min(max(reflection.failing_step, 0), len(failure.turns) - 1)
    observation = failure.turns[step].prompt.observation
    drafts = []
    if reflection.task_skill is not None:
        drafts.append(Draft("task", reflection.task_skill, task.text, "", task.id))
    if reflection.step_skill is not None:
        drafts.append(Draft("step", reflection.step_skill, task.text, observation, task.id))
    return drafts


def reflect(failure: Trajectory, success: Trajectory | None = None, reflector: Reflector | None = None) -> list[Draft]:
    """Returns the drafts of skills that a reflector writes about a failure; none where it has no answer.

    Args:
        failure: A trajectory that failed.
        success: One of the same task that did not.
        reflector: Writer of the drafts; without one they come from a contrast of the two, without a model.

    >>> from d2skill import Trajectory, reflect
    >>> chests = ["open chest 1", "open chest 2", "take ruby"]
    >>> failure = Trajectory.of("take the ruby", [("Two chests.", "open chest 1", chests[:2])], success=False)
    >>> steps = [("Two chests.", "open chest 2", chests[:2]), ("A ruby is in it.", "take ruby", chests)]
    >>> reflect(failure, Trajectory.of("take the ruby", steps, success=True))[0].text.principle
    'Open chest, then take ruby.'
    """
    for name, one in {"failure": failure, "success": success}.items():
        if not isinstance(one, Trajectory) and (one is not None or name == "failure"):
            raise ConfigError(
                f"the {name} is {short(one)}: reflect on a d2skill.Trajectory, as Trajectory.of makes one"
            )
        if one is not None and one.success != (name == "success"):
            outcome = "succeeded" if one.success else "failed"
            raise ConfigError(f"the {name} {outcome}: hand in the failure first, as in reflect(failure, success)")
    if success is not None and success.task.text != failure.task.text:
        raise ConfigError(
            f"the failure is of task {short(failure.task.text)} and the success of {short(success.task.text)}: reflect "
            "on two of the same task"
        )
    if reflector is not None and not hasattr(reflector, "reflect"):
        raise ConfigError(f"reflector {short(reflector)} has no method reflect: see d2skill.protocols.Reflector")
    answer = _reflect(reflector or ContrastReflector(), (failure, success))
    return drafts_from(answer, failure) if answer and failure.turns else []


def _shown(groups: Sequence[Group]) -> dict[str, int]:
    """Returns the retrieval counts of an iteration: a task skill once an episode, a step skill at each step."""
    counts: Counter[str] = Counter()
    for group in groups:
        for trajectory in group.half("skills"):
            task_ids = {skill.id for turn in trajectory.turns for skill in turn.prompt.task_skills}
            counts.update(task_ids)
            for turn in trajectory.turns:
                counts.update(skill.id for skill in turn.prompt.step_skills)
    return dict(counts)
