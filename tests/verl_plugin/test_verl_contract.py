"""Every name and behaviour of verl that the plug-in is built on, so that a new verl says at once what broke.

One test a contract; what a test is called is what verl would have stopped doing.
"""

import asyncio
import inspect
import os
import subprocess
import sys
from dataclasses import fields
from types import SimpleNamespace

import pytest

verl = pytest.importorskip("verl")

import datasets  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transfer_queue as tq  # noqa: E402
from omegaconf import OmegaConf, open_dict  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from toys import TreasureEnvironment  # noqa: E402
from transfer_queue import KVBatchMeta  # noqa: E402
from verl.experimental.agent_loop import agent_loop  # noqa: E402
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput  # noqa: E402
from verl.protocol import DataProto  # noqa: E402
from verl.trainer import main_ppo  # noqa: E402
from verl.trainer.constants_ppo import get_ppo_ray_runtime_env  # noqa: E402
from verl.trainer.ppo.utils import (  # noqa: E402
    create_rl_dataset,
    create_rl_sampler,
)
from verl.trainer.ppo.v1 import agent_loop_tq, get_trainer_cls, trainer_base  # noqa: E402
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer  # noqa: E402
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY, PPOTrainer, register_trainer  # noqa: E402
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync  # noqa: E402
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories  # noqa: E402
from verl.utils import device  # noqa: E402
from verl.utils import tensordict_utils as tu  # noqa: E402
from verl.utils.dataset.rl_dataset import collate_fn  # noqa: E402
from verl.workers.rollout.llm_server import LLMServerClient  # noqa: E402
from verl.workers.rollout.replica import TokenOutput  # noqa: E402
from verl_contract import changed, composed, source  # noqa: E402

from d2skill.config.toml_files import load  # noqa: E402
from d2skill.runs.tasks import RunTasks  # noqa: E402
from d2skill.verl.data import training_rows, validation_rows, write_data  # noqa: E402

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
    from d2skill.verl.data import AGENT_LOOP, write_agent_loop

    file = tmp_path / "verl" / "agent.yaml"
    file.parent.mkdir()
    write_agent_loop(tmp_path)
    file.write_text(file.read_text().replace(AGENT_LOOP, f"{__name__}.NotingLoop"))
    (entry,) = OmegaConf.load(file)
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
    trainer = pytest.importorskip("d2skill.verl.trainer")
    assert get_trainer_cls(composed(load("alfworld-verl")).trainer.v1.trainer_mode) is trainer.D2SkillTrainer


def test_a_module_named_in_the_environment_is_imported_with_verl(tmp_path):
    (tmp_path / "brought_along.py").write_text("print('brought along')")
    env = os.environ | {"VERL_USE_EXTERNAL_MODULES": "brought_along", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", "import verl"], env=env, capture_output=True, text=True)
    assert "brought along" in done.stdout, done.stderr


SIGNATURES = [
    (PPOTrainer.__init__, ["config"]),
    (PPOTrainerSync.on_init_end, []),
    (PPOTrainerSync.fit, ["agent_loop_manager"]),
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
