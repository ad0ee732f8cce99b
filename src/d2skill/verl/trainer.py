"""The trainer inside verl: what verl's loop leaves to a trainer of its own, by the code that the local engine uses.

verl plays (agent_loop.py), computes probabilities, normalises and updates. Here are the returns that it normalises
(Eq. 4), the bank's part of an iteration (Eq. 3, 7), validation in two arms, eviction, and the run folder. verl counts
steps from 1: its step s is our iteration s - 1, after which s iterations are done.

Order within a step, as in the local engine: rollouts, hindsight, update, the bank, validation, eviction, the line of
metrics, the checkpoint. verl saves its own state before it validates; ours, which says from where to go on, is written
last, so what it names is whole.
"""

from __future__ import annotations

import json
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import ray
import torch
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from tensordict import NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils

from d2skill import credit
from d2skill.config.toml_files import dump
from d2skill.errors import RunError
from d2skill.evaluation import summarize_validation, validation_arms
from d2skill.iteration_metrics import describe
from d2skill.policies.answers import require_actions
from d2skill.policies.causal_lm.policy import FORMAT, KIND, META
from d2skill.rollout import require_played
from d2skill.run_recorder import RunRecorder
from d2skill.runs import checkpoint
from d2skill.runs.checkpoint import Progress
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks
from d2skill.trackers import make_trackers
from d2skill.trackers.terminal import LiveDisplay
from d2skill.types import Arm, Group, Trajectory
from d2skill.utils.finite import UPDATE, require_finite
from d2skill.utils.foreign_text import command
from d2skill.utils.rng import derive
from d2skill.utils.terminal import Terminal
from d2skill.verl.bank_actor import ObserveResult, start_bank_actor, unwrapped_ray_errors
from d2skill.verl.data import SOURCES
from d2skill.verl.overrides import MODE
from d2skill.verl.rows import carried_trajectory, half_uids, penalised_advantages, read_groups, shaped_returns

_ARMS = {source: arm for arm, source in SOURCES.items()}
_POLICY = {
    "policy/loss": "actor/pg_loss",
    "policy/kl": "actor/kl_loss",
    "policy/clip_fraction": "actor/pg_clipfrac",
    "policy/entropy": "actor/entropy",
    "policy/grad_norm": "actor/grad_norm",
}
_TIMES = {"time/rollout": ("gen",), "time/update": ("old_log_prob", "ref", "adv", "update_actor", "update_weights")}


