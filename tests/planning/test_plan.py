"""Plans as data and as the command prints them: the local engine and clusters, advice, and mistakes."""

import json

import pytest
from planning_cases import VERL, lm

from d2skill.cli.main import main
from d2skill.config import toml_files
from d2skill.planning import plan as plan_module
from d2skill.planning.devices import GPUS, Device, find_device
from d2skill.planning.memory_fit import with_batches
from d2skill.planning.model_shapes import shape_of
from d2skill.planning.plan import PlanOptions, plan

SERVED = [
    *("--policy", "served", "--policy.train", "false", "--policy.served.answer-tokens", "20", "--json"),
    *("--rollout.tasks", "2", "--rollout.group-size", "4", "--rollout.with-skills", "2", "--prompt.max-tokens", "100"),
    *("--train.iterations", "40", "--validation.tasks", "8", "--env.max-steps", "10"),
]


def test_what_a_served_policy_costs_by_hand(capsys, finished):
    def plan(*more):
        main(["plan", *SERVED, *more])
        return json.loads(capsys.readouterr().out)

    # 40 iterations of 8 episodes and 3 panels of 8 tasks in both arms, 10 steps each: 3680 decisions
    report = plan("--policy.served.price-in", "2", "--policy.served.price-out", "5")
    assert report["run"]["policy tokens"] == 3680 * 120
    assert report["money"]["acting"] == round(3680 * (100 * 2 + 20 * 5) / 1e6, 2) == 1.1
    assert "368,000 tokens of questions and 73,600 of answers" in report["money"]["from"]
    # a run like it took 10 steps an episode of 20
    steps = ("--env.max-steps", "20", "--policy.served.price-in", "10")
    assert plan(*steps)["money"]["acting"] == 7.36
    assert plan(*steps, "--like", str(finished.path))["money"]["acting"] == round((3200 + 960) * 100 * 10 / 1e6, 2)
    free = plan()["money"]
    assert free["acting"] is None and "policy.served.price_in and price_out (none given)" in free["from"]


