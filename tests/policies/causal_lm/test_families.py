"""Families of models: acting and learning give what a plain forward pass over the single sequence gives."""

import logging

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from families import ATTENTION, MULTIMODAL, STATES, make_config, make_model  # noqa: E402
from lm_toys import OPTIM, changed, decide, logits, policy, rows, texts, weights  # noqa: E402

from d2skill.errors import ConfigError  # noqa: E402
from d2skill.policies.causal_lm.architectures import (  # noqa: E402
    PATHS,
    execution_path,
    likely_paths,
    model_class,
    set_path,
)
from d2skill.policies.causal_lm.execution_check import choose_path, measure_errors  # noqa: E402
from d2skill.policies.causal_lm.gradient_checkpointing import checkpointable_layers  # noqa: E402
from d2skill.policies.causal_lm.loading import context_length, describe_model  # noqa: E402
from d2skill.policies.causal_lm.tiny_model import make_tokenizer  # noqa: E402

NAMED = ("Qwen3_5Text", "Qwen3Next", "Lfm2", "FalconH1", "GraniteMoeHybrid", "Mamba", "Zamba2", "Rwkv")
FAST = (*NAMED, *MULTIMODAL, "Qwen3", "Gemma3Text", "Gemma3nText", "Gemma4Text", "Bloom", "GptOss")
ALL = [
    pytest.param(kind, marks=() if kind in FAST else pytest.mark.slow) for kind in (*ATTENTION, *STATES, *MULTIMODAL)
]
OTHER_PATHS = {"Bloom": "cached", "Zamba2": "recomputed", "RecurrentGemma": "recomputed", "Rwkv": "recomputed"}
"""Paths of families that cannot be computed on the usual one of their kind."""


def folder_of(kind, folder):
    """Saves a tiny model with a vocabulary and a template that fit the world of the tests."""
    tokenizer = make_tokenizer(texts())
    model = make_model(kind, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ALL)
def test_log_probabilities_are_those_of_plain_passes(kind):
    model = make_model(kind)
    if not any("expert" in name for name, _ in model.named_modules()):
        model.double()  # sharp random models round much: this shows that it is only that
    expected = OTHER_PATHS.get(kind, "batched" if kind in ATTENTION or kind == "Gemma3" else "cached")
    assert choose_path(model, kind) == expected == execution_path(model)
    limit = 3e-6 if model.dtype == torch.float64 and not kind.startswith("Qwen3_5") else 2e-4
    assert max(measure_errors(model, 8)) < limit
    # a wrong state or mask would show: the first token changes what comes at the end
    one = list(range(60, 80))
    last = [logits(model, ids)[0, -1].log_softmax(-1) for ids in (one, [100, *one[1:]])]
    assert (last[0] - last[1]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["Qwen3", "Gemma3Text"])
def test_slow_paths_are_right_for_plain_attention_too(kind):
    model = make_model(kind)
    for path in PATHS:
        set_path(model, path)
        assert max(measure_errors(model)) < 5e-5


@pytest.mark.parametrize("answer", ["choice", "free"])
@pytest.mark.parametrize(
    "kind",
    [
        "Qwen3_5Text",
        "Lfm2",
        "Gemma3nText",
        "Gemma3",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in (*NAMED[1:2], *NAMED[3:], "Qwen3_5", "Gemma4Text", "Bloom")
        ),
    ],
)
def test_such_models_act_learn_and_come_back(tmp_path, kind, answer):
    settings = changed(model=str(folder_of(kind, tmp_path / "from")), answer=answer)
    p = policy(settings)
    metrics = p.update(rows(p, count=4, copies=2), 0)
    assert metrics["policy/ratio_error"] < 1e-3 and metrics["policy/grad_norm"] > 0
    prompts = decide(p, count=3)[0]
    p.imitate([(a, a.actions[0]) for a in prompts], 0)
    p.save(tmp_path / "saved")
    loaded = policy(settings)
    loaded.load(tmp_path / "saved")
    after, before = weights(loaded), weights(p)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert execution_path(loaded.model) == execution_path(loaded.fine_tuning._reference)
    assert [d.tokens for d in decide(loaded, count=3)[1]] == [d.tokens for d in decide(p, count=3)[1]]
    assert loaded.update(rows(loaded, count=4), 1)["policy/ratio_error"] < 1e-3
    assert loaded.generate_chat([[{"role": "user", "content": "find the mug"}]], 5)


