"""Our settings as verl's: what hydra's compose of verl's `ppo_trainer` takes.

Where verl does otherwise than the local engine, and no setting of it helps:

- The probabilities before an update are computed again by the trainer, since the servers' are rounded otherwise.
- The KL term of a token is cut at 10; a gradient that is not finite is left out, where the local engine stops.
- Rows are drawn into minibatches on each rank by itself, and the last one is filled up by rows that count for nothing.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from d2skill.config import CausalLMConfig, Config

MODE = "d2skill"
"""The name by which verl finds our trainer."""
PROMPT_MARGIN = 512
"""Tokens of a prompt that `prompt.max_tokens` does not count: instructions, headings, line ends, the chat template."""

_ACTOR = "actor_rollout_ref.actor"
_MODEL = "actor_rollout_ref.model"
_REFERENCE = "actor_rollout_ref.ref"
_ROLLOUT = "actor_rollout_ref.rollout"

Settings = dict[str, Any]


def overrides(config: Config, run: Path, *, resume: int | None) -> list[str]:
    """Returns the settings of a run as hydra's overrides of verl's `ppo_trainer`, those in verl.options last.

    Args:
        config: resolved settings that `refusals.require_translatable` lets through.
        run: the run folder, where its files for verl are or will be.
        resume: the step of verl's checkpoint to go on from, which is the iteration of ours.
    """
    run = run.absolute()
    ours = {
        **_engine(config),
        **_algorithm(config),
        **_data(config, run),
        **_model(config, run),
        **_actor(config),
        **_optimiser(config),
        **_rollout(config, run),
        **_trainer(config, run, resume),
        "+d2skill.run": str(run),
    }
    if config.verl.address is not None:
        ours["+ray_kwargs.ray_init.address"] = config.verl.address
    return [f"{key}={_rendered(value)}" for key, value in ours.items()] + list(config.verl.options)


def model_path(config: Config, run: Path) -> str:
    """Returns the folder or id of the model that verl reads; for "tiny" the folder in the run where it has to be."""
    name = config.policy.lm.model
    if name == "tiny":
        return str(run.absolute() / "verl" / "model")
    return str(Path(name).absolute()) if Path(name).is_dir() else name


def row_tokens(config: Config) -> tuple[int, int]:
    """Returns how many tokens a prompt and an answer may have; a longer prompt loses its beginning."""
    return config.prompt.max_tokens + PROMPT_MARGIN, config.policy.lm.max_new_tokens


def _seed(config: Config) -> int:
    """Returns the seed, as large as all that verl gives it to can take."""
    return config.seed % 2**31


def _engine(config: Config) -> Settings:
    """What shards the model, in which precision, and what it keeps on the GPU."""
    lm, offload = config.policy.lm, config.verl.offload
    if config.verl.strategy == "megatron":
        engine: Settings = {"model_engine": "megatron", f"{_ACTOR}.megatron.seed": _seed(config)}
        engine |= {f"{_ACTOR}.megatron.{part}_offload": offload for part in ("param", "optimizer")}
        if lm.gradient_checkpointing:
            again = f"{_ACTOR}.megatron.override_transformer_config.recompute"
            engine |= {f"{again}_granularity": "full", f"{again}_method": "uniform", f"{again}_num_layers": 1}
        return engine
    actor, reference = f"{_ACTOR}.fsdp_config", f"{_REFERENCE}.fsdp_config"
    engine = {
        f"{_ACTOR}.strategy": config.verl.strategy,
        # What Adam steps is float32, whatever the precision of computing, as with the local engine.
        f"{actor}.model_dtype": "fp32",
        f"{reference}.model_dtype": "bf16" if lm.dtype == "bfloat16" else "fp32",
        f"{actor}.param_offload": offload,
        f"{actor}.optimizer_offload": offload,
        f"{reference}.param_offload": offload,
        f"{actor}.seed": _seed(config),
        f"{reference}.seed": _seed(config),
    }
    if lm.dtype == "float32":
        engine |= {f"+{part}.mixed_precision.param_dtype": "fp32" for part in (actor, reference)}
    return engine


def _algorithm(config: Config) -> Settings:
    """Eq. 5, which is what verl calls grpo: over the sessions of a prompt, each counted once."""
    return {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": True,
        "algorithm.use_kl_in_reward": False,
        "critic.enable": False,
        "reward.num_workers": 1,  # the loop workers score sessions themselves
    }


def _data(config: Config, run: Path) -> Settings:
    """The files that `write_data` makes, read in the order in which they are written."""
    prompt, answer = row_tokens(config)
    return {
        "data.train_files": str(run / "verl" / "train.parquet"),
        "data.val_files": str(run / "verl" / "validation.parquet"),
        "data.train_batch_size": config.rollout.tasks,
        "data.val_batch_size": None,  # the whole panel at once
        "data.shuffle": False,
        "data.validation_shuffle": False,
        "data.seed": _seed(config),
        "data.dataloader_num_workers": 0,
        "data.filter_overlong_prompts": False,
        "data.return_raw_chat": True,
        "data.max_prompt_length": prompt,
        "data.max_response_length": answer,
    }


def _model(config: Config, run: Path) -> Settings:
    lm = config.policy.lm
    model: Settings = {
        f"{_MODEL}.path": model_path(config, run),
        f"{_MODEL}.enable_gradient_checkpointing": lm.gradient_checkpointing,
    }
    if config.verl.strategy == "megatron":
        return model
    attention = _attention(lm)
    # Rows that are packed into one are kept apart by flash attention alone.
    model[f"{_MODEL}.use_remove_padding"] = attention == "flash_attention_2"
    model[f"+{_MODEL}.override_config.attn_implementation"] = attention
    return model


def _attention(lm: CausalLMConfig) -> str:
    if lm.attention != "auto":
        return lm.attention
    return "flash_attention_2" if lm.dtype == "bfloat16" and find_spec("flash_attn") else "sdpa"


def _actor(config: Config) -> Settings:
    """Eq. 6. verl's token-mean is ours: over all tokens of a minibatch, on whatever ranks and in whatever parts."""
    optim = config.optim
    actor: Settings = {f"{_ACTOR}.{name}": optim.clip for name in ("clip_ratio", "clip_ratio_low", "clip_ratio_high")}
    return actor | {
        # Bounds the loss of a bad answer that has become likelier; ratios are cut at e^20, so this never does.
        f"{_ACTOR}.clip_ratio_c": 1e9,
        f"{_ACTOR}.loss_agg_mode": "token-mean",
        f"{_ACTOR}.entropy_coeff": 0,
        f"{_ACTOR}.use_kl_loss": optim.kl > 0,
        f"{_ACTOR}.kl_loss_coef": optim.kl,
        f"{_ACTOR}.kl_loss_type": "low_var_kl",
        f"{_ACTOR}.ppo_epochs": 1,
        # verl counts prompts, each rollout.n rows, though a prompt here has a row for each of its steps.
        f"{_ACTOR}.ppo_mini_batch_size": optim.minibatch_rows // config.rollout.group_size,
        f"{_ACTOR}.shuffle": True,
        f"{_ACTOR}.data_loader_seed": _seed(config),
        f"{_ACTOR}.use_dynamic_bsz": True,
        f"{_ACTOR}.ppo_max_token_len_per_gpu": config.policy.lm.microbatch_tokens,
        f"{_ACTOR}.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
        f"{_ACTOR}.checkpoint.load_contents": ["model", "optimizer", "extra"],
    }