def test_the_command_prints_parts_and_what_they_are_based_on(capsys, finished, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")  # the folder has a long name
    main(["plan", "--config", "alfworld-paper", "--gpu", "h100", "--gpus", "8", "--gpu-hour-price", "2"])
    said = capsys.readouterr().out
    assert "7,615,616,512" in said and "published" in said and "based on" in said
    assert "TFLOP/s" in said and "--policy.lm.lora-rank 16" in said
    main(["plan", "--like", str(finished.path)])
    assert str(finished.path) in " ".join(capsys.readouterr().out.split())


def test_the_command_prints_one_json_object(capsys):
    main(["plan", "--config", "laptop-lm", "--gpu", "cpu", "--json", "--tokens-per-second", "1000"])
    report = json.loads(capsys.readouterr().out)
    assert report["model"]["parameters"] == shape_of(toml_files.load("laptop-lm").policy.lm).parameters
    assert report["memory"]["fits"] and report["memory"]["total"] == max(report["memory"]["phases"].values())
    assert all("from" in report[part] for part in ("model", "memory", "iteration", "run", "time", "money"))
    assert report["time"]["hours"] == pytest.approx(sum(report["time"]["parts"].values()), abs=0.01)
    main(["plan", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["policy"] == "scorer" and report["time"]["hours"] > 0


def test_hours_are_those_of_the_peak_or_unknown(monkeypatch):
    config = lm(model="tiny", answer="free")
    parameters = shape_of(config.policy.lm).parameters
    tokens = 160 * 128 * 20 * (config.prompt.max_tokens + config.policy.lm.max_new_tokens)

    def hours(peak):
        monkeypatch.setattr(plan_module, "find_device", lambda name: Device("one", 1e12, peak))
        return plan(config, PlanOptions(gpus=2, utilisation=0.5))["time"]

    assert hours(1e12)["parts"]["acting"] == pytest.approx(tokens * 2 * parameters / 1e12 / 3600, abs=1e-3)
    assert hours(1e12)["from"].startswith("2 x 1 TFLOP/s at 50%, 2N a token read, 6N learnt and 2N to read it again; ")
    assert hours(None) == {"hours": None, "parts": {}, "from": hours(None)["from"]}
    assert "no speed is known" in hours(None)["from"]


def test_advice_names_all_that_it_counts():
    """A smaller batch of generation helps only once learning takes less, and is told all the same."""
    config = toml_files.load("alfworld-paper")
    advice = plan(with_batches(config, 16384, 64), PlanOptions(gpu="h100"))["memory"]["advice"]
    assert any(line.startswith("--policy.lm.generate-batch 8: ") for line in advice)
    assert advice[-1] == "all of these: 20.0 GB, which fits"
    # batches that are left open grow into the room that the other changes make
    memory = plan(config, PlanOptions(gpu="h100"))["memory"]
    assert memory["tokens at once"] == {"in a forward pass": 256} and not memory["fits"]
    assert memory["advice"][-1] == "all of these: 42.1 GB, which fits"


def test_two_iterations_are_measured_here(capsys):
    few = (
        "--rollout.tasks",
        "2",
        "--validation.tasks",
        "2",
        "--warm-start.tasks",
        "2",
        "--env.houses.receptacles",
        "8",
    )
    main(["plan", "--measure", "--json", *few])
    report = json.loads(capsys.readouterr().out)
    assert "two iterations here" in report["time"]["from"] and report["time"]["hours"] > 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--policy", "causal-lm", "--policy.lm.model", "nobody/nothing"], "not known"),
        (["--config", "laptop-lm", "--gpu", "abacus"], "abacus"),
        (["--gpus", "0"], "--gpus = 0: input should be greater than or equal to 1"),
        (["--utilisation", "1.5"], "--utilisation = 1.5"),
        (["--prompt-tokens", "10"], "the policy is a scorer"),
        (["--config", "laptop-lm", "--gpu", "cpu", "--lock-step"], "--lock-step"),
        (["--like", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, flags, said):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *flags])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_every_device_of_the_table_can_be_named():
    assert all(find_device(name).memory > 1e10 for name in GPUS)


def test_the_command_says_which_lengths_it_assumes(capsys):
    def found(*more):
        main([*VERL, "--gpu", "h100", "--json", *more])
        return json.loads(capsys.readouterr().out)

    usual, limits = found(), found("--limits")
    assert usual["lengths"] | {"from": ""} == {
        "tokens of a prompt": 383,
        "tokens that skills add": 360,
        "tokens of an answer": 120,
        "steps of an episode": 30,
        "from": "",
    }
    assert "--prompt-tokens" in usual["lengths"]["from"] and "typical of alfworld" in usual["lengths"]["from"]
    assert limits["lengths"]["tokens of a prompt"] == 4096 and "limits" in limits["lengths"]["from"]
    assert limits["time"]["hours"] > 4 * usual["time"]["hours"] and limits["memory"] == usual["memory"]
    given = found("--prompt-tokens", "1000", "--answer-tokens", "200", "--steps", "20")["iteration"]
    assert (given["prompt tokens"], given["answer tokens"]) == (128 * 20 * 1000, 128 * 20 * 200)


def test_a_run_like_it_gives_the_pace_of_a_cluster(capsys, finished):
    main([*VERL, "--like", str(finished.path), "--json"])
    found = json.loads(capsys.readouterr().out)["time"]
    # 160 iterations of 2 s and 33 looks of 2 s, on the GPUs that it ran on
    assert found["parts"]["iterations"] == round(160 * 2 / 3600, 3) and str(finished.path) in found["from"]
    assert found["GPU-hours"] == round(8 * found["hours"], 1)


def test_the_command_plans_a_cluster(capsys):
    main([*VERL, "--gpu", "h100"])
    said = " ".join(capsys.readouterr().out.split())
    assert "fsdp2: weights, gradients and Adam over all GPUs" in said and "8 copies of the model, 1 GPU each" in said
    assert "weights 30.5 GB, optimiser 60.9 GB, Hugging Face copy 30.5 GB" in said and "GPU-hours" in said
    assert "of a copy 102, of all 816, wanted 128" in said


@pytest.mark.parametrize(
    ("flags", "advised"),
    [
        (["--policy.lm.no-gradient-checkpointing"], "--policy.lm.gradient-checkpointing"),
        (["--verl.gpu-memory", "0.9"], "--verl.gpu-memory 0.68"),
        (["--verl.gpu-memory", "0.2"], "--verl.gpu-memory 0.25"),
        (["--verl.gpu-memory", "0.9"], "--verl.offload"),
        (["--verl.strategy", "megatron", "--policy.lm.no-gradient-checkpointing"], "--verl.offload"),
        (["--verl.strategy", "megatron"], "tensor_model_parallel_size=2 of actor_rollout_ref.actor.megatron in"),
    ],
)
def test_what_does_not_fit_is_told_with_advice(capsys, flags, advised):
    main([*VERL, "--gpu", "h100", "--json", *flags])
    found = json.loads(capsys.readouterr().out)["memory"]
    assert not found["fits"] and any(line.startswith(advised) for line in found["advice"])
    assert found["advice"][-1].startswith("all of these") and found["advice"][-1].endswith("which fits")
    # what is advised is what verl takes, and together it does help
    every = [word for line in found["advice"][:-1] for word in line.partition(":")[0].split() if " of " not in line]
    if split := next((line for line in found["advice"] if " of actor_rollout_ref" in line), None):
        every += ["--verl.options", f"actor_rollout_ref.actor.megatron.{split.split()[0]}"]
    main([*VERL, "--gpu", "h100", "--json", *flags, *every])
    assert json.loads(capsys.readouterr().out)["memory"]["fits"]


def test_what_never_fits_is_told_so(capsys):
    main([*VERL, "--gpu", "rtx4090", "--verl.gpus", "1", "--json"])
    found = json.loads(capsys.readouterr().out)["memory"]
    assert "still does not fit" in found["advice"][-1]
    assert not any("tensor-parallel" in line for line in found["advice"])  # there is one GPU
    main([*VERL, "--gpu", "h100", "--policy.lm.no-gradient-checkpointing", "--optim.minibatch-rows", "8", "--json"])
    found = json.loads(capsys.readouterr().out)["memory"]
    assert not any("--verl.nodes" in line for line in found["advice"])  # 16 GPUs would get half a row each


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--verl.tensor-parallel", "8"],
            "28 attention heads and 4 of keys and values, which cannot be divided among verl.tensor_parallel 8",
        ),
        (["--verl.tensor-parallel", "3"], "verl.tensor_parallel"),
        (
            ["--verl.gpus", "14", "--optim.minibatch-rows", "112", "--verl.tensor-parallel", "14"],
            "among verl.tensor_parallel 14 GPUs: set it to 4",
        ),
        (["--policy", "scorer"], "policy.kind is scorer"),
        (["--gpus", "8"], "--verl.gpus"),
        (["--gpu", "cpu"], "--gpu cpu"),
        (["--measure"], "--like"),
    ],
)
def test_a_mistake_about_a_cluster_is_one_sentence(capsys, flags, said):
    with pytest.raises(SystemExit) as ended:
        main([*VERL, *flags])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
