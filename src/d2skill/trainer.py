"""The training loop on one machine: one iteration on one page, and the run around it (docs/method.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from d2skill import credit
from d2skill.components import Components
from d2skill.config import Config
from d2skill.evaluation import adopt_start_bank, evaluate_panel, validation_arms
from d2skill.evaluation.skill_probe import probe_skills
from d2skill.iteration_metrics import Clock, describe
from d2skill.learner import Learner, PendingReflections
from d2skill.protocols import BatchReflector, BudgetedReflector, Tracker
from d2skill.reflectors import ContrastReflector
from d2skill.rollout import Rollouts, Timing
from d2skill.run_recorder import RunRecorder
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks, sample_tasks
from d2skill.types import Granularity, Group
from d2skill.utils.rng import derive
from d2skill.utils.runtime import tuned_process
from d2skill.warm_start import warm_start


class Trainer:
    """Trains the policy of a run together with its bank, writes the run folder, and tells the trackers.

    `start` begins a run, `resume` goes on from the latest checkpoint; both return the summary (docs/metrics.md). A
    tracker that is a context manager is entered before the first metrics and left at the end, whatever ends the run.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        components: Components,
        trackers: Sequence[Tracker] = (),
        rollouts: Rollouts | None = None,
    ) -> None:
        """Prepares a run; its tasks are those of the folder's tasks.json, or chosen for a new run.

        Args:
            config: Complete settings (`Config.resolved`).
            folder: Run folder, new for `start`.
            components: Environment, policy, bank and reflector.
            trackers: Receivers of the metrics of each iteration.
            rollouts: Player of the episodes; without it they are played in this process.
        """
        self.config = config
        self.run = RunFolder(folder)
        self.bank = components.bank
        self._advantage = config.resolved().advantage
        self._environment = components.environment
        self._policy = components.policy
        self._reflector = components.reflector
        self._trackers = trackers
        self._learner = Learner(components.bank, components.reflector, config.reflect)
        self._recorder = RunRecorder(self.run, config, trackers)
        has_begun = self.run.tasks.exists()
        self._tasks = RunTasks.read(self.run.tasks) if has_begun else RunTasks.choose(components.environment, config)
        self._started = perf_counter()
        self._rollouts = rollouts or Rollouts(
            components.environment, components.policy, components.bank, config.prompt, config.env.max_steps
        )

    def start(self) -> dict[str, Any]:
        """Runs from the warm start to the end, in a new folder; raises `RunError` when something is in its way.

        A run that fails before its first checkpoint could not be resumed, and leaves nothing behind.
        """
        RunFolder.create(self.run.path)
        with self._running():
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
        adopt_start_bank(self.bank, self.config.bank, self._tasks.validation.task_ids)
        clock = Clock()
        # Advice on hundreds of demonstrations is not worth a model's time: it only has to be heeded, not to be good.
        adviser = ContrastReflector() if isinstance(self._reflector, BatchReflector) else self._reflector
        metrics = warm_start(self.config, self._environment, self._policy, adviser, self._tasks.training.task_ids)
        clock.lap("warm_start")
        metrics |= clock.laps | self._validate()
        progress = Progress(0, 0, self._seconds(), self.bank.last_event)
        self._report(progress, metrics)
        checkpoint.save(self.run.path, progress, self._policy)
        return progress

    def resume(self, progress: Progress) -> dict[str, Any]:
        """Runs on from a checkpoint that was restored into the components, to the end."""
        with self._running():
            self._go_back(progress)
            return self._go_on(progress)

    def _go_back(self, progress: Progress) -> None:
        """Takes back, in files and budget, what came after the checkpoint."""
        if isinstance(self._reflector, BudgetedReflector):
            self._reflector.check()
        self.bank.record(self.run.bank, back_to=progress.bank_event, wait=self.config.bank.wait)
        self._recorder.cut_back(progress.iteration)
        if isinstance(self._reflector, BudgetedReflector):
            self._reflector.restore_usage(self.run.read_reflections())
        self._started -= progress.seconds

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Sets the process up for the policy and enters the trackers, for as long as a run takes."""
        with tuned_process(self.config.policy.kind), ExitStack() as stack:
            for tracker in self._trackers:
                if isinstance(tracker, AbstractContextManager):
                    stack.enter_context(tracker)
            yield

    def _go_on(self, progress: Progress) -> dict[str, Any]:
        """Iterates to the end. The summary is written before the last checkpoint: a run that has that one is whole."""
        try:
            return self._loop(progress)
        finally:
            self.bank.close()
            if isinstance(self._reflector, BudgetedReflector):
                self._reflector.stop()

    def _loop(self, progress: Progress) -> dict[str, Any]:
        while True:
            groups, metrics = self._iterate(progress.iteration)
            steps = progress.env_steps + sum(len(t.turns) for group in groups for t in group.trajectories)
            iteration = progress.iteration + 1
            last = self._finished(iteration, steps)
            if last or iteration % self.config.validation.every == 0:
                metrics |= self._validate() | self._reliability()
                if self.config.bank.retire:
                    metrics["bank/retired"] = len(self.bank.retire(progress.iteration))
                metrics["bank/evicted"] = len(self.bank.evict(progress.iteration))
            progress = Progress(iteration, steps, self._seconds(), self.bank.last_event)
            self._report(progress, metrics)
            if last:
                summary = self._recorder.summarise(progress, self.bank.counts())
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
            sample_tasks(self._tasks.training.task_ids, config.rollout.tasks, seed),
            group_size=config.rollout.group_size,
            with_skills=config.rollout.with_skills,
            temperature=config.rollout.temperature,
            seed=seed,
            on_trial=config.bank.on_trial(config.rollout.with_skills),
        )
        self._recorder.save_rollouts(groups, iteration)
        clock.lap("rollout")
        hindsights = credit.hindsight(groups)
        reflecting = self._learner.reflect(groups, hindsights, iteration=iteration, seed=seed)
        effects = probe_skills(self._policy, groups, decisions=config.bank.probe, seed=seed)
        clock.lap("probe")
        rows = credit.policy_batch(groups, hindsights, config.reward, self._advantage)
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

    def _account(self, iteration: int, reflecting: PendingReflections) -> dict[str, Any]:
        """Writes down what a reflector elsewhere was asked, and returns metrics of it."""
        if not isinstance(self._reflector, BudgetedReflector):
            return {}
        calls, metrics = self._reflector.drain_calls()
        self._recorder.save_reflections(iteration, calls)
        return metrics | {"time/reflect": reflecting.seconds}

    def _finished(self, iteration: int, env_steps: int) -> bool:
        limit = self.config.train.max_env_steps
        return iteration >= self.config.train.iterations or (limit is not None and env_steps >= limit)

    def _validate(self) -> dict[str, Any]:
        """Plays the panel with the bank as it is; the same sampling seeds every time, so curves are comparable."""
        started = perf_counter()
        result = evaluate_panel(
            self._rollouts,
            self._tasks.validation.task_ids,
            arms=validation_arms(self.config.rollout.with_skills),
            temperature=self.config.validation.temperature,
            seed=self.config.seed,
        )
        metrics = self._recorder.save_validation(result)
        return metrics | {"time/validate": perf_counter() - started}

    def _reliability(self) -> dict[str, Any]:
        """Returns how well the mean signals of skills repeat, of the granularities with enough signals."""
        kinds: tuple[Granularity, ...] = ("task", "step")
        found = {f"bank/reliability_{kind}": self.bank.reliability(kind) for kind in kinds}
        return {name: value for name, value in found.items() if value is not None}

    def _report(self, progress: Progress, metrics: dict[str, Any]) -> None:
        self._recorder.report(progress, self.bank.counts(), self.bank.mean_utility(), metrics)