@register_trainer(MODE)
class D2SkillTrainer(PPOTrainerSync):  # type: ignore[misc]
    """verl's synchronous trainer with D2Skill's hindsight, bank, validation and run folder."""

    def __init__(self, config: DictConfig) -> None:
        """Takes verl's settings, among them `d2skill.run`, the run folder with ours."""
        with open_dict(config):  # verl tells synchronous training by this name, and asks for it in many places
            config.trainer.v1.trainer_mode = "sync"
        super().__init__(config)
        self._run = RunFolder(Path(config.d2skill.run))
        self._settings = self._run.config()
        display = LiveDisplay(self._settings, Terminal(force_terminal=False), self._run.path)
        self._trackers = make_trackers(self._settings, self._run.path)
        self._recorder = RunRecorder(self._run, self._settings, [*self._trackers, display])
        self._progress = Progress(0, 0, 0.0)
        self._started = perf_counter()
        self._groups: list[Group] = []
        self._groups_in_ray: Any = None
        self._metrics: dict[str, Any] = {}
        self._saved = False

    def on_init_end(self) -> None:
        """See PPOTrainer: starts the bank actor."""
        self._bank_actor = start_bank_actor(self._run.path)
        if self.global_steps:
            done = checkpoint.read_progress(self._run.path / "checkpoints" / f"{self.global_steps:06d}")
            # that the bank was taken back to the checkpoint is an event as well
            self._progress = replace(done, bank_event=self._ask("state")["event"])
        self._started = perf_counter() - self._progress.seconds
        super().on_init_end()

    def fit(self, agent_loop_manager: Any) -> None:
        """See PPOTrainer."""
        with ExitStack() as stack:
            for tracker in self._trackers:
                stack.enter_context(tracker)
            super().fit(agent_loop_manager)

    def on_train_begin(self) -> None:
        """See PPOTrainer: reports the state before the first iteration."""
        if not self._progress.iteration:
            self._report({})

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """See PPOTrainer: puts R̃ in the place of the plain returns; verl normalises them (Eq. 5) over one uid."""
        rollout, iteration = self._settings.rollout, self._progress.iteration
        queue = {"keys": batch.keys, "partition_id": batch.partition_id}
        data = tq.kv_batch_get(**queue, select_fields=["rm_scores", "extra_fields"])
        rows = list(zip(batch.keys, batch.tags, data["extra_fields"], strict=True))
        played = read_groups(rows, rollout.tasks, rollout.group_size)
        if not played.groups:
            raise RunError(
                f"no group of iteration {iteration} was played whole, {played.lost} of its "
                f"{rollout.tasks * rollout.group_size} episodes were lost: the log of the workers says why"
            )
        hindsights = credit.hindsight(played.groups)
        require_played([(t.task.id, t.fault) for group in played.groups for t in group.trajectories])
        require_actions([one for group in played.groups for one in group.trajectories])
        self._groups, self._groups_in_ray = played.groups, ray.put(played.groups)
        self._bank_actor.reflect.remote(self._groups_in_ray, iteration, self._seed())
        scores = list(data["rm_scores"].unbind())
        for position, value in shaped_returns(played, hindsights, self._settings.reward).items():
            scores[position] = scores[position].clone()
            scores[position][-1] = value
        fields: dict[str, Any] = {}
        if self._settings.advantage.chosen(self._settings.bank.skills) == "half":
            uids, alone = half_uids(batch.keys, rollout.with_skills)
            fields["uid"] = NonTensorStack(*uids)
            for position in alone:
                scores[position] = torch.zeros_like(scores[position])
        fields["rm_scores"] = torch.nested.as_nested_tensor(scores, layout=torch.jagged)
        tq.kv_batch_put(**queue, fields=TensorDict(fields, batch_size=len(scores)))
        self._metrics = {"rollout/lost": played.lost} if played.lost else {}
        batch = super()._compute_advantage(batch, metrics)
        settings = self._settings.resolved()
        if own := penalised_advantages(played, hindsights, settings.reward, settings.advantage):
            self._put_advantages(queue, own)
        return batch

    def _put_advantages(self, queue: dict[str, Any], own: dict[int, float]) -> None:
        """Puts the advantages of rows, given by position, into the queue."""
        data = tq.kv_batch_get(**queue, select_fields=["advantages", "response_mask"])
        values, masks = list(data["advantages"].unbind()), data["response_mask"].unbind()
        for position, value in own.items():
            values[position] = torch.full_like(values[position], value) * masks[position]
        nested = torch.nested.as_nested_tensor(values, layout=torch.jagged)
        tq.kv_batch_put(**queue, fields=TensorDict({"advantages": nested, "returns": nested}, batch_size=len(values)))

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """See PPOTrainer: lets the bank learn from the same rollouts afterwards, before anything is saved."""
        batch = super()._update_actor(batch, metrics)
        for name in ("actor/pg_loss", "actor/grad_norm"):  # before anything is saved
            require_finite(name, float(np.mean(metrics.get(name, 0.0))), UPDATE)
        started, iteration = perf_counter(), self._progress.iteration
        self._recorder.save_rollouts(self._groups, iteration)
        after = self._progress.bank_event
        result: ObserveResult = self._ask("observe", self._groups_in_ray, iteration, self._seed(), after)
        self._recorder.save_reflections(iteration, result.calls)
        self._metrics |= describe(self._groups, result.update, {}) | result.metrics
        self._metrics["time/learn"] = perf_counter() - started
        return batch

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Returns the bank actor's answer; raises its errors as they are."""
        with unwrapped_ray_errors():
            return ray.get(getattr(self._bank_actor, method).remote(*arguments))

    def _seed(self) -> int:
        return derive(self._settings.seed, "iteration", self._progress.iteration)

    def _validate(self) -> dict[str, float]:
        """See PPOTrainer: plays the panel in both arms, then evicts skills over the bank's capacity."""
        started = perf_counter()
        by_task: dict[Arm, dict[str, Trajectory]] = {}
        for data in self.val_dataloader:
            for arm, trajectory in self._play(data):
                by_task.setdefault(arm, {})[trajectory.task.id] = trajectory
        panel = RunTasks.read(self._run.tasks).validation.task_ids
        arms = validation_arms(self._settings.rollout.with_skills)
        lost = sum(task not in by_task.get(arm, {}) for arm in arms for task in panel)
        if lost:
            raise RunError(
                f"{lost} of {len(arms) * len(panel)} episodes of the validation were lost: the log of the workers says "
                f"why; go on by {command('resume', self._run.path)}"
            )
        require_played([(t.task.id, t.fault) for played in by_task.values() for t in played.values()])
        result = summarize_validation({arm: [by_task[arm][task] for task in panel] for arm in arms})
        metrics = self._recorder.save_validation(result) | {"time/validate": perf_counter() - started}
        self._metrics |= metrics
        if self.global_steps:
            self._metrics |= self._ask("settle", self._progress.iteration, self._ask("state")["event"])
        return {name: value for name, value in metrics.items() if name.startswith("validation/")}

    def _play(self, data: dict[str, Any]) -> list[tuple[Arm, Trajectory]]:
        """Plays rows of the validation file; returns the arm and the trajectory of each episode."""
        count = len(data["raw_prompt"])
        data["uid"] = np.array([str(uuid.uuid4()) for _ in range(count)], dtype=object)
        arms = dict(zip(data["uid"], (_ARMS[source] for source in data["data_source"]), strict=True))
        prompts = tensordict_utils.get_tensordict(data)
        tensordict_utils.assign_non_tensor_data(prompts, "global_steps", self.global_steps)
        tensordict_utils.assign_non_tensor_data(prompts, "validate", True)
        tag = {"is_prompt": True, "status": "pending", "global_steps": self.global_steps}
        tq.kv_batch_put(keys=list(data["uid"]), partition_id="val", tags=[dict(tag) for _ in range(count)])
        self.agent_loop_manager.generate_sequences(prompts)
        batch, _ = self.replay_buffer.sample(global_steps=self.global_steps, partition_id="val", batch_size=count)
        last: dict[str, tuple[int, str]] = {}  # the last row of each episode carries its trajectory
        for key in batch.keys:
            episode, _, index = key.rpartition("_")
            last[episode] = max(last.get(episode, (-1, "")), (int(index), key))
        keys = [key for _, key in last.values()]
        extra = tq.kv_batch_get(keys=keys, partition_id="val", select_fields=["extra_fields"])["extra_fields"]
        uids = [episode.rpartition("_")[0] for episode in last]
        played = [(arms[uid], carried_trajectory(fields)) for uid, fields in zip(uids, list(extra), strict=True)]
        tq.kv_clear(keys=batch.keys, partition_id="val")
        return played

    def _save_checkpoint(self) -> None:
        """See PPOTrainer; our part of it is written at the end of the step."""
        super()._save_checkpoint()
        self._saved = True

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict[str, Any], timing_raw: dict[str, float], global_steps: int, epoch: int
    ) -> None:
        """See PPOTrainer: the last thing in a step; ends the iteration."""
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        steps = sum(len(t.turns) for group in self._groups for t in group.trajectories)
        policy = {ours: float(metrics[theirs]) for ours, theirs in _POLICY.items() if theirs in metrics}
        times = {name: sum(timing_raw.get(part, 0.0) for part in parts) for name, parts in _TIMES.items()}
        self._progress = Progress(global_steps, self._progress.env_steps + steps, 0.0)
        self._report(policy | times)
        if global_steps >= self.total_training_steps:
            self._recorder.summarise(self._progress, self._ask("state")["counts"])
        if self._saved:
            self._saved = False
            self._ask("snapshot")
            weights = _LinkedWeights(f"verl/global_step_{global_steps}")
            checkpoint.save(self._run.path, self._progress, weights, dump(self._settings))
        metrics |= {f"d2skill/{name}": value for name, value in self._metrics.items()}
        self._metrics = {}

    def _report(self, metrics: dict[str, Any]) -> None:
        """Writes the line of metrics of the iterations so far, and remembers how far the bank is with it."""
        state = self._ask("state")
        done, seconds = self._progress, perf_counter() - self._started
        self._progress = Progress(done.iteration, done.env_steps, seconds, state["event"])
        self._recorder.report(self._progress, state["counts"], state["mean_utility"], metrics | self._metrics)


class _LinkedWeights:
    """The policy of a checkpoint: a link to the weights that verl wrote in the form of Transformers."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def save(self, folder: Path) -> None:
        """See Policy."""
        weights = Path("../../..") / self._folder / "actor" / "huggingface"
        (folder / "model").symlink_to(weights, target_is_directory=True)
        meta = {"kind": KIND, "format": FORMAT, "reference": False, "optimiser": False}
        (folder / META).write_text(json.dumps(meta), encoding="utf-8")
