"""Parameters as real models have them, and shapes read from config.json."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from d2skill.config import CausalLMConfig
from d2skill.errors import ConfigError
from d2skill.planning.model_shapes import KNOWN, find_shape, lora_parameters, parse_shape

SIZES = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


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
    shape = parse_shape(config.to_dict(), "real", "the model")
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.tied is tied
    adapter = lora_parameters(CausalLMConfig(lora_rank=3, lora_targets="all-linear"), shape)
    linear = [part for name, part in model.named_modules() if name.endswith("_proj")]
    assert adapter == sum(3 * (one.in_features + one.out_features) for one in linear)


# parameters in billions, as the model cards and the sizes of the weights say
PUBLISHED = {
    "Qwen/Qwen2.5-7B-Instruct": 7.616,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.544,
    "Qwen/Qwen2.5-0.5B-Instruct": 0.494,
    "Qwen/Qwen2.5-3B-Instruct": 3.09,
    "Qwen/Qwen2.5-14B-Instruct": 14.7,
    "Qwen/Qwen2.5-32B-Instruct": 32.5,
    "Qwen/Qwen2.5-72B-Instruct": 72.7,
    "Qwen/Qwen3-4B-Instruct-2507": 4.02,
    "Qwen/Qwen3-8B": 8.2,
    "Qwen/Qwen3-14B": 14.8,
    "Qwen/Qwen3-32B": 32.8,
    "Qwen/Qwen3-Embedding-0.6B": 0.596,
    "meta-llama/Llama-3.1-8B-Instruct": 8.03,
    "meta-llama/Llama-3.1-70B-Instruct": 70.6,
    "meta-llama/Llama-3.3-70B-Instruct": 70.6,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": 8.03,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": 70.6,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7.616,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": 32.8,
    "mistralai/Mistral-7B-Instruct-v0.3": 7.25,
}


def test_known_models_have_their_published_sizes():
    assert {name: shape.parameters / 1e9 for name, shape in KNOWN.items()} == pytest.approx(PUBLISHED, rel=0.01)
    assert KNOWN["Qwen/Qwen2.5-7B-Instruct"].parameters == 7_615_616_512
    assert KNOWN["meta-llama/Llama-3.3-70B-Instruct"].name == "meta-llama/Llama-3.3-70B-Instruct"


def test_a_shape_is_read_from_a_folder_before_the_table(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", **SIZES, **HEADS}))
    found = find_shape(str(tmp_path))
    assert (found.vocabulary, found.head_size, found.source) == (300, 8, str(tmp_path / "config.json"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert "published" in find_shape("Qwen/Qwen2.5-7B-Instruct").source


@pytest.mark.parametrize(
    "text", ["no json", "[1]", '{"model_type": "mamba"}', '{"model_type": "qwen2", "hidden_size": 4}']
)
def test_a_folder_that_tells_no_shape_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        find_shape(str(tmp_path))
    with pytest.raises(ConfigError, match=r"not known.*such as Qwen/Qwen2.5-7B-Instruct"):
        find_shape("Qwen/Qwen2.5-7B-Base")
