"""Runs through verl: prepared and checked here, trained by verl's processes, read back from the run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from d2skill.bank import SkillBank
from d2skill.components import require_asked, sample_texts
from d2skill.config import Config, key_hosts
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.errors import ConfigError, RunError
from d2skill.evaluation import adopt_start_bank
from d2skill.planning.model_shapes import hub_revisions
from d2skill.reflectors import make_reflector
from d2skill.run_recorder import RunRecorder
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks
from d2skill.verl.bank_actor import unwrapped_ray_errors
from d2skill.verl.checks import require_devices, require_shardable, require_shared, require_translatable, require_verl
from d2skill.verl.data import write_agent_loop, write_data
from d2skill.verl.overrides import model_path, overrides

_PLUGIN = "d2skill.verl.trainer"
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's variable, named for other systems: with 0 a node's address is 127.0.0.1, and its servers listen there."""
_PASSED_ON = ("VERL_USE_EXTERNAL_MODULES", "VERL_PLATFORM", "PYTHONPATH", key_hosts.VARIABLE)
"""Environment variables of this process that all processes of Ray get."""


def start(config: Config, folder: Path) -> dict[str, Any]:
    """Trains in a new run folder and returns the summary. Raises `ConfigError` at once for what verl cannot do."""
    listen_on_loopback(config)
    require_verl()
    require_translatable(config)
    require_devices(config)
    if config.policy.lm.model != "tiny":
        require_shardable(config, config.policy.lm.model)
    require_asked(config, make_reflector(config.reflect, check=True))  # raises if its server does not answer
    environment = make_environment(config.env)
    tasks = RunTasks.choose(environment, config)
    bank = SkillBank(make_embedder(config.embedder), config.bank, config.retrieval, config.credit)
    adopt_start_bank(bank, config.bank, tasks.validation.task_ids)
    run = RunFolder.create(folder, (*config.track, config.engine))
    try:
        run.begin(config, tasks.record(), models=hub_revisions(config))
        bank.record(run.bank, wait=config.bank.wait)
        bank.close()
        write_data(config, tasks, folder)
        if config.policy.lm.model == "tiny":
            _write_tiny(config, Path(model_path(config, folder)), sample_texts(environment, config.env.train_split))
        return _train(config, folder, None)
    except BaseException:
        bank.close()
        if run.is_beginning():
            run.discard()
        raise


def resume(folder: Path) -> dict[str, Any]:
    """Goes on with a run from its last checkpoint and returns the summary; a run that has ended is only read."""
    run, point = RunFolder.open(folder), checkpoint.latest(folder)
    config, progress = run.config(), checkpoint.read_progress(point)
    if run.summary.exists():
        summary = run.read_summary()
        if summary["iterations"] == progress.iteration:
            return summary
    listen_on_loopback(config)
    require_verl()
    key_hosts.decide_keys(config, ask=True)  # the bank's process has nobody to ask
    settings = config.bank, config.retrieval, config.credit
    bank = SkillBank.open(run.bank, make_embedder(config.embedder), *settings, event=progress.bank_event)
    bank.record(run.bank, back_to=progress.bank_event, wait=config.bank.wait)
    bank.close()
    RunRecorder(run, config).cut_back(progress.iteration)
    checkpoint.set_aside_after(folder, progress.iteration)
    write_agent_loop(folder)  # an older version of this package may have named another module in it
    return _train(config, folder, progress.iteration)


def listen_on_loopback(config: Config) -> None:
    """Lets the processes of a Ray that is started here, and verl's servers, listen on 127.0.0.1 alone.

    Ray reads the variable when it is imported, so this comes first. Who sets it to 1 keeps the address of the network,
    which a cluster (verl.address) needs.
    """
    if config.verl.address is None and not any("ray_init.address" in option for option in config.verl.options):
        os.environ.setdefault(_LOOPBACK, "0")


def _write_tiny(config: Config, folder: Path, texts: list[str]) -> None:
    from d2skill.policies.causal_lm.tiny_model import make_tiny_model

    model, tokenizer = make_tiny_model(config.policy.lm, texts, config.seed, "sdpa")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _train(config: Config, folder: Path, done: int | None) -> dict[str, Any]:
    """Lets verl train, after so many iterations, and returns the summary."""
    modules = [name for name in os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",") if name]
    os.environ["VERL_USE_EXTERNAL_MODULES"] = ",".join(dict.fromkeys([*modules, _PLUGIN]))
    import ray
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo

    run = folder.resolve()
    require_shardable(config, model_path(config, run))
    settings = _verl_settings(config, run, done)
    is_ours = not ray.is_initialized()
    with _plain_errors():
        try:
            if is_ours:
                _start_ray(settings)
            require_devices(config)
            require_shared(run)
            run_ppo(settings, TaskRunnerV1)
        finally:
            if is_ours:
                ray.shutdown()
    return RunFolder(folder).read_summary()


def _verl_settings(config: Config, run: Path, done: int | None) -> Any:
    """Returns verl's settings; raises `ConfigError` if verl rejects those of verl.options."""
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
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"verl does not take these settings ({reason}): see verl.options") from error
    return settings


def _start_ray(settings: Any) -> None:
    """Starts Ray or joins a cluster as verl does it, with the environment variables of verl's plug-ins."""
    import ray
    from omegaconf import OmegaConf
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"TRANSFER_QUEUE_ENABLE": "1"}
    arguments: Any = OmegaConf.to_container(settings.ray_kwargs.ray_init, resolve=True)
    environment = OmegaConf.merge(
        OmegaConf.create(get_ppo_ray_runtime_env(settings)),
        {"env_vars": variables},
        settings.ray_kwargs.ray_init.get("runtime_env", {}),
    )
    try:
        ray.init(**arguments | {"runtime_env": OmegaConf.to_container(environment, resolve=True)})
    except ConnectionError as error:
        raise ConfigError(
            f"verl.address is {arguments.get('address')}, where no Ray cluster answers ({error}): start one by ray "
            "start --head, or leave verl.address out"
        ) from None


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raises an error of this package that ended a process of Ray itself, and `RunError` for any other."""
    from ray.exceptions import RayError

    try:
        with unwrapped_ray_errors():
            yield
    except RayError as error:
        cause = getattr(error, "cause", None) or error
        reason = str(cause).strip().rpartition("\n")[2]
        raise RunError(f"verl stopped ({type(cause).__name__}: {reason}): what stands above says where") from error
