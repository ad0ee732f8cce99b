from pathlib import Path

import pytest

from d2skill.config import Config
from d2skill.config.toml_files import load
from d2skill.config.verl import PROMPT_MARGIN, row_tokens
from d2skill.errors import ConfigError
from d2skill.verl import overrides as overrides_module
from d2skill.verl.checks import data_parallel_size, require_translatable
from d2skill.verl.overrides import model_path, overrides

RUN = Path("/runs/one")


def changed(name: str = "alfworld-verl", **values) -> Config:
    """Settings of a preset with some changed, by names such as policy__lm__dtype."""
    tree = load(name).model_dump()
    for key, value in values.items():
        *path, last = key.split("__")
        section = tree
        for part in path:
            section = section[part]
        section[last] = value
    return Config.model_validate(tree)


def translated(config: Config, resume: int | None = None) -> dict[str, str]:
    lines = overrides(config, RUN, resume=resume)
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("preset", ["alfworld", "webshop"])
def test_the_presets_are_the_published_settings_on_another_engine(preset):
    paper, verl = load(f"{preset}-paper"), load(f"{preset}-verl")
    require_translatable(verl)
    same = paper.model_copy(
        update={
            "engine": "verl",
            "bank": paper.bank.model_copy(update={"probe": 0}),
            "policy": verl.policy,
            "verl": verl.verl,
        }
    )
    assert verl == same and verl.verl.nodes * verl.verl.gpus == 8
    lm = paper.policy.lm.model_copy(update={"gradient_checkpointing": True, "microbatch_tokens": 16384})
    assert verl.policy.lm == lm and verl.policy.kind == paper.policy.kind


EXPECTED = [
    ("algorithm.adv_estimator", "'grpo'"),
    ("algorithm.norm_adv_by_std_in_grpo", "true"),
    ("algorithm.use_kl_in_reward", "false"),
    ("actor_rollout_ref.actor.use_kl_loss", "true"),
    ("actor_rollout_ref.actor.kl_loss_coef", "0.01"),
    ("actor_rollout_ref.actor.kl_loss_type", "'low_var_kl'"),
    ("actor_rollout_ref.actor.clip_ratio", "0.2"),
    ("actor_rollout_ref.actor.clip_ratio_low", "0.2"),
    ("actor_rollout_ref.actor.clip_ratio_high", "0.2"),
    ("actor_rollout_ref.actor.loss_agg_mode", "'token-mean'"),
    ("actor_rollout_ref.actor.entropy_coeff", "0"),
    ("actor_rollout_ref.actor.ppo_epochs", "1"),
    ("actor_rollout_ref.actor.ppo_mini_batch_size", "16"),
    ("actor_rollout_ref.actor.use_dynamic_bsz", "true"),
    ("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", "16384"),
    ("actor_rollout_ref.actor.strategy", "'fsdp2'"),
    ("actor_rollout_ref.actor.optim.lr", "1e-06"),
    ("actor_rollout_ref.actor.optim.weight_decay", "0.0"),
    ("actor_rollout_ref.actor.optim.clip_grad", "1.0"),
    ("actor_rollout_ref.actor.optim.lr_scheduler_type", "'constant'"),
    ("actor_rollout_ref.model.path", "'Qwen/Qwen2.5-7B-Instruct'"),
    ("actor_rollout_ref.model.enable_gradient_checkpointing", "true"),
    ("actor_rollout_ref.rollout.name", "'vllm'"),
    ("actor_rollout_ref.rollout.n", "8"),
    ("actor_rollout_ref.rollout.temperature", "1.0"),
    ("actor_rollout_ref.rollout.top_k", "-1"),
    ("actor_rollout_ref.rollout.val_kwargs.temperature", "0.4"),
    ("actor_rollout_ref.rollout.val_kwargs.do_sample", "true"),
    ("actor_rollout_ref.rollout.val_kwargs.n", "1"),
    ("actor_rollout_ref.rollout.agent.agent_loop_config_path", "'/runs/one/verl/agent.yaml'"),
    ("data.train_files", "'/runs/one/verl/train.parquet'"),
    ("data.val_files", "'/runs/one/verl/validation.parquet'"),
    ("data.train_batch_size", "16"),
    ("data.val_batch_size", "null"),
    ("data.shuffle", "false"),
    ("data.validation_shuffle", "false"),
    ("data.max_prompt_length", str(4096 + PROMPT_MARGIN)),
    ("data.max_response_length", "512"),
    ("trainer.v1.trainer_mode", "'d2skill'"),
    ("trainer.nnodes", "1"),
    ("trainer.n_gpus_per_node", "8"),
    ("trainer.total_training_steps", "160"),
    ("trainer.test_freq", "5"),
    ("trainer.save_freq", "5"),
    ("trainer.default_local_dir", "'/runs/one/verl'"),
    ("trainer.resume_mode", "'disable'"),
    ("trainer.resume_from_path", "null"),
    ("trainer.val_before_train", "true"),
    ("trainer.experiment_name", "'one'"),
    ("+d2skill.run", "'/runs/one'"),
]


