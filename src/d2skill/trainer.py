"""The training loop on one machine: one iteration on one page, and the run around it (docs/method.md)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self, TypeAlias

from d2skill import credit
from d2skill.components import Components, own_classes
from d2skill.config import Config
from d2skill.config.toml_files import dump
from d2skill.errors import ConfigError, RunError
from d2skill.evaluation import adopt_start_bank, evaluate_panel, validation_arms
from d2skill.evaluation.skill_probe import probe_skills
from d2skill.iteration_metrics import Clock, describe, make_plain
from d2skill.learner import Learner, PendingReflections
from d2skill.policies.answers import require_actions
from d2skill.protocols import BatchReflector, BudgetedReflector, SupportsImitation, Tracker
from d2skill.reflectors import ContrastReflector
from d2skill.rollout import Rollouts, Timing
from d2skill.run_recorder import RunRecorder, metrics_line
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks, sample_tasks
from d2skill.types import Granularity, Group
from d2skill.utils.arguments import items_of, path_of
from d2skill.utils.finite import IMITATION, UPDATE, Diverged, require_finite
from d2skill.utils.rng import derive
from d2skill.utils.runtime import tuned_process
from d2skill.utils.text import short
from d2skill.warm_start import warm_start

Callback: TypeAlias = "Callable[[Trainer, dict[str, Any], list[Group]], object]"
"""A function that gets the trainer, the metrics of an iteration and its groups; it may add metrics, and `stop`."""


def require_listeners(trackers: Sequence[Tracker], callbacks: Sequence[Callback]) -> None:
    """Raises `ConfigError` for a tracker that has no `log`, and for a callback that is no function."""
    for tracker in items_of(trackers, "a list of trackers"):
        if not callable(getattr(tracker, "log", None)):
            raise ConfigError(f"tracker {short(tracker)} has no method log: see d2skill.Tracker, or name it in track")
    for callback in items_of(callbacks, "a list of callbacks"):
        if not callable(callback):
            raise ConfigError(f"callback {short(callback)} is no function: it takes trainer, metrics and groups")
        if not _takes_three(callback):
            raise ConfigError(
                f"callback {short(callback)} does not take three arguments: trainer, metrics and groups, as in "
                "`lambda trainer, metrics, groups: print(metrics)`"
            )


def _takes_three(callback: Callback) -> bool:
    """Returns True if a function can be called with three arguments, or does not tell its arguments."""
    try:
        inspect.signature(callback).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def _require_finite_training(metrics: Mapping[str, Any], way_out: str) -> None:
    """Raises `Diverged` if the loss or the gradient of a policy, which may be one's own, was not finite."""
    for name in ("policy/loss", "policy/grad_norm", "warm_start/loss"):
        if isinstance(value := metrics.get(name), float):
            require_finite(name, value, way_out)


