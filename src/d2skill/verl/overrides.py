"""Settings of this package as overrides of verl's `ppo_trainer`, which hydra composes.

Where verl differs from the local engine, and no setting of it helps:

- The probabilities before an update are computed again by the trainer, since the servers' are rounded otherwise.
- The KL term of a token is cut at 10; a gradient that is not finite is left out, where the local engine stops.
- Rows are drawn into minibatches on each rank by itself, and the last one is filled up by rows that count for nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from d2skill.config import Config
from d2skill.config.verl import row_tokens

MODE = "d2skill"
"""The name by which verl finds our trainer."""

_Tree = dict[str, Any]


def overrides(config: Config, run: Path, *, resume: int | None) -> list[str]:
    """Returns the settings of a run as hydra's overrides of verl's `ppo_trainer`, those in verl.options last.

    Args:
        config: resolved settings that `checks.require_translatable` accepts.
        run: the run folder, where the files for verl are or will be.
        resume: the step of verl's checkpoint to go on from, which is the iteration of ours.
    """
    run = run.absolute()
    files, verl = run / "verl", config.verl
    prompt, answer = row_tokens(config)
    tree: _Tree = {
        "data": {
            "train_files": str(files / "train.parquet"),
            "val_files": str(files / "validation.parquet"),
            "train_batch_size": config.rollout.tasks,
            "val_batch_size": None,  # the whole panel at once
            "seed": _seed(config),
            "max_prompt_length": prompt,
            "max_response_length": answer,
        },
        "actor_rollout_ref": _engine(config)
        | {"actor": _actor(config), "model": _model(config, run), "rollout": _rollout(config, files)},
        "trainer": {
            "v1.trainer_mode": MODE,
            "nnodes": verl.nodes,
            "n_gpus_per_node": verl.gpus,
            "total_training_steps": config.train.iterations,
            "test_freq": config.validation.every,
            "val_before_train": resume is None,
            "save_freq": config.train.checkpoint_every,
            "default_local_dir": str(files),
            "resume_mode": "disable" if resume is None else "resume_path",
            "resume_from_path": None if resume is None else str(files / f"global_step_{resume}"),
            "experiment_name": run.name,
        },
        "+d2skill.run": str(run),
    }
    if verl.strategy == "megatron":
        tree["model_engine"] = "megatron"
    if verl.address is not None:
        tree["+ray_kwargs.ray_init.address"] = verl.address
    fixed = tomllib.loads((resources.files("d2skill.verl") / "resources" / "fixed_settings.toml").read_text("utf-8"))
    return [f"{key}={_hydra_value(value)}" for key, value in (*_flat(fixed), *_flat(tree))] + list(verl.options)


def model_path(config: Config, run: Path) -> str:
    """Returns the folder or id of the model that verl reads; "tiny" has to be in a folder of the run."""
    name = config.policy.lm.model
    if name == "tiny":
        return str(run.absolute() / "verl" / "model")
    return str(Path(name).absolute()) if Path(name).is_dir() else name


def _seed(config: Config) -> int:
    """Returns the seed, as large as all that verl gives it to can take."""
    return config.seed % 2**31


def _engine(config: Config) -> _Tree:
    """Returns the engine that shards the model: precisions, and what it keeps on the GPU."""
    lm, offload, seed = config.policy.lm, config.verl.offload, _seed(config)
    if config.verl.strategy == "megatron":
        megatron: _Tree = {"seed": seed, "param_offload": offload, "optimizer_offload": offload}
        if lm.gradient_checkpointing:
            recompute = {"granularity": "full", "method": "uniform", "num_layers": 1}
            megatron["override_transformer_config"] = {f"recompute_{name}": value for name, value in recompute.items()}
        return {"actor.megatron": megatron}
    precision = {"+mixed_precision.param_dtype": "fp32"} if lm.dtype == "float32" else {}
    both = {"param_offload": offload, "seed": seed, **precision}
    return {
        "actor.strategy": config.verl.strategy,
        # Adam steps float32 weights, whatever the precision of computing, as with the local engine
        "actor.fsdp_config": {"model_dtype": "fp32", "optimizer_offload": offload, **both},
        "ref.fsdp_config": {"model_dtype": "bf16" if lm.dtype == "bfloat16" else "fp32", **both},
    }


def _model(config: Config, run: Path) -> _Tree:
    lm = config.policy.lm
    model = {"path": model_path(config, run), "enable_gradient_checkpointing": lm.gradient_checkpointing}
    if config.verl.strategy == "megatron":
        return model
    attention: str = lm.attention
    if attention == "auto":
        attention = "flash_attention_2" if lm.dtype == "bfloat16" and find_spec("flash_attn") else "sdpa"
    # only flash attention keeps rows apart that are packed into one
    packed = attention == "flash_attention_2"
    return model | {"use_remove_padding": packed, "+override_config.attn_implementation": attention}


def _actor(config: Config) -> _Tree:
    optim = config.optim
    schedule = "lr_decay_style" if config.verl.strategy == "megatron" else "lr_scheduler_type"
    return {
        **dict.fromkeys(("clip_ratio", "clip_ratio_low", "clip_ratio_high"), optim.clip),
        "use_kl_loss": optim.kl > 0,
        "kl_loss_coef": optim.kl,
        # verl counts prompts, each rollout.n rows, though a prompt here has a row for each of its steps
        "ppo_mini_batch_size": optim.minibatch_rows // config.rollout.group_size,
        "data_loader_seed": _seed(config),
        "ppo_max_token_len_per_gpu": config.policy.lm.pass_tokens,
        "optim.lr": config.resolved().optim.learning_rate,
        "optim.clip_grad": optim.max_grad_norm,
        f"optim.{schedule}": "constant",
    }


def _rollout(config: Config, files: Path) -> _Tree:
    lm, verl = config.policy.lm, config.verl
    sampling = {"top_p": lm.top_p, "top_k": lm.top_k or -1}
    validation = {"temperature": config.validation.temperature, "do_sample": config.validation.temperature > 0}
    return {
        "name": verl.rollout,
        "n": config.rollout.group_size,
        "temperature": config.rollout.temperature,
        **sampling,
        "val_kwargs": validation | sampling,
        "dtype": lm.dtype,
        "seed": _seed(config),
        "tensor_model_parallel_size": verl.tensor_parallel,
        "gpu_memory_utilization": verl.gpu_memory,
        "agent.num_workers": verl.workers,
        "agent.agent_loop_config_path": str(files / "agent.yaml"),
    }


def _flat(tree: _Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a tree by dotted key; the + of a key, which adds it to verl's, goes to the front."""
    for key, value in tree.items():
        dotted = "+" * key.startswith("+") + prefix + key.removeprefix("+")
        if isinstance(value, dict):
            yield from _flat(value, f"{dotted}.")
        else:
            yield dotted, value


def _hydra_value(value: Any) -> str:
    """Returns a value in hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{','.join(map(_hydra_value, value))}]"
    return repr(value)


def _quoted(text: str) -> str:
    """Returns a text that hydra and OmegaConf read back as it is: backslashes count only before a quote or `${`."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + (r"\'" if m[2] else ""), literal) + "'"