@pytest.mark.parametrize(("key", "value"), EXPECTED, ids=[key for key, _ in EXPECTED])
def test_what_the_published_settings_become(key, value):
    assert translated(load("alfworld-verl"))[key] == value


CHANGES = [
    ({"optim__kl": 0.0}, "actor_rollout_ref.actor.use_kl_loss", "false"),
    ({"optim__clip": 0.1}, "actor_rollout_ref.actor.clip_ratio_high", "0.1"),
    ({"optim__minibatch_rows": 64}, "actor_rollout_ref.actor.ppo_mini_batch_size", "8"),
    ({"optim__max_grad_norm": 0.5}, "actor_rollout_ref.actor.optim.clip_grad", "0.5"),
    ({"policy__lm__top_k": 40}, "actor_rollout_ref.rollout.val_kwargs.top_k", "40"),
    ({"policy__lm__top_p": 0.9}, "actor_rollout_ref.rollout.top_p", "0.9"),
    ({"validation__temperature": 0.0}, "actor_rollout_ref.rollout.val_kwargs.do_sample", "false"),
    ({"policy__lm__attention": "eager"}, "+actor_rollout_ref.model.override_config.attn_implementation", "'eager'"),
    ({"policy__lm__attention": "eager"}, "actor_rollout_ref.model.use_remove_padding", "false"),
    ({"policy__lm__attention": "flash_attention_2"}, "actor_rollout_ref.model.use_remove_padding", "true"),
    ({"verl__offload": True}, "actor_rollout_ref.actor.fsdp_config.optimizer_offload", "true"),
    ({"verl__address": "head:6379"}, "+ray_kwargs.ray_init.address", "'head:6379'"),
    ({"seed": 2**40 + 3}, "actor_rollout_ref.rollout.seed", "3"),
    ({"policy__lm__dtype": "float32"}, "actor_rollout_ref.rollout.dtype", "'float32'"),
    ({"policy__lm__model": "tiny"}, "actor_rollout_ref.model.path", "'/runs/one/verl/model'"),
    ({"verl__strategy": "megatron", "verl__offload": True}, "actor_rollout_ref.actor.megatron.param_offload", "true"),
    ({"verl__strategy": "megatron"}, "model_engine", "'megatron'"),
    ({"verl__strategy": "megatron"}, "actor_rollout_ref.actor.optim.lr_decay_style", "'constant'"),
]


@pytest.mark.parametrize(("change", "key", "value"), CHANGES, ids=[key for _, key, _ in CHANGES])
def test_what_a_changed_setting_becomes(change, key, value):
    assert translated(changed(**change))[key] == value


@pytest.mark.parametrize("flash", [True, False])
def test_attention_is_flash_where_it_is_installed_and_rows_are_packed_with_it_alone(flash, monkeypatch):
    monkeypatch.setattr(overrides_module, "find_spec", lambda name: object() if flash else None)
    found = translated(load("alfworld-verl"))
    kind = found["+actor_rollout_ref.model.override_config.attn_implementation"]
    assert kind == ("'flash_attention_2'" if flash else "'sdpa'")
    assert found["actor_rollout_ref.model.use_remove_padding"] == str(flash).lower()
    single = translated(changed(policy__lm__dtype="float32"))
    assert single["+actor_rollout_ref.model.override_config.attn_implementation"] == "'sdpa'"


def test_a_resumed_run_goes_on_from_the_checkpoint_of_that_step():
    found = translated(load("alfworld-verl"), resume=40)
    assert found["trainer.resume_mode"] == "'resume_path'"
    assert found["trainer.resume_from_path"] == "'/runs/one/verl/global_step_40'"
    assert found["trainer.val_before_train"] == "false"


def test_options_come_last_as_they_are_and_nothing_of_ours_comes_twice():
    options = ("trainer.logger=[console,wandb]", "+a.b='c d'")
    lines = overrides(changed(verl__options=options), RUN, resume=None)
    assert tuple(lines[-2:]) == options
    keys = [line.split("=", 1)[0] for line in lines[:-2]]
    assert len(keys) == len(set(keys))