class Trainer:
    """Trains the policy of a run together with its bank, writes the run folder, and tells the trackers.

    `start` begins a run and trains to the end, `resume` goes on from the latest checkpoint; both return the summary
    (docs/metrics.md). Or go step by step:

    >>> from d2skill import Trainer, load_config
    >>> small = {"train": {"iterations": 2}, "warm_start": {"tasks": 10}, "validation": {"tasks": 4}}
    >>> config = load_config("laptop", out="run", **small)
    >>> with Trainer(config, "run") as trainer:
    ...     while not trainer.finished:
    ...         metrics = trainer.step()
    >>> metrics["iteration"], trainer.summary["iterations"]
    (2, 2)

    A trainer that is left before the end, by an error of a callback or between two steps, saves a checkpoint. A tracker
    that is a context manager is entered before the first metrics and left at the end, whatever ends the run.
    """

    summary: dict[str, Any] | None = None
    """The summary of the run, once it has ended."""

    def __init__(
        self,
        config: Config,
        folder: Path | str,
        components: Components | None = None,
        trackers: Sequence[Tracker] = (),
        rollouts: Rollouts | None = None,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
    ) -> None:
        """Prepares a run; its tasks are those of the folder's tasks.json, or chosen for a new run.

        Args:
            config: Complete settings (`Config.resolved`).
            folder: Run folder, new for `start`.
            components: Environment, policy, bank and reflector; without them, those of the settings.
            trackers: Receivers of the metrics of each iteration.
            rollouts: Player of the episodes; without it they are played in this process.
            callbacks: Functions to call after each iteration, before its metrics are written (`Callback`).
            progress: The checkpoint to go on from, which was restored into the components; without it a run begins.
        """
        if not isinstance(config, Config):
            raise ConfigError(f"config is {short(config)}: make settings by d2skill.load_config(...)")
        require_listeners(trackers, callbacks)
        folder = path_of(folder, "a run folder", RunError).absolute()
        components = components or Components.make(config)
        self.config = config
        self.run = RunFolder(folder)
        self.bank = components.bank
        self.progress = progress
        self._own = components.own
        self._advantage = config.resolved().advantage
        self._environment = components.environment
        self._policy = components.policy
        self._reflector = components.reflector
        self._trackers = trackers
        self._callbacks = callbacks
        self._learner = Learner(components.bank, components.reflector, config.reflect, components.environment)
        self._recorder = RunRecorder(self.run, config, trackers)
        has_begun = self.run.tasks.exists()
        self._tasks = RunTasks.read(self.run.tasks) if has_begun else RunTasks.choose(components.environment, config)
        self._started = perf_counter()
        self._rollouts = rollouts or Rollouts(
            components.environment, components.policy, components.bank, config.prompt, config.env.max_steps
        )
        self._stack: ExitStack | None = None
        self._stopping = False
        self._saved = -1, -1  # iteration and event of the bank of the last checkpoint
        self._whole = False  # between two iterations, so that a checkpoint could be saved

    def start(self) -> dict[str, Any]:
        """Runs from the warm start to the end, in a new folder; raises `RunError` when something is in its way.

        A run that fails before its first checkpoint could not be resumed, and leaves nothing behind.
        """
        self.progress = None
        return self._run()

    def resume(self, progress: Progress) -> dict[str, Any]:
        """Runs on from a checkpoint that was restored into the components, to the end."""
        self.progress = progress
        return self._run()

    def _run(self) -> dict[str, Any]:
        with self:
            while self.summary is None:
                self.step()
            return self.summary

    @property
    def finished(self) -> bool:
        """True once the last iteration is done: the summary is written."""
        return self.summary is not None

    def stop(self) -> None:
        """Makes the iteration under way, or else the next one, the last: it is validated, and the run ends whole."""
        self._stopping = True

    def __enter__(self) -> Self:
        """Begins the run, or goes back to the checkpoint to go on from; see `start`."""
        if self.progress is not None:
            self._enter(self._go_back, self.progress)
            return self
        self.run = RunFolder.create(self.run.path, self.config.track)
        try:
            self._enter(self._begin)
        except BaseException:
            if self.run.is_beginning():
                self.run.discard()
            raise
        return self

    def _enter(self, make_ready: Callable[..., Progress], *checkpointed: Progress) -> None:
        """Enters the trackers and brings the run to where its first step begins; what fails closes them again."""
        with ExitStack() as stack:
            stack.enter_context(tuned_process(self.config.policy.kind))
            for tracker in self._trackers:
                if isinstance(tracker, AbstractContextManager):
                    stack.enter_context(tracker)
            stack.callback(self._leave)
            self.progress = make_ready(*checkpointed)
            self._saved, self._whole = (self.progress.iteration, self.progress.bank_event), True
            self._stack = stack.pop_all()

    def __exit__(self, *error: Any) -> None:
        """Saves a checkpoint if the run has not ended and no iteration is under way, and closes everything."""
        stack, self._stack = self._stack, None
        assert stack is not None
        stack.__exit__(*error)

    def _leave(self) -> None:
        """Saves what is not saved yet, and closes the bank and the reflector."""
        try:
            if self._whole and self.progress is not None:
                progress = replace(self.progress, bank_event=self.bank.last_event)
                if (progress.iteration, progress.bank_event) != self._saved:
                    self._save(progress)
        finally:
            self.bank.close()
            if isinstance(self._reflector, BudgetedReflector):
                self._reflector.stop()

    def _begin(self) -> Progress:
        """Makes the state before the first iteration, validates it and checkpoints it."""
        from d2skill.planning.model_shapes import hub_revisions

        self.run.begin(self.config, self._tasks.record(), own_classes(self._own), hub_revisions(self.config))
        self.bank.record(self.run.bank, wait=self.config.bank.wait)
        adopt_start_bank(self.bank, self.config.bank, self._tasks.validation.task_ids)
        clock = Clock()
        # Advice on hundreds of demonstrations is not worth a model's time: it only has to be heeded, not to be good.
        adviser = ContrastReflector() if isinstance(self._reflector, BatchReflector) else self._reflector
        taught = self._environment, self._policy, adviser, self._tasks.training.task_ids
        with self._says_what_diverged("the warm start"):
            metrics: dict[str, Any] = warm_start(
                self.config, *taught, self._own.get("embedder"), self._tell_imitation_step
            )
            _require_finite_training(metrics, IMITATION)
        clock.lap("warm_start")
        metrics |= clock.laps | self._validate()
        progress = Progress(0, 0, self._seconds(), self.bank.last_event)
        self._recorder.write(self._line(progress, metrics))
        checkpoint.save(self.run.path, progress, self._policy, dump(self.config))
        return progress

    def _tell_imitation_step(self, step: int, steps: int) -> None:
        for tracker in self._trackers:
            if isinstance(tracker, SupportsImitation):
                tracker.imitation_step(step, steps)

    def _go_back(self, progress: Progress) -> Progress:
        """Takes back, in files and budget, what came after the checkpoint, and returns its progress."""
        if isinstance(self._reflector, BudgetedReflector):
            self._reflector.check()
        self.bank.record(self.run.bank, back_to=progress.bank_event, wait=self.config.bank.wait)
        checkpoint.set_aside_after(self.run.path, progress.iteration)
        self._recorder.cut_back(progress.iteration)
        if isinstance(self._reflector, BudgetedReflector):
            self._reflector.restore_usage(self.run.read_reflections())
        self._started -= progress.seconds
        return progress

    def step(self) -> dict[str, Any]:
        """Trains for one iteration, with validation and checkpoint when they are due, and returns its metrics.

        The summary is written before the last checkpoint: a run that has that one is whole.
        """
        if self._stack is None or self.progress is None or self.finished:
            raise RunError(
                f"the trainer of {self.run.path} is not training: call step in `with trainer:`, while not finished"
            )
        if not self._whole:
            raise RunError(
                f"an iteration of {self.run.path} is under way or was interrupted: leave the trainer, and resume it"
            )
        before, self._whole = self.progress, False
        with self._says_what_diverged(f"iteration {before.iteration + 1}"):
            groups, metrics = self._iterate(before.iteration)
        steps = before.env_steps + sum(len(t.turns) for group in groups for t in group.trajectories)
        iteration = before.iteration + 1
        due = self._is_last(iteration, steps) or iteration % self.config.validation.every == 0
        if due:
            metrics |= self._measure(before.iteration)
        self.progress = Progress(iteration, steps, self._seconds(), self.bank.last_event)
        line = self._line(self.progress, metrics)
        measured = dict(line)
        try:
            for callback in self._callbacks:
                callback(self, line, groups)
        finally:
            line |= {name: value for name, value in measured.items() if name not in line}  # callbacks only add
            last = self._is_last(iteration, steps)
            if last and not due:
                line |= self._line(self.progress, self._measure(before.iteration))
            self.progress = Progress(iteration, steps, self._seconds(), self.bank.last_event)  # callbacks may change it
            unwritable = make_plain(line)
            self._recorder.write(line)
            if last:
                self.summary = self._recorder.summarise(self.progress, self.bank.counts())
            if last or iteration % self.config.train.checkpoint_every == 0:
                self._save(self.progress)
            self._whole = True
        if unwritable:
            raise ConfigError(unwritable)
        return line

    @contextmanager
    def _says_what_diverged(self, where: str) -> Iterator[None]:
        """Adds to what diverges where it was, and what is left of the run: nothing more is saved of it."""
        try:
            yield
        except Diverged as error:
            saved = self._saved[0]
            left = "begin another run; nothing is saved"
            if saved >= 0:
                left = (
                    "begin another run, or change it in config.toml and resume this one: it goes on from the "
                    f"checkpoint of iteration {saved}, the last good one"
                )
            raise Diverged(f"training diverged in {where}: {error}, and {left}") from error

    def _is_last(self, iteration: int, env_steps: int) -> bool:
        limit = self.config.train.max_env_steps
        reached = iteration >= self.config.train.iterations or (limit is not None and env_steps >= limit)
        return reached or self._stopping

    def _measure(self, iteration: int) -> dict[str, Any]:
        """Validates after an iteration and returns the metrics; skills retire and are evicted then."""
        metrics = self._validate() | self._reliability()
        if self.config.bank.retire:
            metrics["bank/retired"] = len(self.bank.retire(iteration))
        metrics["bank/evicted"] = len(self.bank.evict(iteration))
        return metrics

    def _line(self, progress: Progress, metrics: dict[str, Any]) -> dict[str, Any]:
        return metrics_line(progress, self.bank.counts(), self.bank.mean_utility(), metrics)

    def _save(self, progress: Progress) -> None:
        self.bank.snapshot()
        checkpoint.save(self.run.path, progress, self._policy, dump(self.config))
        self._saved = progress.iteration, progress.bank_event

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
        require_actions([one for group in groups for one in group.trajectories])
        clock.lap("rollout")
        hindsights = credit.hindsight(groups)
        reflecting = self._learner.reflect(groups, hindsights, iteration=iteration, seed=seed)
        effects = probe_skills(self._policy, groups, decisions=config.bank.probe, seed=seed)
        clock.lap("probe")
        rows = credit.policy_batch(groups, hindsights, config.reward, self._advantage)
        metrics = self._policy.update(rows, seed) if config.policy.train else {}
        _require_finite_training(metrics, UPDATE)
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
