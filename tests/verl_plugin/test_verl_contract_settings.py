"""Every setting of verl that ours become, and what its update makes of them.

One test a contract, as in test_verl_contract.
"""

import re
from pathlib import Path

import pytest

verl = pytest.importorskip("verl")

import torch  # noqa: E402
from hydra import compose, initialize_config_module  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from transfer_queue import KVBatchMeta  # noqa: E402
from verl.trainer.ppo import core_algos, padding_utils  # noqa: E402
from verl.trainer.ppo.utils import (  # noqa: E402
    need_critic,
    need_reference_policy,
)
from verl.utils import fsdp_utils  # noqa: E402
from verl.utils.config import omega_conf_to_dataclass, validate_config  # noqa: E402
from verl.workers.config.optimizer import build_optimizer  # noqa: E402
from verl_contract import changed, composed, source  # noqa: E402

from d2skill.config.toml_files import load  # noqa: E402
from d2skill.policies.causal_lm.loss import token_loss  # noqa: E402
from d2skill.verl.checks import MEGATRON, require_translatable  # noqa: E402
from d2skill.verl.overrides import overrides  # noqa: E402

VERL = Path(verl.__file__).parent


# settings

TRANSLATED = {
    "alfworld": load("alfworld-verl"),
    "webshop": load("webshop-verl"),
    "fsdp": changed(verl={"strategy": "fsdp", "offload": True}),
    "megatron": changed(
        verl={"strategy": "megatron", "offload": True}, policy={"lm": {"gradient_checkpointing": True}}
    ),
    "two nodes": changed(verl={"nodes": 2, "address": "auto", "tensor_parallel": 4, "rollout": "sglang"}),
    "single precision": changed(policy={"lm": {"dtype": "float32", "attention": "eager", "top_k": 50, "top_p": 0.9}}),
    "plain grpo": changed(rollout={"with_skills": 0}, optim={"kl": 0.0}, validation={"temperature": 0.0}),
    "many small batches": changed(optim={"minibatch_rows": 8}, rollout={"tasks": 1}),
    "one large batch": changed(optim={"minibatch_rows": 8 * 1024}, rollout={"tasks": 3}),
    "large seed": changed(seed=2**40),
}
NEW_KEYS = (
    "d2skill.run",
    "ray_kwargs.ray_init.address",
    "actor_rollout_ref.model.override_config.attn_implementation",
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype",
    "actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype",
)


@pytest.fixture(scope="module", params=list(TRANSLATED))
def translated(request):
    config = TRANSLATED[request.param]
    require_translatable(config)
    return config, composed(config)


def test_every_setting_of_ours_is_one_of_verls(translated):
    """Hydra refuses a key that is not there; what is new is marked with +, and has to be on the list."""
    config, _ = translated
    with initialize_config_module("verl.trainer.config", version_base=None):
        engine = ["model_engine=megatron"] if config.verl.strategy == "megatron" else []
        plain = compose("ppo_trainer", overrides=engine)
    for line in overrides(config, Path("/runs/one"), resume=7):
        key = line.partition("=")[0]
        if key.startswith("+"):
            assert key[1:] in NEW_KEYS, f"{key} is new to verl and not on the list of such keys"
            assert OmegaConf.select(plain, key[1:]) is None, f"verl has {key[1:]} by now: set it without +"
        elif key != "model_engine":
            parent, _, last = key.rpartition(".")
            assert last in set(OmegaConf.select(plain, parent)), f"verl has no {key} any more"


def test_verls_own_validation_accepts_them(translated):
    config, found = translated
    assert not need_critic(found) and need_reference_policy(found) == (config.optim.kl > 0)
    validate_config(found, use_reference_policy=need_reference_policy(found), use_critic=False)
    OmegaConf.to_container(found, resolve=True)


@pytest.mark.parametrize("part", ["actor", "actor.optim", "ref.ENGINE", "rollout"])
def test_they_make_the_records_that_verls_workers_take(translated, part):
    config, found = translated
    engine = "megatron" if config.verl.strategy == "megatron" else "fsdp_config"
    record = omega_conf_to_dataclass(OmegaConf.select(found.actor_rollout_ref, part.replace("ENGINE", engine)))
    assert type(record).__module__.startswith("verl.workers.config")


def test_what_hangs_on_other_settings_follows_ours(translated):
    config, found = translated
    worker = found.actor_rollout_ref
    assert worker.rollout.prompt_length == found.data.max_prompt_length
    assert worker.rollout.response_length == config.policy.lm.max_new_tokens
    for part in (worker.ref, worker.rollout):
        assert part.log_prob_use_dynamic_bsz and part.log_prob_max_token_len_per_gpu == 16384
    assert worker.ref.strategy == worker.actor.strategy == config.verl.strategy
    assert worker.actor.rollout_n == worker.ref.rollout_n == config.rollout.group_size


def test_texts_of_all_kinds_are_read_back():
    run = "/runs/it's \"a\" {x} ${y} [z], k=v #1 \\'\\"
    found = composed(load("alfworld-verl"), run, resume=3)
    assert found.d2skill.run == run
    assert found.trainer.resume_from_path == run + "/verl/global_step_3"


def test_options_go_over_ours():
    options = (
        "trainer.logger=[console,wandb]",
        "actor_rollout_ref.rollout.n=3",
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.a=1",
    )
    found = composed(changed(verl={"options": options}))
    assert list(found.trainer.logger) == ["console", "wandb"] and found.actor_rollout_ref.rollout.n == 3
    assert found.actor_rollout_ref.rollout.engine_kwargs.vllm.a == 1