def test_a_model_folder_is_named_from_the_root(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert model_path(changed(policy__lm__model="model"), RUN) == str(tmp_path / "model")
    assert model_path(changed(policy__lm__model="Qwen/Qwen3-4B"), RUN) == "Qwen/Qwen3-4B"


def test_a_prompt_has_room_for_what_its_budget_does_not_count():
    config = changed(prompt__max_tokens=1000, policy__lm__max_new_tokens=70)
    assert row_tokens(config) == (1000 + PROMPT_MARGIN, 70)


def test_rows_are_divided_among_gpus_that_do_not_share_them():
    ulysses = ("actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=4",)
    megatron = tuple(
        f"actor_rollout_ref.actor.megatron.{kind}_model_parallel_size=2" for kind in ("tensor", "pipeline")
    )
    assert data_parallel_size(load("alfworld-verl")) == 8
    assert data_parallel_size(changed(verl__nodes=2)) == 16
    assert data_parallel_size(changed(verl__options=ulysses)) == 2
    assert data_parallel_size(changed(verl__strategy="megatron", verl__options=megatron)) == 2
    assert data_parallel_size(changed(verl__options=megatron)) == 8


REFUSED = [
    ({"policy__kind": "scorer"}, r"policy\.kind is scorer.*causal-lm.*engine to local"),
    ({"policy__train": False}, r"policy\.train is false.*engine local"),
    ({"policy__lm__answer": "choice"}, r"policy\.lm\.answer is choice.*set policy\.lm\.answer to free"),
    ({"policy__lm__lora_rank": 16}, r"policy\.lm\.lora_rank is 16.*0"),
    ({"policy__lm__device": "cuda:1"}, r"policy\.lm\.device is cuda:1.*auto"),
    ({"policy__lm__generate_batch": 8}, r"policy\.lm\.generate_batch is 8.*max_num_seqs in verl\.options"),
    ({"warm_start__tasks": 200}, r"warm_start\.tasks is 200.*imitate with engine local.*policy\.lm\.model"),
    ({"advantage__normalise": "rows"}, r"advantage\.normalise is rows.*group.*half"),
    ({"bank__probe": 8}, r"bank\.probe is 8.*set bank\.probe to 0"),
    ({"reflect__kind": "policy"}, r"reflect\.kind is policy.*llm"),
    ({"train__max_env_steps": 500}, r"train\.max_env_steps is 500.*train\.iterations"),
    ({"optim__minibatch_rows": 100}, r"optim\.minibatch_rows is 100.*rollout\.group_size, 8: set it to 96"),
    ({"optim__minibatch_rows": 4}, r"optim\.minibatch_rows is 4.*set it to 8"),
    ({"verl__gpus": 3, "verl__nodes": 1}, r"optim\.minibatch_rows is 128.*3 parts.*multiple of 3"),
    ({"verl__tensor_parallel": 3}, r"verl\.tensor_parallel is 3.*8 GPUs"),
    ({"rollout__group_size": 1, "rollout__with_skills": 0}, r"rollout\.group_size is 1.*2 or more"),
    ({"policy__lm__microbatch_tokens": 1000}, r"policy\.lm\.microbatch_tokens is 1000.*5120 tokens"),
    ({"verl__strategy": "megatron", "policy__lm__dtype": "float32"}, r"policy\.lm\.dtype is float32.*bfloat16"),
    ({"verl__strategy": "megatron", "policy__lm__attention": "sdpa"}, r"policy\.lm\.attention is sdpa.*Megatron"),
    (
        {"policy__lm__dtype": "float32", "policy__lm__attention": "flash_attention_2"},
        r"policy\.lm\.attention is flash_attention_2.*bfloat16",
    ),
]


@pytest.mark.parametrize(("change", "said"), REFUSED, ids=[next(iter(change)) for change, _ in REFUSED])
def test_what_verl_cannot_do_is_refused_by_name_with_the_way_out(change, said):
    with pytest.raises(ConfigError, match=said) as told:
        require_translatable(changed(**change))
    assert "\n" not in str(told.value)


def test_what_only_the_local_engine_reads_is_not_refused_where_it_changes_nothing():
    require_translatable(changed(policy__lm__hidden_size=32, policy__scorer__buckets=2**12, warm_start__epochs=5))
    require_translatable(changed(policy__lm__model="tiny", rollout__with_skills=0, optim__minibatch_rows=1280))
