"""Batches chosen by the memory there is: their sizes, refusals, and that train, doctor and plan agree."""

from dataclasses import replace
from math import inf

import pytest
from planning_cases import SMALL, lm

from d2skill.components import Components
from d2skill.config import Config, toml_files
from d2skill.errors import ConfigError
from d2skill.planning import diagnostics, memory_report
from d2skill.planning.devices import GPUS, Device, this_cpu
from d2skill.planning.memory_fit import CPU_FRAGMENTS, choose_batches, filled_memory, memory_meant
from d2skill.planning.plan import PlanOptions, plan
from d2skill.utils.memory import cgroup_memory

MB = 1e6
PROMPTS = {"prompt": {"max_tokens": 400}, "optim": {"minibatch_rows": 128}}


def cpu(memory, free=None):
    return Device("cpu, 2 cores", memory, None, framework=0, kind="cpu", free=free)


def batches(config):
    return config.policy.lm.microbatch_tokens, config.policy.lm.generate_batch


def test_a_machine_gives_half_and_a_gpu_nine_tenths_of_what_is_free():
    assert memory_meant(cpu(10, 9)) == memory_meant(cpu(10)) == 5
    assert memory_meant(cpu(10, 4)) == 4
    assert memory_meant(replace(GPUS["h100"], memory=10, free=5)) == 4.5
    assert memory_meant(replace(GPUS["h100"], memory=10)) == 9


def test_the_largest_powers_of_two_that_fit_are_chosen():
    config, found = lm(**PROMPTS), {}
    for size in (2, 4, 16, 64, 1000):
        device = cpu(size * MB)
        chosen = choose_batches(config, SMALL, device)
        found[size] = batches(chosen)
        tokens, slots = found[size]
        assert tokens & (tokens - 1) == slots & (slots - 1) == 0
        if size > 2:
            assert filled_memory(chosen, SMALL, device).total <= size * MB / 2
        for larger in ({"microbatch_tokens": 2 * tokens}, {"generate_batch": 2 * slots}):
            given = chosen.policy.lm.model_dump() | larger
            over = filled_memory(lm(**given, **PROMPTS), SMALL, device)
            assert tokens == 16384 or slots == 64 or over.total > size * MB / 2
    assert found[2] == (256, 1) and found[1000] == (16384, 64)
    assert list(found.values()) == sorted(found.values())


def test_numbers_that_are_given_stay():
    config = lm(microbatch_tokens=9000, **PROMPTS)
    assert batches(choose_batches(config, SMALL, cpu(4 * MB)))[0] == 9000
    assert batches(choose_batches(lm(generate_batch=3), SMALL, cpu(1e12))) == (16384, 3)


def test_short_prompts_fill_a_pass_that_long_ones_do_not():
    device, config = cpu(1e9), lm(microbatch_tokens=600, **PROMPTS)
    memory, longer = filled_memory(config, SMALL, device), lm(microbatch_tokens=816, **PROMPTS)
    rest = sum(memory.parts["always"].values())
    # two rows of 300 tokens, where one of 408 fits and a second one does not
    wanted = 2 * (300 - 1)
    token = memory.parts["while learning"]["activations"] / wanted
    assert token == pytest.approx(2 * (2 * 12 * 8 + 256 + 64 + 16 + 4 * 2 * 8 + 4 * 299) + 96)
    assert memory.phases["update"] == pytest.approx(rest + CPU_FRAGMENTS * sum(memory.parts["while learning"].values()))
    assert filled_memory(longer, SMALL, device).phases["update"] > memory.phases["update"]


def refusal(config, device, monkeypatch):
    monkeypatch.setattr(memory_report, "this_device", lambda name: device)
    with pytest.raises(ConfigError) as refused:
        memory_report.fit_to_memory(config)
    return str(refused.value)


