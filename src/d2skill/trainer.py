"""The training loop on one machine: one iteration on one page, and the run around it (docs/method.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

from d2skill import checkpoint, credit, trajectories
from d2skill.checkpoint import Progress
from d2skill.config import Config
from d2skill.evaluation import Validation, arms_of, evaluate_panel, require_unseen
from d2skill.learner import Learner, Reflecting
from d2skill.metrics import Clock, describe, peak_memory_mb
from d2skill.parts import Parts
from d2skill.probe import probe
from d2skill.protocols import Accounts, ReflectsMany, Tracker
from d2skill.reflectors import ContrastReflector
from d2skill.rng import derive, generator
from d2skill.rollout import Rollouts, Timing
from d2skill.runfolder import RunFolder
from d2skill.tasks import RunTasks
from d2skill.types import Group
from d2skill.warmstart import warm_start


class Trainer:
    """Trains the policy of a run together with its bank, writes the run folder, and tells the trackers.

    `start` begins a run, `resume` goes on from the latest checkpoint; both return the summary.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        parts: Parts,
        trackers: Sequence[Tracker] = (),
        rollouts: Rollouts | None = None,
    ) -> None:
        """Takes what plays the episodes, if that is not the parts alone."""
        self.config = config
        self.run = RunFolder(folder)
        self.bank = parts.bank
        self._environment = parts.environment
        self._policy = parts.policy
        self._reflector = parts.reflector
        self._learner = Learner(parts.bank, parts.reflector, config.reflect)
        self._trackers = trackers
        has_begun = self.run.tasks.exists()
        self._tasks = RunTasks.read(self.run.tasks) if has_begun else RunTasks.choose(parts.environment, config)
        self._validation: Validation | None = None
        self._started = perf_counter()
        self._rollouts = rollouts or Rollouts(
            parts.environment, parts.policy, parts.bank, config.prompt, config.env.max_steps
        )

    def start(self) -> dict[str, Any]:
        """Runs from the warm start to the end, in a new folder; raises `RunError` when something is in its way.

        A run that fails before its first checkpoint could not be resumed, and leaves nothing behind.
        """
        RunFolder.create(self.run.path)
        try:
            progress = self._begin()
        except BaseException:
            self.bank.close()
            self.run.discard()
            raise
        return self._go_on(progress)

    def _begin(self) -> Progress:
        """Makes the state before the first iteration, validates it and checkpoints it."""
        self.run.begin(self.config, self._tasks.record())
        self.bank.record(self.run.bank, wait=self.config.bank.wait)
        if (start := self.config.bank.start) is not None:
            self.bank.adopt(RunFolder.open(start).bank if start.is_dir() else start)
            if not self.config.bank.seen_tasks:
                require_unseen(self.bank, self._tasks.validation.task_ids)
        clock = Clock()
        # Advice on hundreds of demonstrations is not worth a model's time: it only has to be heeded, not to be good.
        adviser = ContrastReflector() if isinstance(self._reflector, ReflectsMany) else self._reflector
        metrics = warm_start(self.config, self._environment, self._policy, adviser, self._tasks.training.task_ids)
        clock.lap("warm_start")
        metrics |= clock.laps | self._validate()
        progress = Progress(0, 0, self._seconds(), self.bank.event)
        self._report(progress, metrics)
        checkpoint.save(self.run.path, progress, self._policy)
        return progress

    def resume(self, progress: Progress) -> dict[str, Any]:
        """Goes on from a checkpoint that was restored into the parts."""
        if isinstance(self._reflector, Accounts):
            self._reflector.check()
        self.bank.record(self.run.bank, back_to=progress.bank_event, wait=self.config.bank.wait)
        self.run.cut_metrics(progress.iteration)
        self.run.cut_rollouts(progress.iteration)
        self.run.cut_reflections(progress.iteration)
        if isinstance(self._reflector, Accounts):
            self._reflector.spent(self.run.read_reflections())
        self._started -= progress.seconds
        return self._go_on(progress)

    def _go_on(self, progress: Progress) -> dict[str, Any]:
        """Iterates to the end. The summary is written before the last checkpoint: a run that has that one is whole."""
        try:
            return self._loop(progress)
        finally:
            self.bank.close()
            if isinstance(self._reflector, Accounts):
                self._reflector.stop()

    def _loop(self, progress: Progress) -> dict[str, Any]:
        while True:
            groups, metrics = self._iterate(progress.iteration)
            steps = progress.env_steps + sum(len(t.turns) for group in groups for t in group.trajectories)
            iteration = progress.iteration + 1
            last = self._finished(iteration, steps)
            if last or iteration % self.config.validation.every == 0:
                metrics |= self._validate()
                if self.config.bank.retire:
                    metrics["bank/retired"] = len(self.bank.retire(progress.iteration))
                metrics["bank/evicted"] = len(self.bank.evict(progress.iteration))
            progress = Progress(iteration, steps, self._seconds(), self.bank.event)
            self._report(progress, metrics)
            if last:
                summary = self._summarise(progress)
            if last or iteration % self.config.train.checkpoint_every == 0:
                self.bank.snapshot()
                checkpoint.save(self.run.path, progress, self._policy)
            if last:
                return summary

    def _seconds(self) -> float:
        return perf_counter() - self._started

    def _iterate(self, iteration: int) -> tuple[list[Group], dict[str, Any]]:
        """One training iteration: paired rollouts, hindsight, policy update, bank update.

        A reflector that takes its time works from the end of the rollouts on, beside probe and update.
        """
        config, seed = self.config, derive(self.config.seed, "iteration", iteration)
        self._rollouts.timing = Timing()
        clock = Clock()
        groups = self._rollouts.groups(
            self._sample_tasks(seed),
            group_size=config.rollout.group_size,
            with_skills=config.rollout.with_skills,
            temperature=config.rollout.temperature,
            seed=seed,
            on_trial=ceil(config.bank.trial * config.rollout.with_skills),
        )
        if config.train.keep_rollouts:
            self._keep(groups, iteration)
        clock.lap("rollout")
        hindsights = credit.hindsight(groups)
        reflecting = self._learner.reflect(groups, hindsights, iteration=iteration, seed=seed)
        effects = probe(self._policy, groups, decisions=config.bank.probe, seed=seed)
        clock.lap("probe")
        rows = credit.policy_batch(groups, hindsights, config.reward, config.advantage)
        metrics = self._policy.update(rows, seed) if config.policy.train else {}
        clock.lap("update")
        update = self._learner.observe(
            groups, hindsights, iteration=iteration, seed=seed, effects=effects, reflecting=reflecting
        )
        clock.lap("learn")
        timing = {f"time/{name}": seconds for name, seconds in asdict(self._rollouts.timing).items()}
        metrics |= describe(groups, update, effects)
        metrics |= self._account(iteration, reflecting)
        return groups, metrics | timing | clock.laps

    def _account(self, iteration: int, reflecting: Reflecting) -> dict[str, Any]:
        """Writes down what a reflector elsewhere was asked, and returns metrics of it."""
        if not isinstance(self._reflector, Accounts):
            return {}
        calls, metrics = self._reflector.account()
        self.run.append_reflections(iteration, calls)
        return metrics | {"time/reflect": reflecting.seconds}

    def _keep(self, groups: Sequence[Group], iteration: int) -> None:
        """Writes what was played in an iteration, in the order of groups and members."""
        self.run.rollouts.mkdir(exist_ok=True)
        trajectories.write(self.run.rollout(iteration), (t for group in groups for t in group.trajectories))

    def _sample_tasks(self, seed: int) -> list[str]:
        """Draws B different training tasks; all of them when there are fewer."""
        rng = generator(seed, "tasks")
        ids = self._tasks.training.task_ids
        count = min(self.config.rollout.tasks, len(ids))
        return [ids[i] for i in rng.choice(len(ids), count, replace=False)]

    def _finished(self, iteration: int, env_steps: int) -> bool:
        limit = self.config.train.max_env_steps
        return iteration >= self.config.train.iterations or (limit is not None and env_steps >= limit)

    def _validate(self) -> dict[str, Any]:
        """Plays the panel with the bank as it is; the same sampling seeds every time, so curves are comparable."""
        started = perf_counter()
        result = evaluate_panel(
            self._rollouts,
            self._tasks.validation.task_ids,
            arms=arms_of(self.config.rollout.with_skills),
            temperature=self.config.validation.temperature,
            seed=self.config.seed,
        )
        self._validation = result
        trajectories.write(self.run.trajectories, result.trajectories)
        metrics: dict[str, Any] = {"validation/without_skills": result.without_skills.success}
        metrics["validation/steps_without_skills"] = result.without_skills.steps
        if result.without_skills.score is not None:
            metrics["validation/score_without_skills"] = result.without_skills.score
        if result.with_skills and result.difference:
            metrics["validation/with_skills"] = result.with_skills.success
            if result.with_skills.score is not None:
                metrics["validation/score_with_skills"] = result.with_skills.score
            metrics["validation/steps_with_skills"] = result.with_skills.steps
            metrics["validation/difference"] = result.difference[0]
        return metrics | {"time/validate": perf_counter() - started}

    def _report(self, progress: Progress, metrics: dict[str, Any]) -> None:
        counts = self.bank.counts()
        line: dict[str, Any] = {"iteration": progress.iteration, "env_steps": progress.env_steps}
        line |= {"bank/task": counts["task"], "bank/step": counts["step"]}
        line |= {"bank/mean_utility": self.bank.mean_utility()}
        line |= metrics | {"time/seconds": progress.seconds}
        self.run.append_metrics(line)
        for tracker in self._trackers:
            tracker.log(line)

    def _summarise(self, progress: Progress) -> dict[str, Any]:
        assert self._validation is not None
        summary = {
            "validation": self._validation.record(),
            "bank": self.bank.counts(),
            "iterations": progress.iteration,
            "env_steps": progress.env_steps,
            "wall_seconds": round(progress.seconds, 1),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "seed": self.config.seed,
            "version": version("d2skill"),
        }
        self.run.write_summary(summary)
        return summary
