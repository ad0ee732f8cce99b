"""A run through verl on the CPU, from the command line: two ranks, two steps, a resumption, and what reads the run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from d2skill.bank import SkillBank
from d2skill.runs.folder import RunFolder
from d2skill.runs.trajectories import read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CPU = Path(__file__).parent / "cpu"
PLUGINS = "verl_cpu_platform,verl_cpu_rollout"
SETTINGS = {
    "config": "laptop-lm",
    "engine": "verl",
    "env.max-steps": 8,
    "env.houses.floor-plans": 1,
    "env.houses.receptacles": 8,
    "policy.lm.answer": "free",
    "policy.lm.hidden-size": 32,
    "policy.lm.layers": 1,
    "policy.lm.max-new-tokens": 16,
    "policy.lm.microbatch-tokens": 4096,
    "prompt.max-tokens": 512,
    "warm-start.tasks": 0,
    "advantage.normalise": "half",
    "bank.skills": "paper",
    "bank.probe": 0,
    "bank.step-capacity": 3,
    "bank.protect": 0,
    "retrieval.gate": 0,
    "rollout.tasks": 4,
    "rollout.group-size": 4,
    "rollout.with-skills": 2,
    "optim.minibatch-rows": 32,
    "track": "tensorboard",
    "train.iterations": 2,
    "train.checkpoint-every": 1,
    "validation.tasks": 4,
    "validation.every": 1,
    "verl.gpus": 2,
    "verl.workers": 1,
    "verl.rollout": "cpu",
}
# what a CPU lacks, and a small machine can do without
OPTIONS = """
    trainer.device=cpu
    +ray_kwargs.ray_init.num_gpus=2
    ray_kwargs.ray_init.num_cpus=8
    +ray_kwargs.ray_init.include_dashboard=False
    +ray_kwargs.ray_init.object_store_memory=500000000
    actor_rollout_ref.actor.use_torch_compile=False
    actor_rollout_ref.actor.fsdp_config.use_torch_compile=False
    actor_rollout_ref.ref.fsdp_config.use_torch_compile=False
    actor_rollout_ref.rollout.free_cache_engine=False
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1
"""


def d2skill(*words, **environment):
    told = os.environ | {
        "PYTHONPATH": str(CPU),
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": PLUGINS,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",  # 15 otherwise, which waits for whatever else a small machine does
    }
    words = [sys.executable, "-m", "d2skill", *map(str, words)]
    return subprocess.run(words, env=told | environment, capture_output=True, text=True, check=False)


def flags(**changed):
    given = SETTINGS | {name.replace("__", "."): value for name, value in changed.items()}
    return [word for name, value in given.items() for word in (f"--{name}", value)] + [
        "--verl.options",
        *OPTIONS.split(),
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "on verl"
    done = d2skill("train", *flags(), "--out", folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_the_run_folder_is_that_of_any_run(run):
    folder = RunFolder.open(run)
    lines = folder.read_metrics()
    assert [line["iteration"] for line in lines] == [0, 1, 2]
    assert all(line["validation/with_skills"] is not None for line in lines)
    for line in lines[1:]:
        assert line["policy/grad_norm"] > 1e-3 and line["rollout/faults"] == 0 and "rollout/lost" not in line
        assert 0 < line["rollout/invalid_actions"] < line["env_steps"]
    summary = json.loads(folder.summary.read_text())
    assert (summary["iterations"], summary["env_steps"]) == (2, lines[-1]["env_steps"])
    assert summary["validation"]["with_skills"]["n"] == 4
    for iteration in (0, 1):
        played = read(folder.rollout(iteration))
        assert [t.arm for t in played] == ["skills", "skills", "none", "none"] * 4
        assert [t.index for t in played] == [0, 1, 2, 3] * 4
    # what an iteration wrote is shown in the next, to the skill half alone
    assert lines[1]["bank/added"] > 0
    shown = {
        arm: sum(len(turn.skills) for t in played if t.arm == arm for turn in t.turns) for arm in ("skills", "none")
    }
    assert shown["skills"] > 0 == shown["none"]
    assert lines[2]["bank/credited"] > 0
    assert lines[2]["bank/step"] <= 3  # evicted after the validation


def test_a_tracker_is_told_the_metrics(run):
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    lines = RunFolder.open(run).read_metrics()
    for name in ("rollout/skill_half_success", "validation/with_skills", "bank/step", "policy/loss"):
        told = [(event.step, event.value) for event in events.Scalars(name)]
        assert told == [(line["iteration"], pytest.approx(line[name])) for line in lines if name in line]


def test_bank_and_checkpoint_are_read_by_the_other_commands(run):
    listed = d2skill("bank", "list", run)
    assert listed.returncode == 0 and listed.stdout.count("\n") > 2, listed.stderr
    played = d2skill("evaluate", run, "--tasks", "2", "--json", run / "evaluated.json")
    assert played.returncode == 0, played.stderr
    arms = json.loads((run / "evaluated.json").read_text())["arms"]
    assert {name: arm["n"] for name, arm in arms.items()} == {"bank": 2, "none": 2}
    refused = d2skill("evaluate", run)
    # its weights are random: one answer of 32 may happen to name an action
    assert refused.returncode == 2 and re.search(r"3[0-2] of 32 answers name no action", refused.stderr), refused.stderr


def test_it_goes_on_from_a_checkpoint(run, tmp_path):
    """As after a kill in the last step: what it did to bank and files is undone, and done again."""
    folder, before = RunFolder.open(run), {}
    before["metrics"] = folder.read_metrics()
    progress = json.loads((run / "checkpoints/000001/progress.json").read_text())
    before["bank"] = SkillBank.open(folder.bank, event=progress["bank_event"]).skills()
    shutil.rmtree(run / "checkpoints/000002")
    folder.summary.unlink()

    done = d2skill("resume", run)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = folder.read_metrics()
    assert lines[:2] == before["metrics"][:2] and [line["iteration"] for line in lines] == [0, 1, 2]
    again = json.loads((run / "checkpoints/000002/progress.json").read_text())
    assert again["bank_event"] > progress["bank_event"]
    assert SkillBank.open(folder.bank, at=0).skills() == before["bank"]
    played = [read(folder.rollout(1)), read(folder.rollout(0))]
    assert [t.task.id for t in played[0]] != [t.task.id for t in played[1]]
    assert json.loads(folder.summary.read_text())["iterations"] == 2

    ended = d2skill("resume", run)
    assert ended.returncode == 0 and "Validation" in ended.stdout


def test_what_is_missing_is_said_before_anything_starts(tmp_path):
    out = tmp_path / "never"
    for changed, environment, told in (
        ({"verl__gpus": 2}, {"VERL_PLATFORM": ""}, "needs a GPU"),
        ({"warm_start__tasks": 5}, {}, "warm_start.tasks is 5"),
        ({"policy__lm__model": str(tmp_path)}, {}, "has no config.json"),
    ):
        changed = {name.replace("_start", "-start"): value for name, value in changed.items()}
        done = d2skill("train", *flags(**changed), "--out", out, **environment)
        assert done.returncode != 0 and told in done.stderr, done.stderr[-2000:]
        assert "Traceback" not in done.stderr and not out.exists()
