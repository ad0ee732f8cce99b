"""Every name and behaviour of verl that the plug-in is built on, so that a new verl says at once what broke.

One test a contract; what a test is called is what verl would have stopped doing.
"""

import asyncio
import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

verl = pytest.importorskip("verl")

import datasets  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transfer_queue as tq  # noqa: E402
from hydra import compose, initialize_config_module  # noqa: E402
from omegaconf import OmegaConf, open_dict  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from toys import TreasureEnvironment  # noqa: E402
from transfer_queue import KVBatchMeta  # noqa: E402
from verl.experimental.agent_loop import agent_loop  # noqa: E402
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput  # noqa: E402
from verl.protocol import DataProto  # noqa: E402
from verl.trainer import main_ppo  # noqa: E402
from verl.trainer.constants_ppo import get_ppo_ray_runtime_env  # noqa: E402
from verl.trainer.ppo import core_algos, padding_utils  # noqa: E402
from verl.trainer.ppo.utils import (  # noqa: E402
    create_rl_dataset,
    create_rl_sampler,
    need_critic,
    need_reference_policy,
)
from verl.trainer.ppo.v1 import agent_loop_tq, get_trainer_cls, trainer_base  # noqa: E402
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer  # noqa: E402
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY, PPOTrainer, register_trainer  # noqa: E402
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync  # noqa: E402
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories  # noqa: E402
from verl.utils import device, fsdp_utils  # noqa: E402
from verl.utils import tensordict_utils as tu  # noqa: E402
from verl.utils.config import omega_conf_to_dataclass, validate_config  # noqa: E402
from verl.utils.dataset.rl_dataset import collate_fn  # noqa: E402
from verl.workers.config.optimizer import build_optimizer  # noqa: E402
from verl.workers.rollout.llm_server import LLMServerClient  # noqa: E402
from verl.workers.rollout.replica import TokenOutput  # noqa: E402

from d2skill.config import Config  # noqa: E402
from d2skill.engines.verl.checks import MEGATRON  # noqa: E402
from d2skill.engines.verl.data import training_rows, validation_rows, write_data  # noqa: E402
from d2skill.engines.verl.refusals import require_translatable  # noqa: E402
from d2skill.engines.verl.settings import overrides  # noqa: E402
from d2skill.policies.torch_loss import policy_terms  # noqa: E402
from d2skill.settings_files import load  # noqa: E402
from d2skill.tasks import RunTasks  # noqa: E402

VERL = Path(verl.__file__).parent


def changed(**sections) -> Config:
    """The preset alfworld-verl with some settings changed."""
    return Config.model_validate(merged(load("alfworld-verl").model_dump(), sections))


def merged(tree, changes):
    inner = {name: merged(tree[name], value) for name, value in changes.items() if isinstance(value, dict)}
    return tree | changes | inner


def composed(config: Config, run="/runs/one", resume=None):
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=overrides(config, Path(run), resume=resume))


def source(what) -> str:
    return " ".join(inspect.getsource(what).split())


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
    terms = policy_terms(new[mask], old[mask], advantages[mask], None, 0.2, 0.01)
    assert (terms.ratio.max() > 3) and torch.allclose(loss, terms.loss.mean(), rtol=1e-5)
    near = (new + 0.5 * torch.randn(3, 40))[mask]  # verl cuts the term of a token at 10
    kl = core_algos.kl_penalty(new[mask], near, actor.kl_loss_type)
    assert torch.allclose(kl, policy_terms(new[mask], old[mask], advantages[mask], near, 0.2, 0.01).kl, atol=1e-6)


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


# advantages


def batch_of(rows):
    """A batch of rows (key, return, mask), the return on the last token."""
    scores, masks = torch.zeros(len(rows), 3), torch.tensor([mask for _, _, mask in rows])
    for place, (_, value, _) in enumerate(rows):
        scores[place, -1] = value
    data = DataProto(batch=TensorDict({"token_level_rewards": scores, "response_mask": masks}, batch_size=len(rows)))
    data.non_tensor_batch["uid"] = np.array([key.rsplit("_", 2)[0] for key, _, _ in rows], dtype=object)
    return data