def test_a_step_that_cannot_fit_is_refused_with_settings_that_help(monkeypatch):
    seven = lm(model="Qwen/Qwen2.5-7B-Instruct", answer="free", prompt={"max_tokens": 4096})
    device = replace(this_cpu(), name="cpu, 2 cores", memory=24e9, free=22e9)
    said = refusal(seven, device, monkeypatch)
    assert 'policy.lm.model "Qwen/Qwen2.5-7B-Instruct" takes' in said and "cpu, 2 cores has 22.0 GB free" in said
    helped = lm(
        model="Qwen/Qwen2.5-7B-Instruct",
        answer="free",
        prompt={"max_tokens": 4096},
        gradient_checkpointing="--policy.lm.gradient-checkpointing" in said,
        lora_rank=16 if "--policy.lm.lora-rank 16" in said else 0,
        dtype="bfloat16" if "--policy.lm.dtype bfloat16" in said else "float32",
    )
    assert memory_report.fit_to_memory(helped).policy.lm.microbatch_tokens
    hopeless = refusal(seven, replace(device, free=5e9), monkeypatch)
    assert hopeless.endswith("and a smaller model or larger devices, as that is not enough")
    assert "--prompt.max-tokens 512" in hopeless
    # a checkpoint can be played where it could not be trained
    assert batches(memory_report.fit_to_memory(seven, check=False)) == (256, 1)


def test_a_number_that_is_too_large_is_refused_with_the_one_that_would_be_chosen(monkeypatch):
    device = replace(this_cpu(), memory=2e9, free=1.9e9)
    monkeypatch.setattr(memory_report, "this_device", lambda name: device)
    chosen = memory_report.fit_to_memory(lm()).policy.lm.microbatch_tokens
    said = refusal(lm(microbatch_tokens=2**18), device, monkeypatch)
    assert f"policy.lm.microbatch_tokens {2**18}" in said and f"use --policy.lm.microbatch-tokens {chosen} (" in said


def test_train_doctor_and_plan_know_the_same_number(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    config = toml_files.load("laptop-lm")
    for device, status in ((replace(this_cpu(), memory=1.2e9, free=1e9), "found"), (cpu(1e8, 1e7), "missing")):
        monkeypatch.setattr(memory_report, "this_device", lambda name, device=device: device)
        monkeypatch.setattr("d2skill.planning.plan.find_device", lambda name, device=device: device)
        chosen = memory_report.fit_to_memory(config, check=False)
        planned = plan(config, PlanOptions(gpu="here"))["memory"]
        assert planned["tokens at once"] == {"in a forward pass": chosen.policy.lm.microbatch_tokens}
        lines = {line.subject: line for line in diagnostics._run_check("models", diagnostics.CHECKS["models"], config)}
        assert lines["batches"].status == status
        if status == "found":
            assert f"{chosen.policy.lm.microbatch_tokens:,} tokens in a forward pass" in lines["batches"].detail
            assert 256 < chosen.policy.lm.microbatch_tokens < 16384
            assert Components.make(config).policy._settings == chosen.policy.lm
        else:
            with pytest.raises(ConfigError, match=r'policy\.lm\.model "tiny" takes .* 10 MB free: use --policy'):
                Components.make(config)


def test_other_policies_and_engines_and_unknown_models_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory_report, "this_device", lambda name: pytest.fail("looked"))
    verl = toml_files.load("alfworld-verl")
    assert memory_report.fit_to_memory(Config()) == Config() and memory_report.fit_to_memory(verl) is verl
    assert batches(memory_report.fit_to_memory(lm(model="no/such"))) == (2048, 16)


def test_control_groups_limit_the_memory(tmp_path):
    root, own = tmp_path / "cgroup", tmp_path / "own"
    assert cgroup_memory(root, own) == inf
    for folder, text in (("a", "3000\n"), ("a/b", "max\n"), ("memory/c", "2000\n")):
        (root / folder).mkdir(parents=True)
        name = "memory.limit_in_bytes" if "memory" in folder else "memory.max"
        (root / folder / name).write_text(text)
    own.write_text("0::/a/b\n")
    assert cgroup_memory(root, own) == 3000
    own.write_text("3:cpu,cpuacct:/c\n2:memory:/c/gone\n0::/a/b\n")
    assert cgroup_memory(root, own) == 2000
