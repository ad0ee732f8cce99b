from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from d2skill.config import Config
from d2skill.config.cli_flags import parse_settings
from d2skill.config.toml_files import dump, explain, load, parse, presets
from d2skill.errors import ConfigError

# The published settings (arXiv 2603.28716): setting, ALFWorld, WebShop
PUBLISHED = [
    ("rollout.tasks", 16, 16),
    ("rollout.group_size", 8, 8),
    ("rollout.with_skills", 4, 4),
    ("train.iterations", 160, 160),
    ("env.max_steps", 50, 15),
    ("prompt.history", 2, 2),
    ("prompt.max_tokens", 4096, 4096),
    ("policy.lm.max_new_tokens", 512, 512),
    ("optim.learning_rate", 1e-6, 1e-6),
    ("optim.clip", 0.2, 0.2),
    ("optim.kl", 0.01, 0.01),
    ("optim.minibatch_rows", 128, 128),
    ("rollout.temperature", 1.0, 1.0),
    ("validation.temperature", 0.4, 0.4),
    ("reward.success", 10.0, 10.0),
    ("reward.invalid_penalty", 1.0, 1.0),
    ("retrieval.k_task", 3, 1),
    ("retrieval.k_step", 3, 1),
    ("retrieval.candidates", 10, 10),
    ("retrieval.alpha", 0.1, 0.1),
    ("retrieval.eta", 0.05, 0.05),
    ("credit.beta_task", 0.5, 0.5),
    ("credit.beta_step", 0.5, 0.5),
    ("reward.intrinsic", 1.0, 1.0),
    ("bank.task_capacity", 300, 300),
    ("bank.step_capacity", 300, 300),
    ("bank.protect", 10, 10),
    ("reflect.threshold", 0.5, 0.5),
    ("reflect.max_groups", 10, 10),
    ("validation.tasks", 128, 128),
    ("validation.every", 5, 5),
    ("policy.kind", "causal-lm", "causal-lm"),
    ("policy.lm.model", "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
    ("warm_start.tasks", 0, 0),
    ("advantage.normalise", "group", "group"),
]


def value(config: Config, name: str):
    for part in name.split("."):
        config = getattr(config, part)
    return config


@pytest.mark.parametrize(("name", "alfworld", "webshop"), PUBLISHED)
def test_the_paper_presets_have_the_published_numbers(name, alfworld, webshop):
    assert value(load("alfworld-paper"), name) == alfworld
    assert value(load("webshop-paper"), name) == webshop


def test_every_preset_loads_and_says_what_it_is_for():
    found = presets()
    assert {"laptop", "laptop-lm", "grpo", "alfworld-paper", "webshop-paper"} <= set(found)
    for name, said in found.items():
        assert isinstance(load(name), Config)
        assert len(said) > 20 and not said.startswith("#")


def test_the_laptop_preset_is_the_default_and_grpo_differs_in_skills_alone():
    assert load("laptop") == Config()
    assert load("grpo") == Config.model_validate({"rollout": {"with_skills": 0}})


@pytest.mark.parametrize("name", sorted(presets()))
def test_dumped_settings_read_back(name):
    config = load(name)
    assert parse(dump(config), "copy") == config


def test_paths_and_what_is_not_set_read_back():
    config = Config.model_validate({"out": Path("runs/a b"), "env": {"data": "/data"}, "retrieval": {"gate": -0.5}})
    assert parse(dump(config), "copy") == config
    text = dump(Config())
    assert "gate" not in text and "max_env_steps" not in text
    assert parse(text, "copy").retrieval.gate is None


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-9, 1.0), st.integers(0, 10**9), st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_any_values_read_back(rate, seed, kind):
    config = Config.model_validate({"seed": seed, "optim": {"learning_rate": rate}, "env": {"kind": kind}})
    assert parse(dump(config), "copy") == config


def test_a_file_is_read(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("seed = 7\n[optim]\nclip = 0.1\n")
    config = load(str(file))
    assert (config.seed, config.optim.clip, config.optim.kl) == (7, 0.1, Config().optim.kl)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed = ", r"mine\.toml is not valid TOML"),
        ("[optim]\nclipp = 0.1", r"mine\.toml: there is no setting optim\.clipp: did you mean optim\.clip"),
        ("[optim]\nclip = -1", r"mine\.toml: optim\.clip = -1: input should be greater than 0"),
        ("[optim]\nclip = nan", r"mine\.toml: optim\.clip = nan"),
        ("seed = 'x'", r"mine\.toml: seed = 'x': input should be a valid integer"),
        ("optim = 3", r"mine\.toml: optim = 3: input should be"),
        ("[optim]\nclip = -1\nkl = -1", r"optim\.clip = -1.*\(and 1 more\)"),
        ("[policy]\nkind = 'gpt'", r'there is no policy "gpt": set policy\.kind to one of scorer, causal-lm, served'),
        ("[rollout]\nwith_skills = 9", r"rollout\.with_skills is 9, more than rollout\.group_size 8"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(tmp_path, text, told):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        load(str(file))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    assert "pydantic" not in message


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_reward_is_a_finite_number(bad):
    with pytest.raises(ConfigError, match=r"reward\.success"):
        parse(f"[reward]\nsuccess = {bad}", "mine.toml")


def test_a_file_that_is_not_there_or_no_text_is_told_in_words(tmp_path):
    with pytest.raises(ConfigError, match=r'"laptopp" is neither a preset \(.*laptop.*\) nor a TOML file'):
        load("laptopp")
    with pytest.raises(ConfigError, match="is neither a preset"):
        load(str(tmp_path))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path / "binary.toml"))


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen") as caught:
        Config().optim.clip = 0.3
    assert explain(caught.value)


def test_without_flags_it_is_the_laptop_preset():
    """As README's first command has it."""
    assert parse_settings([], "d2skill train") == load("laptop")


def test_without_a_config_the_preset_is_that_of_the_environment():
    webshop, laptop = load("webshop"), load("laptop")
    assert parse_settings(["--env", "webshop"], "d2skill train") == webshop
    assert parse_settings(["--env=houses", "--env.kind=webshop"], "d2skill train") == webshop
    assert parse_settings(["--seed", "0"], "d2skill train") == laptop
    found = parse_settings(["--env", "alfworld"], "d2skill train")
    assert found.env.kind == "alfworld" and found.rollout == laptop.rollout
    named = parse_settings(["--env", "webshop", "--config", "laptop"], "d2skill train")
    assert named.env.kind == "webshop" and named.train == laptop.train != webshop.train