def advantages_of(rows):
    found = compute_advantage_for_multi_trajectories(batch_of(rows), [key for key, _, _ in rows], "grpo")
    return found.batch["advantages"]


def test_advantages_are_over_sessions_each_counted_once_and_given_to_all_its_rows():
    """Returns 10, 0, 4 of three sessions with 3, 1 and 2 rows: mean 14/3, standard deviation unbiased (Eq. 5)."""
    full, short = [1, 1, 1], [1, 1, 0]
    rows = [("u_0_2", 10, full), ("u_0_0", 10, short), ("u_1_0", 0, full), ("u_2_1", 4, short), ("u_0_1", 10, full)]
    rows += [("u_2_0", 4, full), ("other_0_0", 7, full), ("other_1_0", 7, full)]
    found = advantages_of(rows)
    returns = np.array([10.0, 0.0, 4.0])
    wanted = (returns - returns.mean()) / (returns.std(ddof=1) + 1e-6)
    for place, (key, _, mask) in enumerate(rows):
        value = wanted[int(key.split("_")[1])] if key.startswith("u_") else 0.0
        assert found[place].tolist() == pytest.approx([value * chosen for chosen in mask], abs=1e-6), key


def test_the_return_of_a_session_is_that_of_its_row_with_the_highest_index():
    found = advantages_of(
        [("u_0_0", -99, [1, 1, 1]), ("u_0_10", 3, [1, 1, 1]), ("u_0_9", 99, [1] * 3), ("u_1_0", 1, [1] * 3)]
    )
    assert found[:, 0].tolist() == pytest.approx([0.5**0.5] * 3 + [-(0.5**0.5)], abs=1e-5)


def test_a_session_whose_last_row_is_masked_learns_nothing_and_still_counts_for_the_others():
    found = advantages_of([("u_0_0", 3, [1, 1, 1]), ("u_0_1", 3, [0, 0, 0]), ("u_1_0", 1, [1, 1, 1])])
    assert found[:, 0].tolist() == pytest.approx([0, 0, -(0.5**0.5)], abs=1e-5)


def test_a_lone_session_has_its_return_for_its_advantage():
    """Why rollout.group_size 1 is refused."""
    assert advantages_of([("u_0_0", 3, [1, 1, 1])])[0, 0] == pytest.approx(3, abs=1e-4)


def test_rm_scores_are_what_is_normalised():
    text = source(PPOTrainer._compute_advantage)
    assert 'data.batch["token_level_scores"] = data.batch["rm_scores"]' in text
    assert 'data.batch["token_level_rewards"] = data.batch["token_level_scores"]' in text
    assert "compute_advantage_for_multi_trajectories( data, batch_keys=batch.keys" in text


# the loop

REQUIRED = {
    "prompt_ids": [1, 2],
    "response_ids": [3, 4, 5],
    "response_mask": [1, 1, 1],
    "response_logprobs": [-0.1, -0.2, -0.3],
    "reward_score": 9.0,
    "num_turns": 4,
    "metrics": AgentLoopMetrics(generate_sequences=1.5),
    "extra_fields": {"reward_extra_info": {"success": 1.0}, "min_global_steps": 2, "max_global_steps": 2},
}


def output(**changes):
    values = {**REQUIRED, **changes}
    return AgentLoopOutput(**{**values, "extra_fields": dict(values["extra_fields"])})


def test_an_output_has_the_fields_that_we_fill():
    assert set(REQUIRED) <= set(AgentLoopOutput.model_fields)
    assert {name for name, field in AgentLoopOutput.model_fields.items() if field.is_required()} <= set(REQUIRED)
    assert "generate_sequences" in AgentLoopMetrics.model_fields