@pytest.mark.parametrize("kind", ["Qwen3_5Text", "Gemma3"])
def test_their_adapters_load_in_plain_peft(tmp_path, kind):
    peft = pytest.importorskip("peft")
    folder = folder_of(kind, tmp_path / "from")
    p = policy(changed(model=str(folder), lora_rank=4, lora_targets="q_proj,v_proj"))
    assert p.update(rows(p, count=4), 0)["policy/ratio_error"] < 1e-4
    p.save(tmp_path / "saved")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    plain = peft.PeftModel.from_pretrained(plain, tmp_path / "saved" / "adapter").eval()
    ids = [5, 17, 40, 8, 99]
    assert torch.allclose(logits(plain, ids), logits(p.model, ids), atol=1e-5)


def test_a_model_that_is_slow_says_so_and_is_not_checkpointed(tmp_path, caplog):
    folder = folder_of("Lfm2", tmp_path)
    with caplog.at_level(logging.WARNING):
        policy(changed(model=str(folder)))
    assert "prompts are read one by one" in caplog.text and "Lfm2ForCausalLM" in caplog.text
    with pytest.raises(ConfigError, match="gradient_checkpointing does not work with the layers of a Lfm2"):
        policy(changed(model=str(folder), gradient_checkpointing=True))
    assert "read one by one" in describe_model(str(folder))


def test_properties_are_those_of_the_text_of_a_model_with_images():
    config = make_config("Gemma3")
    assert context_length(config) == (512 - 1) // 2
    assert likely_paths(model_class("g", config), config) == PATHS
    assert len(checkpointable_layers(make_model("Gemma3"))) == 4


@pytest.mark.parametrize("kind", ["Gemma3", "Gemma3nText"])
def test_layers_computed_again_give_the_same_gradients(tmp_path, kind):
    settings = changed(model=str(folder_of(kind, tmp_path)))
    found = []
    for on in (False, True):
        p = policy(changed(settings, gradient_checkpointing=on), OPTIM.model_copy(update={"kl": 0}))
        items = [item for row in rows(p, copies=2) if (item := p._example(row))]
        p._backward(items, len(items))
        found.append({name: w.grad for name, w in p.model.named_parameters() if w.grad is not None})
    assert found[0].keys() == found[1].keys() and found[0]
    for name, one in found[0].items():
        assert torch.allclose(one, found[1][name], rtol=1e-4, atol=1e-5 * float(one.abs().max())), name


def test_chunks_of_attention_limit_the_context_as_windows_do():
    text = transformers.Llama4TextConfig(num_hidden_layers=4, attention_chunk_size=64, max_position_embeddings=4096)
    assert "chunked_attention" in text.layer_types and context_length(text) == 31


def test_a_model_that_cannot_be_played_is_refused_with_the_reason(monkeypatch):
    model = make_model("Qwen3")
    monkeypatch.setattr("d2skill.policies.causal_lm.execution_check.measure_errors", lambda _: (0.5, 0.0))
    with pytest.raises(ConfigError, match=r'"some" is a Qwen3ForCausalLM, which cannot be played here \(log-prob'):
        choose_path(model, "some")

    def broken(_):
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr("d2skill.policies.causal_lm.execution_check.measure_errors", broken)
    with pytest.raises(ConfigError, match=r"\(RuntimeError: no kernel\): use a model of another family"):
        choose_path(model, "some")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transformers.T5Config(), "is of the type t5, which Transformers does not have as a causal language model"),
        (transformers.BartConfig(), "is of the type bart"),
        (transformers.CLIPVisionConfig(), "is of the type clip_vision_model"),
        (transformers.Qwen2Config(quantization_config={"quant_method": "awq", "bits": 4}), r"weights \(awq\)"),
        (transformers.Qwen2Config(quantization_config={"quant_method": "gptq", "bits": 4}), r"weights \(gptq\)"),
        (
            transformers.Qwen2Config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
            r"weights \(bitsandbytes\), which cannot be trained here: name the model in full precision",
        ),
    ],
)
def test_models_of_other_kinds_are_refused_by_their_configuration(tmp_path, config, reason):
    config.save_pretrained(tmp_path)
    for ask in (describe_model, lambda name: policy(changed(model=name), OPTIM)):
        with pytest.raises(ConfigError, match=reason):
            ask(str(tmp_path))