def test_mixed_precision_is_read_from_the_key_that_we_add():
    actor = omega_conf_to_dataclass(composed(TRANSLATED["single precision"]).actor_rollout_ref.actor)
    assert actor.engine.mixed_precision["param_dtype"] == "fp32"
    assert (
        omega_conf_to_dataclass(composed(load("alfworld-verl")).actor_rollout_ref.actor).engine.mixed_precision is None
    )


# the update


def actor_record(**changes):
    actor = omega_conf_to_dataclass(composed(changed(**changes)).actor_rollout_ref.actor)
    actor.global_batch_info.update(dp_size=1, batch_num_tokens=None, global_batch_size=None, loss_scale_factor=None)
    return actor


def test_the_loss_is_eq_6_without_a_second_clip():
    torch.manual_seed(0)
    new, old, reference = (-torch.rand(3, 40) * 8 for _ in range(3))
    advantages = torch.randn(3, 1).expand(3, 40).contiguous() * 2
    mask = torch.rand(3, 40) > 0.3
    actor = actor_record()
    loss, _ = core_algos.get_policy_loss_fn(actor.policy_loss.loss_mode)(
        old, new, advantages, mask, actor.loss_agg_mode, actor
    )
    kl = core_algos.kl_penalty(new, reference, actor.kl_loss_type)
    terms = token_loss(new[mask], old[mask], advantages[mask], None, 0.2, 0.01)
    assert (terms.ratio.max() > 3) and torch.allclose(loss, terms.loss.mean(), rtol=1e-5)
    near = (new + 0.5 * torch.randn(3, 40))[mask]  # verl cuts the term of a token at 10
    kl = core_algos.kl_penalty(new[mask], near, actor.kl_loss_type)
    assert torch.allclose(kl, token_loss(new[mask], old[mask], advantages[mask], near, 0.2, 0.01).kl, atol=1e-6)


def test_the_mean_is_over_the_tokens_of_a_minibatch_however_it_is_divided():
    """Two ranks with two parts each: gradients of parts are added up, those of ranks averaged."""
    torch.manual_seed(1)
    values, mask = torch.randn(4, 9), torch.rand(4, 9) > 0.5
    whole = {"dp_size": 2, "batch_num_tokens": int(mask.sum()), "global_batch_size": 4}
    parts = [core_algos.agg_loss(values[i : i + 1], mask[i : i + 1], "token-mean", **whole) for i in range(4)]
    assert torch.allclose((parts[0] + parts[1] + parts[2] + parts[3]) / 2, values[mask].mean())


def test_a_row_that_only_fills_up_counts_for_nothing(monkeypatch):
    sample = {"response_mask": torch.ones(3), "extra_fields": {"trajectory": b"x"}, "rm_scores": torch.ones(3)}
    monkeypatch.setattr(padding_utils.tq, "kv_batch_get", lambda **_: [sample], raising=True)
    put = {}
    monkeypatch.setattr(padding_utils.tq, "kv_batch_put", lambda **given: put.update(given))
    monkeypatch.setattr(padding_utils, "list_of_dict_to_tensordict", lambda rows: rows)
    batch = KVBatchMeta(keys=["u_0_0", "u_0_1", "u_1_0"], tags=[{"seq_len": 5}] * 3, partition_id="train")
    filled = padding_utils.upsample_batch_to_divisible_size(batch, 8, 0)
    assert filled.keys[:3] == batch.keys and len(filled.keys) == 8
    assert [bool(tag.get("is_padding")) for tag in filled.tags] == [False] * 3 + [True] * 5
    assert all(len(key.rsplit("_", 2)) == 3 for key in filled.keys)
    assert all(not row["response_mask"].any() and not row["rm_scores"].any() for row in put["fields"])


def test_adam_is_the_local_engines():
    start = torch.tensor([1.0, -2.0, 3.0])
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    settings = omega_conf_to_dataclass(composed(changed(optim={"learning_rate": 0.1})).actor_rollout_ref.actor.optim)
    pairs = [(ours, torch.optim.Adam([ours], lr=0.1)), (theirs, build_optimizer([theirs], settings))]
    for weight, adam in pairs:
        for gradient in (0.5, -1.5):
            weight.grad = torch.full((3,), gradient)
            adam.step()
    assert torch.equal(ours, theirs)
    assert settings.clip_grad == 1.0 and settings.lr_scheduler_type == "constant"


def test_gradients_are_cut_to_clip_grad():
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

    assert "optimizer_config.clip_grad" in source(FSDPEngine)


def test_fsdp_wraps_the_layers_that_transformers_names():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=9, intermediate_size=8, **sizes))
    assert fsdp_utils.get_fsdp_wrap_policy(model) is not None
    model._no_split_modules = None
    assert fsdp_utils.get_fsdp_wrap_policy(model) is None


def test_megatron_knows_the_kinds_of_model_that_we_let_through():
    text = (VERL / "models" / "mcore" / "registry.py").read_text("utf-8")
    known = set(re.findall(r'^    [A-Z0-9_]+ = "(\w+)"', text, re.MULTILINE))
    assert {f"{kind}ForCausalLM" for kind in MEGATRON} <= known


def test_a_part_of_a_minibatch_holds_its_longest_row():
    from verl.utils import seqlen_balancing

    assert "assert max_token_len >= max_seq_len" in source(seqlen_balancing.rearrange_micro_batches)