def test_an_output_puts_its_reward_on_the_last_token_and_keeps_extra_fields():
    row = output(extra_fields={"trajectory": b"bytes"}).as_dict()
    assert row["rm_scores"].tolist() == [0, 0, 9] and row["extra_fields"]["trajectory"] == b"bytes"
    assert row["rollout_log_probs"].tolist() == pytest.approx([-0.1, -0.2, -0.3])
    assert (row["prompts"].tolist(), row["responses"].tolist()) == ([1, 2], [3, 4, 5])


class NotingLoop(AgentLoopBase):
    """Notes what it is given."""

    def __init__(self, *args, run, **kwargs):
        self.given, self.made_with = run, set(kwargs)

    async def run(self, sampling_params, **kwargs):
        return [self, sampling_params, kwargs]


def worker(cls=agent_loop_tq.AgentLoopWorkerTQ):
    """A loop worker without its start, as a plain object."""
    plain = cls.__ray_metadata__.modified_class
    found = object.__new__(plain)
    for name in ("llm_client", "tokenizer", "processor", "hf_model_type", "dataset_cls"):
        setattr(found, name, None)
    found.tools, found.config, found.background_tasks = [], composed(load("alfworld-verl")), set()
    return found


def test_the_constructor_of_a_loop_takes_and_keeps_what_ours_reads():
    named = inspect.signature(AgentLoopBase.__init__).parameters
    assert {"trainer_config", "server_manager", "tokenizer", "processor", "dataset_cls", "data_config"} <= set(named)
    assert named["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
    text = source(AgentLoopBase.__init__)
    for kept in ("self.config = trainer_config.config", "self.server_manager", "self.tokenizer", "self.rollout_config"):
        assert kept in text
    assert list(inspect.signature(AgentLoopBase.run).parameters)[:2] == ["self", "sampling_params"]
    assert inspect.iscoroutinefunction(AgentLoopBase.run)


def test_a_loop_is_made_from_the_file_of_loops_and_run_with_the_columns_of_its_row(tmp_path, monkeypatch):
    from d2skill.engines.verl.data import LOOP, agent_loops

    (tmp_path / "agent.yaml").write_text(agent_loops(tmp_path).replace(LOOP, f"{__name__}.NotingLoop"))
    (entry,) = OmegaConf.load(tmp_path / "agent.yaml")
    monkeypatch.setitem(agent_loop._agent_loop_registry, entry.name, entry)
    assert "_agent_loop_registry[agent_loop_config.name] = agent_loop_config" in source(agent_loop.AgentLoopWorker)
    playing = worker()

    async def kept(found, validate, **kwargs):
        return found, validate

    playing._agent_loop_postprocess = kept
    about = {"step": 1, "sample_index": 0, "rollout_n": 0, "validate": True}
    columns = {"extra_info": {"task": "t"}, "raw_prompt": [], "session_id": 3, "global_steps": 8}
    (loop, params, given), validate = asyncio.run(
        playing._run_agent_loop({"temperature": 1}, about, agent_name="d2skill", **columns)
    )
    assert (loop.given, params, given, validate) == (str(tmp_path), {"temperature": 1}, columns, True)


@pytest.mark.parametrize(("validate", "count", "partition"), [(False, 8, "train"), (True, 1, "val")])
def test_a_row_is_played_by_as_many_sessions_as_members_counted_from_0(validate, count, partition, monkeypatch):
    playing, seen, told = worker(), [], []

    async def play(params, trajectory, trace, session_id, **columns):
        seen.append((session_id, columns))

    async def put(**given):
        told.append((given["partition_id"], given["tag"]["status"]))

    playing._run_agent_loop = play
    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_put", put)
    row = {"uid": "u", "agent_name": "d2skill", "extra_info": {"task": "t"}}
    asyncio.run(playing._run_prompt(dict(row), {}, trajectory={"validate": validate}))
    assert seen == [(session, row) for session in range(count)]
    assert told == [(partition, "running"), (partition, "finished")]


def test_a_session_that_fails_leaves_its_siblings_and_the_row_is_a_failure(monkeypatch):
    playing, told = worker(), []

    async def play(params, trajectory, trace, session_id, **columns):
        if session_id == 2:
            raise ValueError("the server is gone")

    async def put(**given):
        told.append(given["tag"]["status"])

    playing._run_agent_loop = play
    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_put", put)
    asyncio.run(playing._run_prompt({"uid": "u"}, {}, trajectory={"validate": False}))
    assert told == ["running", "failure"]


@pytest.mark.parametrize("validate", [False, True])
def test_sampling_is_as_in_training_or_as_in_validation(validate, monkeypatch):
    playing, seen = worker(), []
    playing.config = composed(changed(policy={"lm": {"top_k": 7, "top_p": 0.9}}))

    async def play(prompt, params, *, trajectory, trace):
        seen.append((prompt, params, trajectory["validate"]))

    async def all_done():
        batch = tu.get_tensordict(
            {
                "uid": np.array(["a", "b"], dtype=object),
                "index": np.array([0, 1], dtype=object),
                "agent_name": np.array(["d2skill"] * 2, dtype=object),
                "extra_info": np.array([{"task": "x"}, {"task": "y"}], dtype=object),
            }
        )
        tu.assign_non_tensor_data(batch, "global_steps", 4)
        if validate:
            tu.assign_non_tensor_data(batch, "validate", True)
        await playing.generate_sequences(batch)
        await asyncio.gather(*playing.background_tasks)

    playing._run_prompt = play
    asyncio.run(all_done())
    temperature = 0.4 if validate else 1.0
    assert [prompt["extra_info"]["task"] for prompt, _, _ in seen] == ["x", "y"]
    for prompt, params, arm in seen:
        assert prompt["global_steps"] == 4 and arm is validate
        assert {name: params[name] for name in ("temperature", "top_k", "top_p", "logprobs")} == {
            "temperature": temperature,
            "top_k": 7,
            "top_p": 0.9,
            "logprobs": True,
        }


def test_outputs_of_a_session_are_kept_under_uid_session_and_index(monkeypatch):
    playing, put = worker(), {}
    playing.reward_loop_worker_handles, playing.distillation_enabled = ["asked"], False

    async def keep(**given):
        put.update(given)

    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_batch_put", keep)
    monkeypatch.setattr(agent_loop_tq, "list_of_dict_to_tensordict", lambda rows: rows)
    last = REQUIRED["extra_fields"] | {"trajectory": b"bytes"}
    outputs = [
        output(reward_score=5.0),
        output(response_ids=[6], response_mask=[0], response_logprobs=[0.0], extra_fields=last),
    ]
    columns = {"uid": "u_v", "session_id": 5, "global_steps": 3, "raw_prompt": [], "extra_info": {"task": "t"}}
    asyncio.run(playing._agent_loop_postprocess(outputs, False, **columns))
    assert put["keys"] == ["u_v_5_0", "u_v_5_1"] and put["partition_id"] == "train"
    first, second = put["fields"]
    assert second["extra_fields"]["trajectory"] == b"bytes" and second["response_mask"].tolist() == [0]
    assert first["rm_scores"][-1] == second["rm_scores"][-1] == 9, "all rows have the score of the last"
    assert first["extra_info"] == {"task": "t"} and first["session_id"] == 5
    for tag in put["tags"]:
        assert tag["min_global_steps"] == tag["max_global_steps"] == 2 and tag["global_steps"] == 3


def test_the_server_answers_with_tokens_their_probabilities_and_its_version():
    named = inspect.signature(LLMServerClient.generate).parameters
    assert {"request_id", "prompt_ids", "sampling_params"} <= set(named)
    assert {"token_ids", "log_probs", "extra_fields"} <= set(TokenOutput.model_fields)
    text = source(LLMServerClient.generate)
    assert '"min_global_steps"' in text and '"max_global_steps"' in text


# data


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    treasure = {"kind": "toys:TreasureEnvironment", "train_split": "train", "validation_split": "valid_seen"}
    config = changed(env=treasure, rollout={"tasks": 4}, train={"iterations": 5}, validation={"tasks": 6})
    tasks = RunTasks.choose(TreasureEnvironment(), config)
    write_data(config, tasks, tmp_path)
    return config, tasks, composed(config, tmp_path)


def loader(found, dataset):
    from torchdata.stateful_dataloader import StatefulDataLoader

    size, sampler = found.data.train_batch_size, create_rl_sampler(found.data, dataset)
    return StatefulDataLoader(
        dataset, batch_size=size, num_workers=0, drop_last=True, collate_fn=collate_fn, sampler=sampler
    )


def played(batch):
    return [info["task"] for info in batch["extra_info"]]


def test_verl_reads_training_tasks_in_our_order_and_goes_on_where_it_was(written):
    config, tasks, found = written
    dataset = create_rl_dataset(found.data.train_files, found.data, None, None, is_train=True)
    wanted = [row["extra_info"]["task"] for row in training_rows(config, tasks)]
    batches = iter(reading := loader(found, dataset))
    first = [*played(next(batches)), *played(next(batches))]
    again = loader(found, dataset)
    again.load_state_dict(reading.state_dict())
    assert first + [task for batch in again for task in played(batch)] == wanted
    assert len(dataset) // found.data.train_batch_size == config.train.iterations


def test_a_row_comes_with_the_columns_that_the_loop_reads(written):
    config, tasks, found = written
    dataset = create_rl_dataset(found.data.val_files, found.data, None, None, is_train=False)
    for row, wanted in zip(dataset, validation_rows(config, tasks), strict=True):
        assert {name: row[name] for name in wanted} == wanted
        assert row["index"] == wanted["extra_info"]["index"] and row["raw_prompt"] == wanted["prompt"]


# the trainer


def test_a_trainer_is_registered_by_name():
    @register_trainer("noting")
    class Noting(PPOTrainerSync):
        pass

    assert get_trainer_cls("noting") is TRAINER_REGISTRY.pop("noting") is Noting


def test_our_trainer_is_found_by_the_name_in_our_settings():
    trainer = pytest.importorskip("d2skill.engines.verl.trainer")
    assert get_trainer_cls(composed(load("alfworld-verl")).trainer.v1.trainer_mode) is trainer.D2SkillTrainer


def test_a_module_named_in_the_environment_is_imported_with_verl(tmp_path):
    (tmp_path / "brought_along.py").write_text("print('brought along')")
    env = os.environ | {"VERL_USE_EXTERNAL_MODULES": "brought_along", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", "import verl"], env=env, capture_output=True, text=True)
    assert "brought along" in done.stdout, done.stderr


SIGNATURES = [
    (PPOTrainer.__init__, ["config"]),
    (PPOTrainerSync.on_init_end, []),
    (PPOTrainerSync.on_train_begin, []),
    (PPOTrainerSync.on_step_begin, []),
    (PPOTrainerSync.on_step_end, []),
    (PPOTrainerSync.on_sample_end, []),
    (PPOTrainerSync.on_validate_begin, []),
    (PPOTrainerSync.on_validate_end, []),
    (PPOTrainerSync.prepare_step, []),
    (PPOTrainerSync._validate, []),
    (PPOTrainerSync._save_checkpoint, []),
    (PPOTrainerSync._load_checkpoint, []),
    (PPOTrainerSync._compute_advantage, ["batch", "metrics"]),
    (PPOTrainerSync._update_actor, ["batch", "metrics"]),
    (PPOTrainerSync._compute_metrics, ["batch", "metrics", "timing_raw", "global_steps", "epoch"]),
    (ReplayBuffer.sample, ["global_steps", "partition_id", "batch_size"]),
    (agent_loop_tq.AgentLoopManagerTQ.generate_sequences, ["prompts"]),
]


@pytest.mark.parametrize(("method", "named"), SIGNATURES, ids=[method.__qualname__ for method, _ in SIGNATURES])
def test_what_we_override_or_call_takes_what_it_took(method, named):
    assert list(inspect.signature(method).parameters)[1:] == named


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("kv_batch_get", {"keys", "partition_id", "select_fields"}),
        ("kv_batch_put", {"keys", "partition_id", "fields", "tags"}),
        ("kv_clear", {"keys", "partition_id"}),
    ],
)
def test_the_transfer_queue_takes_what_it_took(name, named):
    assert named <= set(inspect.signature(getattr(tq, name)).parameters)
    assert {"keys", "tags", "partition_id", "extra_info"} <= {field.name for field in fields(KVBatchMeta)}