def _optimiser(config: Config) -> Settings:
    """Adam as in policies.torch_optim: AdamW without decay, always with the same step size."""
    schedule = "lr_decay_style" if config.verl.strategy == "megatron" else "lr_scheduler_type"
    return {
        f"{_ACTOR}.optim.lr": config.resolved().optim.learning_rate,
        f"{_ACTOR}.optim.weight_decay": 0.0,
        f"{_ACTOR}.optim.betas": [0.9, 0.999],
        f"{_ACTOR}.optim.clip_grad": config.optim.max_grad_norm,
        f"{_ACTOR}.optim.lr_warmup_steps": 0,
        f"{_ACTOR}.optim.lr_warmup_steps_ratio": 0.0,
        f"{_ACTOR}.optim.{schedule}": "constant",
    }


def _rollout(config: Config, run: Path) -> Settings:
    lm, verl = config.policy.lm, config.verl
    top_k = lm.top_k or -1
    return {
        f"{_ROLLOUT}.name": verl.rollout,
        f"{_ROLLOUT}.n": config.rollout.group_size,
        f"{_ROLLOUT}.temperature": config.rollout.temperature,
        f"{_ROLLOUT}.top_p": lm.top_p,
        f"{_ROLLOUT}.top_k": top_k,
        f"{_ROLLOUT}.val_kwargs.n": 1,
        f"{_ROLLOUT}.val_kwargs.temperature": config.validation.temperature,
        f"{_ROLLOUT}.val_kwargs.do_sample": config.validation.temperature > 0,
        f"{_ROLLOUT}.val_kwargs.top_p": lm.top_p,
        f"{_ROLLOUT}.val_kwargs.top_k": top_k,
        f"{_ROLLOUT}.calculate_log_probs": True,
        f"{_ROLLOUT}.dtype": lm.dtype,
        f"{_ROLLOUT}.seed": _seed(config),
        f"{_ROLLOUT}.tensor_model_parallel_size": verl.tensor_parallel,
        f"{_ROLLOUT}.gpu_memory_utilization": verl.gpu_memory,
        f"{_ROLLOUT}.agent.num_workers": verl.workers,
        f"{_ROLLOUT}.agent.default_agent_loop": "d2skill",
        f"{_ROLLOUT}.agent.agent_loop_config_path": str(run / "verl" / "agent.yaml"),
    }


def _trainer(config: Config, run: Path, resume: int | None) -> Settings:
    folder = run / "verl"
    return {
        "trainer.v1.trainer_mode": MODE,
        "trainer.nnodes": config.verl.nodes,
        "trainer.n_gpus_per_node": config.verl.gpus,
        "trainer.total_training_steps": config.train.iterations,
        "trainer.total_epochs": 1,  # the training file has a batch for each iteration
        "trainer.test_freq": config.validation.every,
        "trainer.val_before_train": resume is None,
        "trainer.save_freq": config.train.checkpoint_every,
        "trainer.max_actor_ckpt_to_keep": 2,
        "trainer.default_local_dir": str(folder),
        "trainer.resume_mode": "disable" if resume is None else "resume_path",
        "trainer.resume_from_path": None if resume is None else str(folder / f"global_step_{resume}"),
        "trainer.logger": ["console"],
        "trainer.project_name": "d2skill",
        "trainer.experiment_name": run.name,
    }


def _rendered(value: Any) -> str:
    """Returns a value in hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{','.join(map(_rendered, value))}]"
    return repr(value)


def _quoted(text: str) -> str:
    """Returns a text that hydra and OmegaConf read back as it is: backslashes count only before a quote or `${`."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + (r"\'" if m[2] else ""), literal) + "'"
