"""What a run would take: parameters as real models have them, memory and work by hand, and what the command prints."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from d2skill import settings_files
from d2skill.cli import main
from d2skill.config import Config
from d2skill.errors import ConfigError, RunError
from d2skill.plan import work
from d2skill.plan.devices import KNOWN as DEVICES
from d2skill.plan.devices import Device, device
from d2skill.plan.memory import Adapter, Load, activations, adapter_of, cached, inside_of, load_of, memory
from d2skill.plan.shapes import KNOWN, Shape, find, from_config, tiny
from d2skill.runfolder import RunFolder

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
    todo = work.work(config)
    assert (todo.episodes, todo.decisions, todo.prompt, todo.written) == (8, 160, 16000, 1600)
    assert (todo.validations, todo.validation_decisions) == (3, 2 * 128 * 20)
    assert (todo.texts, todo.calls) == (82, 0)
    assert todo.generated == 40 * 17600 + 3 * 5120 * 110
    pace = work.speed(config, SMALL, tokens_per_second=1000, peak=None, devices=1, utilised=0.3)
    found = work.hours(todo, pace)
    assert found["acting"] == pytest.approx(40 * 17600 / 1000 / 3600)
    assert found["learning"] == pytest.approx(4 * found["acting"])  # 6N of learning and 2N of the reference over 2N
    reckoned = work.speed(config, SMALL, tokens_per_second=None, peak=1e12, devices=2, utilised=0.5)
    assert reckoned.tokens == pytest.approx(1e12 / (2 * SMALL.parameters))
    assert work.speed(config, SMALL, tokens_per_second=None, peak=None, devices=1, utilised=0.5) is None


def test_reflection_keeps_within_its_budget():
    def calls(**given):
        todo = work.work(lm(reflect={"kind": "llm", "price_in": 1, "price_out": 2, **given}))
        return todo.calls, todo.iterations * (todo.call_in + todo.call_out)

    assert calls() == (10, 160 * 70000)
    assert calls(max_calls=800)[0] == pytest.approx(5)
    assert calls(max_tokens=70000)[1] == pytest.approx(70000)
    todo = work.work(lm(reflect={"kind": "llm", "price_in": 1, "price_out": 2, "max_cost": 3}))
    config = lm(reflect={"kind": "llm", "price_in": 1, "price_out": 2})
    assert work.reflection_cost(config, todo) == pytest.approx(3)


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
    run.begin(settings_files.load("laptop"), {})
    run.append_metrics({"iteration": 0, "warm_start/demonstrations": 50, "time/warm_start": 3.0, "time/validate": 2.0})
    for number in (1, 2):
        halves = {"rollout/skill_half_steps": 8.0, "rollout/baseline_half_steps": 12.0}
        run.append_metrics({"iteration": number, **halves, "time/rollout": 1.5, "time/update": 0.5})
    return run


def test_a_run_like_it_gives_steps_and_pace(finished, tmp_path):
    like = work.measured(finished)
    assert (like.steps, like.demonstrations, like.iteration_seconds) == (10, 50, 2)
    todo = work.work(finished.config(), like)
    assert todo.decisions == 1280
    assert work.hours_like(todo, like)["iterations"] == pytest.approx(160 * 2 / 3600)
    empty = RunFolder.create(tmp_path / "empty")
    empty.begin(finished.config(), {})
    with pytest.raises(RunError, match="no finished iteration"):
        work.measured(empty)


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
    assert report["model"]["parameters"] == tiny(settings_files.load("laptop-lm").policy.lm).parameters
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