def bare(config=None, **attributes):
    """A synchronous trainer without its start."""
    trainer = object.__new__(Recording)
    trainer.config = config if config is not None else composed(load("alfworld-verl"))
    trainer.calls, trainer.global_steps, trainer.use_critic = [], 0, False
    for name, value in attributes.items():
        setattr(trainer, name, value)
    return trainer


class Recording(PPOTrainerSync):
    """Writes down which of the things that we override verl does, and in which step."""


def _noting(name, result):
    def method(self, *args, **kwargs):
        self.calls.append((self.global_steps, name))
        return args[0] if result == "batch" else result

    return method


for _name in (
    "_compute_advantage",
    "_update_actor",
    "_compute_old_log_prob",
    "_compute_ref_log_prob",
    "_balance_batch",
):
    setattr(Recording, _name, _noting(_name, "batch"))
for _name in (
    "on_validate_begin",
    "on_validate_end",
    "on_train_begin",
    "on_step_begin",
    "on_step_end",
    "on_sample_end",
):
    setattr(Recording, _name, _noting(_name, None))
for _name in ("_save_checkpoint", "_compute_metrics", "_shutdown_dump_executor"):
    setattr(Recording, _name, _noting(_name, None))
Recording.prepare_step = _noting("prepare_step", {})
Recording._validate = _noting("_validate", {"validation/x": 1.0})


