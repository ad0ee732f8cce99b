"""What a run would take: parameters as real models have them, memory and work by hand, and what the command prints."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from d2skill.cli.main import main
from d2skill.config import Config, toml_files
from d2skill.errors import ConfigError, RunError
from d2skill.planning import workload
from d2skill.planning.devices import KNOWN as DEVICES
from d2skill.planning.devices import Device, device
from d2skill.planning.memory import Adapter, Load, activations, adapter_of, cached, inside_of, load_of, memory
from d2skill.planning.model_shapes import KNOWN, Shape, find, from_config, tiny
from d2skill.planning.sharded_memory import ASLEEP, BUCKET, PROCESS
from d2skill.planning.sharded_memory import cluster as sharded
from d2skill.runs.folder import RunFolder

SIZES = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
BARE = Device("bare", 1e9, 1e12, framework=0, kind="cpu")
SMALL = Shape("small", "here", 100, 8, 16, 2, 4, 2, 2, True)


def lm(**given) -> Config:
    rest = {name: given.pop(name) for name in list(given) if name in ("prompt", "optim", "rollout", "train", "reflect")}
    return Config.model_validate({"policy": {"kind": "causal-lm", "lm": given}} | rest)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        (Qwen2Config, {}),
        (Qwen3Config, {"head_dim": 16}),
        (Qwen3Config, {"head_dim": 8, "attention_bias": True}),
        (LlamaConfig, {}),
        (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    ],
)
def test_parameters_are_those_of_a_real_model(kind, extra, tied):
    config = kind(**SIZES, **HEADS, tie_word_embeddings=tied, **extra)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = from_config(config.to_dict(), "real", "the model")
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.tied is tied
    adapter = Adapter(3, list(shape.linears))
    linear = [part for name, part in model.named_modules() if name.endswith("_proj")]
    assert adapter.parameters(shape) == sum(3 * (one.in_features + one.out_features) for one in linear)


def test_known_models_have_their_published_sizes():
    counts = {name.rpartition("/")[2]: shape.parameters for name, shape in KNOWN.items()}
    assert counts == {
        "Qwen2.5-7B-Instruct": 7_615_616_512,
        "Qwen2.5-1.5B-Instruct": 1_543_714_304,
        "Qwen2.5-0.5B-Instruct": 494_032_768,
        "Qwen3-4B-Instruct-2507": 4_022_468_096,
        "Qwen3-Embedding-0.6B": 595_776_512,
    }


def test_a_shape_is_read_from_a_folder_before_the_table(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", **SIZES, **HEADS}))
    found = find(str(tmp_path))
    assert (found.vocabulary, found.head, found.source) == (300, 8, str(tmp_path / "config.json"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert "published" in find("Qwen/Qwen2.5-7B-Instruct").source


@pytest.mark.parametrize(
    "text", ["no json", "[1]", '{"model_type": "mamba"}', '{"model_type": "qwen2", "hidden_size": 4}']
)
def test_a_folder_that_tells_no_shape_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        find(str(tmp_path))
    with pytest.raises(ConfigError, match="not known"):
        find("nobody/nothing")


def test_what_rests_is_weights_reference_and_adam():
    count, load = SMALL.parameters, Load(2, 4, 10, 3, True)
    full = memory(lm(dtype="float32"), SMALL, load, BARE).resting
    assert list(full.values()) == [4 * count, 4 * count, 0, 8 * count, 0]
    half = memory(lm(dtype="bfloat16"), SMALL, load, BARE).resting
    assert list(half.values()) == [2 * count, 2 * count, 4 * count, 8 * count, 0]
    alone = memory(lm(dtype="float32", optim={"kl": 0}), SMALL, load, BARE).resting
    assert alone["reference"] == 0
    config = lm(dtype="bfloat16", lora_rank=4, lora_targets="q_proj, v_proj")
    own = adapter_of(config, SMALL).parameters(SMALL)
    assert own == 2 * 4 * ((8 + 8) + (8 + 4))
    # the reference is the adapter as it was after imitation
    assert list(memory(config, SMALL, load, BARE).resting.values()) == [2 * count + 4 * own, 4 * own, 0, 8 * own, 0]
    untaught = config.model_copy(update={"warm_start": config.warm_start.model_copy(update={"tasks": 0})})
    assert memory(untaught, SMALL, load, BARE).resting["reference"] == 0


def test_activations_cache_and_logits_by_hand():
    config = lm(dtype="float32", optim={"kl": 0})
    load = Load(2, 4, 10, 1, True)  # an answer of one token: nothing is read after the prompts
    token = 2 * 12 * 8 + 4 * 4 * 16 + 2 * 4 * 8 + 4 * 4
    kept = 2 * (2 * 10 * (token + 4 * 2 * 8 + 4 * 10)) + 12 * 8 * 2 * 10
    assert activations(SMALL, load, config, None) == (kept, 0)
    longer = activations(SMALL, replace(load, answer=3), config, None)[0]
    assert longer == 2 * (2 * 12 * (token + 4 * 2 * 8 + 4 * 12)) + 12 * 8 * 2 * 12
    assert cached(SMALL, 4) == 2 * 2 * 4 * 4
    assert inside_of(SMALL, 10, 4) == 4 * max(3 * 16 + 4 * 8, 24 + 24 + 8 + 16 + 10) + 16 + 10
    found = memory(config, SMALL, load, BARE)
    assert found.update["logits"] == 100 * 2 * 16 and found.update["activations"] == kept
    assert found.step == {"gradients": 4 * SMALL.parameters, "temporaries of Adam": 0}
    assert found.generation["keys and values"] == 4 * 11 * 2 * 2 * 4 * 4 * 5 / 4
    assert found.total == max(found.phases.values())


def test_checkpointing_bfloat16_and_smaller_passes_take_less():
    load = Load(4, 4, 400, 20, True)
    usual = activations(SMALL, load, lm(), None)[0]
    assert activations(SMALL, load, lm(gradient_checkpointing=True), None)[0] < usual / 2
    assert activations(SMALL, load, lm(dtype="bfloat16"), None)[0] < 0.7 * usual
    assert activations(SMALL, load, lm(attention="flash_attention_2"), None)[0] < usual
    # a row alone is not padded and needs no mask
    flash, alone = lm(attention="flash_attention_2"), replace(load, update_rows=1)
    assert activations(SMALL, alone, lm(), None)[0] < usual / 4
    assert activations(SMALL, alone, flash, None)[0] == activations(SMALL, load, flash, None)[0] / 4


def test_a_load_keeps_within_the_settings():
    config = lm(microbatch_tokens=1000, answer="free", max_new_tokens=100, prompt={"max_tokens": 400})
    assert load_of(config) == Load(2, 64, 400, 100, True)
    assert load_of(lm(microbatch_tokens=64)).update_rows == 1


def test_work_at_the_limits_by_hand():
    config = lm(
        answer="free",
        max_new_tokens=10,
        prompt={"max_tokens": 100},
        rollout={"tasks": 2, "group_size": 4, "with_skills": 2},
    )
    config = config.model_copy(update={"train": config.train.model_copy(update={"iterations": 40})})
    todo = workload.work(config)
    assert (todo.episodes, todo.decisions, todo.prompt, todo.written) == (8, 160, 16000, 1600)
    assert (todo.validations, todo.validation_decisions) == (3, 2 * 128 * 20)
    assert (todo.texts, todo.calls) == (82, 0)
    assert todo.generated == 40 * 17600 + 3 * 5120 * 110
    pace = workload.speed(config, SMALL, tokens_per_second=1000, peak=None, devices=1, utilised=0.3)
    found = workload.hours(todo, pace)
    assert found["acting"] == pytest.approx(40 * 17600 / 1000 / 3600)
    assert found["learning"] == pytest.approx(4 * found["acting"])  # 6N of learning and 2N of the reference over 2N
    reckoned = workload.speed(config, SMALL, tokens_per_second=None, peak=1e12, devices=2, utilised=0.5)
    assert reckoned.tokens == pytest.approx(1e12 / (2 * SMALL.parameters))
    assert workload.speed(config, SMALL, tokens_per_second=None, peak=None, devices=1, utilised=0.5) is None


def test_reflection_keeps_within_its_budget():
    def calls(**given):
        todo = workload.work(lm(reflect={"kind": "llm", "price_in": 1, "price_out": 2, **given}))
        return todo.calls, todo.iterations * (todo.call_in + todo.call_out)

    assert calls() == (10, 160 * 70000)
    assert calls(max_calls=800)[0] == pytest.approx(5)
    assert calls(max_tokens=70000)[1] == pytest.approx(70000)
    todo = workload.work(lm(reflect={"kind": "llm", "price_in": 1, "price_out": 2, "max_cost": 3}))
    config = lm(reflect={"kind": "llm", "price_in": 1, "price_out": 2})
    assert workload.reflection_cost(config, todo) == pytest.approx(3)


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


@pytest.fixture
def finished(tmp_path):
    """The metrics of a run of two iterations."""
    run = RunFolder.create(tmp_path / "run")
    run.begin(toml_files.load("laptop"), {})
    run.append_metrics({"iteration": 0, "warm_start/demonstrations": 50, "time/warm_start": 3.0, "time/validate": 2.0})
    for number in (1, 2):
        halves = {"rollout/skill_half_steps": 8.0, "rollout/baseline_half_steps": 12.0}
        run.append_metrics({"iteration": number, **halves, "time/rollout": 1.5, "time/update": 0.5})
    return run


def test_a_run_like_it_gives_steps_and_pace(finished, tmp_path):
    like = workload.measured(finished)
    assert (like.steps, like.demonstrations, like.iteration_seconds) == (10, 50, 2)
    todo = workload.work(finished.config(), like)
    assert todo.decisions == 1280
    assert workload.hours_like(todo, like)["iterations"] == pytest.approx(160 * 2 / 3600)
    empty = RunFolder.create(tmp_path / "empty")
    empty.begin(finished.config(), {})
    with pytest.raises(RunError, match="no finished iteration"):
        workload.measured(empty)


def test_the_command_prints_parts_and_what_they_are_based_on(capsys, finished):
    main(["plan", "--config", "alfworld-paper", "--gpu", "h100", "--gpus", "8", "--gpu-hour-price", "2"])
    said = capsys.readouterr().out
    assert "7,615,616,512" in said and "published" in said and "based on" in said
    assert "TFLOP/s" in said and "--policy.lm.lora-rank 16" in said
    main(["plan", "--like", str(finished.path)])
    assert str(finished.path) in " ".join(capsys.readouterr().out.split())


def test_the_command_prints_one_json_object(capsys):
    main(["plan", "--config", "laptop-lm", "--gpu", "cpu", "--json", "--tokens-per-second", "1000"])
    report = json.loads(capsys.readouterr().out)
    assert report["model"]["parameters"] == tiny(toml_files.load("laptop-lm").policy.lm).parameters
    assert report["memory"]["fits"] and report["memory"]["total"] == max(report["memory"]["phases"].values())
    assert all("from" in report[part] for part in ("model", "memory", "iteration", "run", "time", "money"))
    assert report["time"]["hours"] == pytest.approx(sum(report["time"]["parts"].values()), abs=0.01)
    main(["plan", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["policy"] == "scorer" and report["time"]["hours"] > 0


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
        (["--gpus", "0"], "--gpus"),
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
    assert all(device(name).memory > 1e10 for name in DEVICES)


SEVEN = KNOWN["Qwen/Qwen2.5-7B-Instruct"]
COUNT = 7_615_616_512
HEAD = 152_064 * 3584
LAYER = 233_057_792 + 3584 // 28  # with its share of the last norm
ROW = 5120
VERL = [
    *("plan", "--config", "alfworld-paper", "--engine", "verl", "--bank.probe", "0"),
    "--policy.lm.gradient-checkpointing",
]


def seven(*, lm=None, kl=0.01, temperature=1.0, **verl) -> Config:
    """The published settings, with gradient checkpointing, on a node of 8 GPUs unless told otherwise."""
    base = toml_files.load("alfworld-paper").model_dump()
    base["policy"]["lm"] |= {"gradient_checkpointing": True, **(lm or {})}
    base["optim"]["kl"], base["rollout"]["temperature"] = kl, temperature
    return Config.model_validate(base | {"engine": "verl", "verl": verl})


def test_memory_of_a_7b_on_eight_gpus_by_hand():
    found = sharded(seven(), SEVEN, device("h100"), ROW)
    # float32 weights, their gradients and two moments, each an eighth
    eighth = 4 * COUNT / 8
    assert found.resting == {"weights": eighth, "Adam's two moments": 2 * eighth}
    assert found.step == {"gradients": eighth, "temporaries of Adam": eighth}
    assert found.update == pytest.approx(
        {
            "gradients": eighth,
            # the head in bfloat16, its gradient in bfloat16 and in float32, and the weights of a layer
            "layers put together": 8 * HEAD + 2 * LAYER,
            # of 16384 tokens the input of each layer; the last norm keeps a float32 copy and two of bfloat16
            "activations": 16384 * 3584 * (28 * 2 + 8),
            "logits": 16384 * 152_064 * (2 + 2),
            "layers computed again": 0,  # less than the logits, which are there at another time
        }
    )
    # 48 GB: bfloat16 weights, the framework, 8192 tokens inside a layer, 256 rows to draw from, keys and values
    inside = 8192 * 2 * (3 * 18_944 + 4 * 3584) + 3 * 4 * 256 * 152_064
    left = 48e9 - 2 * COUNT - 1e9 - inside
    assert found.rollout.parts["keys and values"] == left
    assert (found.rollout.prompts, found.rollout.copies) == (int(left / (28 * 2 * 512 * 2 * ROW)), 8) == (102, 8)
    assert found.phases == pytest.approx(
        {
            "learning": 1e9 + ASLEEP + 3 * eighth + sum(found.update.values()),
            "step of Adam": 1e9 + ASLEEP + 5 * eighth,
            "handing weights over": 1e9 + ASLEEP + 3 * eighth + 2 * COUNT + BUCKET + 4 * HEAD,
            "answering": 1e9 + 3 * eighth + 48e9,
        }
    )
    assert found.total == max(found.phases.values()) and found.fits(device("h100"))
    # three processes a GPU, eight that play, and six more
    assert found.host == {"reference": 2 * COUNT, "loading": 4 * COUNT, "processes": 38 * PROCESS}
    assert sum(found.checkpoint.values()) == (4 + 8 + 4) * COUNT


def test_offload_and_megatron_by_hand():
    h100, whole = device("h100"), 12 * COUNT
    away = sharded(seven(offload=True, nodes=2), SEVEN, h100, ROW)
    assert away.phases["answering"] == 49e9
    coming = 4 * COUNT / 16 + 2 * COUNT + BUCKET + 4 * HEAD
    assert away.phases["handing weights over"] == 1e9 + ASLEEP + coming
    assert away.phases["learning"] == sharded(seven(nodes=2), SEVEN, h100, ROW).phases["learning"]
    assert away.host["weights and optimiser while not used"] == whole / 2 and away.host["reference"] == COUNT
    split = ("actor_rollout_ref.actor.megatron.tensor_model_parallel_size=2",)
    found = sharded(seven(strategy="megatron", options=split, offload=True), SEVEN, h100, ROW)
    assert list(found.resting.values()) == [COUNT, 2 * COUNT, COUNT / 2, COUNT, COUNT]
    assert found.host["weights and optimiser while not used"] == 8 * 3.5 * COUNT and "reference" not in found.host
    assert found.update["activations"] == 16384 * 3584 * (28 * 2 + 8) / 2
    assert sum(found.checkpoint.values()) == 14 * COUNT
    alone = sharded(seven(strategy="megatron"), SEVEN, h100, ROW)
    assert alone.resting["weights"] == 2 * COUNT and not alone.fits(h100)


def test_what_changes_the_memory_of_a_cluster():
    h100 = device("h100")
    usual = sharded(seven(), SEVEN, h100, ROW)
    # without a reference there is none, and without checkpointing all layers keep what they made
    assert "reference" not in sharded(seven(kl=0), SEVEN, h100, ROW).host
    kept = sharded(seven(lm={"gradient_checkpointing": False}), SEVEN, h100, ROW)
    assert kept.update["activations"] > 20 * usual.update["activations"] and not kept.fits(h100)
    # logits that are divided by a temperature are there a third time
    warm = sharded(seven(temperature=0.7), SEVEN, h100, ROW)
    assert warm.update["logits"] == 1.5 * usual.update["logits"]
    # fsdp makes one group of embeddings and head
    one = sharded(seven(strategy="fsdp"), SEVEN, h100, ROW).update["layers put together"]
    assert one == pytest.approx(8 * 2 * HEAD + 2 * LAYER)
    # two GPUs for a copy leave more room for keys and values, of which each then has half
    shared = sharded(seven(tensor_parallel=2), SEVEN, h100, ROW).rollout
    assert shared.copies == 4 and shared.prompts > 2 * usual.rollout.prompts
    # four heads have keys: of seven GPUs, each keeps one of them
    seventh = sharded(seven(gpus=7, tensor_parallel=7), SEVEN, h100, ROW).rollout
    assert seventh.prompts == int(seventh.parts["keys and values"] / (2 * 28 * 2 * 128 * ROW))
    # the last of the options counts
    short = [f"actor_rollout_ref.actor.fsdp_config.model_dtype={name}" for name in ("fp32", "bf16")]
    assert sharded(seven(options=short), SEVEN, h100, ROW).resting["weights"] == usual.resting["weights"] / 2
    # tied embeddings are loaded by each process
    tied = sharded(seven(), KNOWN["Qwen/Qwen2.5-0.5B-Instruct"], h100, ROW)
    assert tied.host["loading"] == 8 * 4 * 494_032_768
    full = sharded(seven(lm={"dtype": "float32", "gradient_checkpointing": False}), SEVEN, h100, ROW)
    # rows that are not packed: three of 5120 tokens in float32, with a mask in each layer
    assert full.update["activations"] > 1.9 * kept.update["activations"]
    assert full.update["logits"] == 3 * ROW * 152_064 * 8


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp", "megatron"])
@pytest.mark.parametrize("offload", [False, True])
def test_more_gpus_never_take_more_memory_each(strategy, offload):
    sizes = [(1, 1), (1, 2), (1, 8), (2, 8), (10, 8)]
    for shape in KNOWN.values():
        found = [
            sharded(seven(strategy=strategy, offload=offload, nodes=n, gpus=g), shape, device("h100"), ROW)
            for n, g in sizes
        ]
        for few, many in pairwise(found):
            assert many.total <= few.total and all(many.phases[name] <= few.phases[name] for name in few.phases)
            assert many.checkpoint == few.checkpoint


def test_hours_of_a_cluster_by_hand(capsys):
    def plan(*more):
        main([*VERL, "--json", *more])
        return json.loads(capsys.readouterr().out)

    report = plan("--gpu", "h100", "--gpu-hour-price", "2")
    tokens = 160 * 128 * 50 * (4096 + 512)
    acting = tokens * 2 * (COUNT - HEAD) / (8 * 989e12 * 0.3) / 3600
    hours = report["time"]["parts"]
    assert hours["acting"] == pytest.approx(acting, abs=1e-3)
    # 6N to learn, and 2N each for the old probabilities, the reference and what was not kept
    assert hours["learning"] == pytest.approx(6 * acting, abs=1e-3)
    assert report["time"]["GPU-hours"] == pytest.approx(8 * report["time"]["hours"], abs=0.1)
    assert report["money"]["devices"] == pytest.approx(16 * report["time"]["hours"], abs=0.01)
    # an episode is a sequence: 80 GPUs write the tokens of its 50 answers no sooner than 8
    ten = plan("--gpu", "h100", "--verl.nodes", "10", "--optim.minibatch-rows", "160")["time"]["parts"]
    assert ten["acting"] == pytest.approx(160 * 50 * 512 * 2 * COUNT / 3.35e12 / 3600, abs=1e-3)
    assert ten["acting"] > acting / 10 and ten["learning"] == pytest.approx(0.6 * acting, abs=1e-3)
    asked = plan("--tokens-per-second", "1e6")["time"]["parts"]
    assert asked["acting"] == pytest.approx(tokens / 1e6 / 3600, abs=1e-3)


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
        (["--verl.tensor-parallel", "8"], "28 attention heads and 4 of keys and values, which verl.tensor_parallel 8"),
        (["--verl.tensor-parallel", "3"], "verl.tensor_parallel"),
        (
            ["--verl.gpus", "14", "--optim.minibatch-rows", "112", "--verl.tensor-parallel", "14"],
            "which verl.tensor_parallel 14",
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
