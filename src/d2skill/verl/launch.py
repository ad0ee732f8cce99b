"""Runs through verl: made and checked here, trained by verl's processes, read back from the run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from d2skill.bank import SkillBank
from d2skill.components import sample_texts
from d2skill.config import Config
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.errors import ConfigError, RunError
from d2skill.evaluation import begin_with
from d2skill.reflectors import make_reflector
from d2skill.run_recorder import RunRecorder
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks
from d2skill.utils.atomic_files import read_json
from d2skill.verl.bank_actor import told_by_ray
from d2skill.verl.checks import require_devices, require_shardable, require_shared, require_translatable, require_verl
from d2skill.verl.data import write_data
from d2skill.verl.overrides import model_path, overrides

_PLUGIN = "d2skill.verl.trainer"
_TOLD = ("VERL_USE_EXTERNAL_MODULES", "VERL_PLATFORM", "PYTHONPATH")
"""What the environment of this process tells those of all others."""


def start(config: Config, folder: Path) -> dict[str, Any]:
    """Trains in a new run folder and returns the summary. Raises `ConfigError` for what verl cannot do, at once."""
    require_verl()
    require_translatable(config)
    require_devices(config)
    if config.policy.lm.model != "tiny":
        require_shardable(config, config.policy.lm.model)
    make_reflector(config.reflect, check=True)  # one that works elsewhere is reached, or the run ends here
    environment = make_environment(config.env)
    tasks = RunTasks.choose(environment, config)
    bank = SkillBank(make_embedder(config.embedder), config.bank, config.retrieval, config.credit)
    begin_with(bank, config.bank, tasks.validation.task_ids)
    run = RunFolder.create(folder)
    try:
        run.begin(config, tasks.record())
        bank.record(run.bank, wait=config.bank.wait)
        bank.close()
        write_data(config, tasks, folder)
        if config.policy.lm.model == "tiny":
            _write_tiny(config, Path(model_path(config, folder)), sample_texts(environment, config.env.train_split))
        return _train(config, folder, None)
    except BaseException:
        bank.close()
        if not checkpoint.folders(folder):
            rmtree(folder / "verl", ignore_errors=True)
            run.discard()
        raise


def resume(folder: Path) -> dict[str, Any]:
    """Goes on with a run from its last checkpoint and returns the summary; a run that has ended is only read."""
    run, point = RunFolder.open(folder), checkpoint.latest(folder)
    config, progress = run.config(), checkpoint.read_progress(point)
    if run.summary.exists():
        summary: dict[str, Any] = read_json(run.summary)
        if summary["iterations"] == progress.iteration:
            return summary
    require_verl()
    settings = config.bank, config.retrieval, config.credit
    bank = SkillBank.open(run.bank, make_embedder(config.embedder), *settings, event=progress.bank_event)
    bank.record(run.bank, back_to=progress.bank_event, wait=config.bank.wait)
    bank.close()
    RunRecorder(run, config).back_to(progress.iteration)
    return _train(config, folder, progress.iteration)


def _write_tiny(config: Config, folder: Path, texts: list[str]) -> None:
    from d2skill.policies.causal_lm.tiny_model import make_tiny

    model, tokenizer = make_tiny(config.policy.lm, texts, config.seed, "sdpa")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _train(config: Config, folder: Path, done: int | None) -> dict[str, Any]:
    """Lets verl train from so many iterations on, and returns the summary."""
    modules = [name for name in os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",") if name]
    os.environ["VERL_USE_EXTERNAL_MODULES"] = ",".join(dict.fromkeys([*modules, _PLUGIN]))
    import ray
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo

    run = folder.resolve()
    require_shardable(config, model_path(config, run))
    settings = _settings(config, run, done)
    joined = ray.is_initialized()
    with _our_errors():
        try:
            if not joined:
                _join(settings)
            require_devices(config)
            require_shared(run)
            run_ppo(settings, TaskRunnerV1)
        finally:
            if not joined:
                ray.shutdown()
    summary: dict[str, Any] = read_json(RunFolder(folder).summary)
    return summary


def _settings(config: Config, run: Path, done: int | None) -> Any:
    """Returns verl's settings; raises `ConfigError` if verl takes those of verl.options for wrong."""
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    try:
        with initialize_config_module("verl.trainer.config", version_base=None):
            settings = compose("ppo_trainer", overrides=overrides(config, run, resume=done))
        auto_set_device(settings)
        validate_config(settings, use_reference_policy=config.optim.kl > 0, use_critic=False)
    except (HydraException, AssertionError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]
        raise ConfigError(f"verl does not take these settings ({said}): see verl.options") from error
    return settings


def _join(settings: Any) -> None:
    """Starts Ray or joins a cluster as verl does it; the workers get what verl's modules are told by."""
    import ray
    from omegaconf import OmegaConf
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    told = {name: os.environ[name] for name in _TOLD if name in os.environ} | {"TRANSFER_QUEUE_ENABLE": "1"}
    environment = OmegaConf.create(get_ppo_ray_runtime_env(settings))
    environment = OmegaConf.merge(environment, {"env_vars": told}, settings.ray_kwargs.ray_init.get("runtime_env", {}))
    given: Any = OmegaConf.to_container(settings.ray_kwargs.ray_init, resolve=True)
    try:
        ray.init(**given | {"runtime_env": OmegaConf.to_container(environment, resolve=True)})
    except ConnectionError as error:
        raise ConfigError(
            f"verl.address is {given.get('address')}, where no Ray cluster answers ({error}): start one by ray start "
            "--head, or leave verl.address out"
        ) from None


@contextmanager
def _our_errors() -> Iterator[None]:
    """Lets an error of ours that ended a process of Ray end this one, without that process's story."""
    from ray.exceptions import RayError

    try:
        with told_by_ray():
            yield
    except RayError as error:
        cause = getattr(error, "cause", None) or error
        said = str(cause).strip().rpartition("\n")[2]
        raise RunError(f"verl stopped ({type(cause).__name__}: {said}): what stands above says where") from error