class Nothing:
    """Takes anything and does nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __getattr__(self, name):
        return Nothing()

    def __call__(self, *args, **kwargs):
        return Nothing()


def test_a_step_goes_rollout_advantage_update_checkpoint_weights_validation_metrics(monkeypatch):
    for name in ("SkipManager", "Tracking", "ValidationGenerationsLogger", "DapoFilteredRewardTableLogger", "tqdm"):
        monkeypatch.setattr(trainer_base, name, Nothing())
    monkeypatch.setattr(trainer_base.tq, "kv_clear", lambda **_: None)
    settings = {"train": {"iterations": 3, "checkpoint_every": 2}, "validation": {"every": 2}}
    batch = KVBatchMeta(keys=["u_0_0"], tags=[{}], partition_id="train", extra_info={})
    trainer = bare(
        composed(changed(**settings)),
        trainer_mode="sync",
        parameter_sync_step=1,
        total_training_steps=3,
        steps_per_epoch=3,
        use_reference_policy=True,
        replay_buffer=SimpleNamespace(sample=lambda **_: (batch, {})),
        reward_loop_manager=SimpleNamespace(reward_loop_worker_handles=[]),
    )
    trainer.fit(object())
    validation = ["on_validate_begin", "_validate", "on_validate_end"]
    rollout = ["on_step_begin", "prepare_step", "on_sample_end", "_balance_batch"]
    update = ["_compute_old_log_prob", "_compute_ref_log_prob", "_compute_advantage", "_update_actor"]
    plain = [*rollout, *update, "on_step_end", "_compute_metrics"]
    saved = [*rollout, *update, "_save_checkpoint", "on_step_end", *validation, "_compute_metrics"]
    by_step = [[name for step, name in trainer.calls if step == number] for number in range(4)]
    assert by_step[0] == validation
    assert by_step[1:] == [["on_train_begin", *plain], saved, saved]


def test_synchronous_training_is_told_by_its_name():
    """Our trainer gives verl this name in place of its own: the buffer, the checkpoints and the data go by it."""
    config = composed(load("alfworld-verl"))
    with open_dict(config):
        config.trainer.v1.trainer_mode = "sync"
    trainer = bare(config, trainer_mode="sync")
    assert type(trainer._build_replay_buffer()) is ReplayBuffer
    assert "self.trainer_mode = self.config.trainer.v1.trainer_mode" in source(PPOTrainer.__init__)
    assert trainer._reissue_inflight_prompts() == 0


class Workers:
    """Workers that note what they are told to save and load."""

    def __init__(self):
        self.told = []

    def save_checkpoint(self, local, remote, step, **how):
        self.told.append(("save", local, step, how))

    def load_checkpoint(self, **how):
        self.told.append(("load", how["local_path"]))


def test_a_checkpoint_lies_in_the_folder_of_its_step_and_is_read_from_there(tmp_path):
    state = SimpleNamespace(state_dict=lambda: {"at": 7}, load_state_dict=lambda found: loaded.append(found))
    loaded, workers = [], Workers()
    common = {"actor_rollout_wg": workers, "train_dataloader": state, "trainer_mode": "sync"}
    saving = bare(composed(load("alfworld-verl"), tmp_path), checkpoint_callback=Nothing(), **common)
    saving.global_steps = 40
    PPOTrainerSync._save_checkpoint(saving)
    folder = tmp_path / "verl" / "global_step_40"
    assert workers.told == [("save", str(folder / "actor"), 40, {"max_ckpt_to_keep": 2})]
    assert (folder / "data.pt").is_file()
    loading = bare(composed(load("alfworld-verl"), tmp_path, resume=40), **common)
    loading._load_checkpoint()
    assert workers.told[-1] == ("load", str(folder / "actor")) and loaded == [{"at": 7}]
    assert loading.global_steps == 40


def test_a_new_run_loads_nothing(tmp_path):
    trainer = bare(composed(load("alfworld-verl"), tmp_path), actor_rollout_wg=None)
    trainer._load_checkpoint()
    assert trainer.global_steps == 0


def test_weights_in_the_form_of_transformers_lie_in_huggingface():
    from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager

    text = source(FSDPCheckpointManager.save_checkpoint)
    assert 'os.path.join(local_path, "huggingface")' in text and "self.should_save_hf_model" in text


# the start


def test_a_run_is_handed_to_the_task_runner_in_a_ray_that_has_begun(monkeypatch):
    seen = []
    run = SimpleNamespace(run=SimpleNamespace(remote=lambda config: seen.append(config)))
    ray = SimpleNamespace(is_initialized=lambda: True, get=lambda found: found)
    monkeypatch.setattr(main_ppo, "ray", ray)
    config = composed(load("alfworld-verl"))
    main_ppo.run_ppo(config, SimpleNamespace(remote=lambda: run))
    assert seen == [config]


def test_the_task_runner_makes_the_trainer_of_our_name_and_its_loops():
    runner = main_ppo.TaskRunnerV1.__ray_metadata__.modified_class
    text = source(runner.run)
    assert "get_trainer_cls(config.trainer.v1.trainer_mode)" in text
    assert "AgentLoopManagerTQ" in source(runner.init_agent_loop_manager)
    order = ["trainer_cls(config=config)", "self.trainer.init()", "self.init_agent_loop_manager()", "self.trainer.fit("]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_what_the_workers_are_told_by_the_environment_is_to_be_had():
    assert "env_vars" in get_ppo_ray_runtime_env(composed(load("alfworld-verl")))
    assert list(inspect.signature(device.auto_set_device).parameters) == ["config"]


def test_platforms_are_registered_by_name():
    from verl.plugin.platform.platform_manager import PlatformBase, PlatformRegistry

    assert PlatformRegistry.get("unheard") is None and len(PlatformRegistry.registered_names()) > 0
    assert {"device_name", "communication_backend_name"} <= set(dir(PlatformBase))
