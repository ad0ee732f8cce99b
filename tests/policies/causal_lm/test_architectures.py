"""Models as they come from elsewhere: other architectures, folders, precisions, attention and memory."""

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from lm_toys import (  # noqa: E402
    SMALL,
    changed,
    decide,
    exact,
    logits,
    policy,
    prompt,
    rows,
    same,
    texts,
    weights,
    write_model,
)

from d2skill.errors import ConfigError  # noqa: E402
from d2skill.policies.causal_lm import loading  # noqa: E402
from d2skill.policies.causal_lm.gradient_checkpointing import checkpointable_layers  # noqa: E402
from d2skill.policies.causal_lm.loss import token_log_probs  # noqa: E402
from d2skill.policies.causal_lm.tiny_model import make_tokenizer  # noqa: E402

KINDS = ["Qwen2", "Qwen3", "Llama"]
IDS = [5, 17, 40, 8, 99]


@pytest.fixture(params=KINDS)
def folder(request, tmp_path):
    return write_model(tmp_path / request.param, request.param)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("answer", ["choice", "free"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_folder_acts_learns_and_loads_in_plain_transformers(tmp_path, kind, answer, tied):
    folder = write_model(tmp_path / "from", kind, tie_word_embeddings=tied)
    p = policy(changed(model=str(folder), answer=answer))
    text = "You see a mug.\n<action>take apple 12</action>"
    assert p.count_tokens(text) == len(make_tokenizer(texts())(text).input_ids)
    prompts, decisions = decide(p, count=4)
    if answer == "choice":
        for a, d in zip(prompts, decisions, strict=True):
            assert sum(d.log_probs) == pytest.approx(exact(p, a)[d.action], abs=1e-4)
    assert p.update(rows(p, copies=2), 0)["policy/ratio_error"] < 1e-4
    p.imitate([(a, a.actions[0]) for a in prompts], 0)
    p.save(tmp_path)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(logits(plain, IDS), logits(p.model, IDS))
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "model").chat_template
    loaded = policy(changed(model=str(folder), answer=answer))
    loaded.load(tmp_path)
    assert same(weights(loaded), weights(p))


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bfloat16_model_acts_and_learns(tmp_path, kind, lora_rank):
    folder = write_model(tmp_path / "from", kind, "bfloat16")
    p = policy(changed(model=str(folder), dtype="bfloat16", lora_rank=lora_rank))
    assert p.model.dtype == torch.bfloat16
    learn, before = rows(p, copies=2), logits(p.model, IDS)
    metrics = p.update(learn, 0)
    # eight bits of mantissa: passes of other shapes differ by some percent, where a wrong mask would by whole factors
    assert metrics["policy/ratio_error"] < 0.1 and metrics["policy/grad_norm"] > 0
    p.save(tmp_path)
    where = tmp_path / ("adapter" if lora_rank else "model")
    plain = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.bfloat16)
    after = logits(p.model, IDS)  # read back, an adapter is rounded to bfloat16
    assert (logits(plain, IDS) - after).abs().max() < 0.3 * (before - after).abs().max()


def test_a_bfloat16_folder_can_be_trained_in_float32(tmp_path):
    p = policy(changed(model=str(write_model(tmp_path, "Qwen3", "bfloat16"))))
    assert p.model.dtype == torch.float32
    assert p.update(rows(p), 0)["policy/ratio_error"] < 1e-4


def test_every_end_of_text_ends_a_free_answer(tmp_path):
    tokenizer = make_tokenizer(texts())
    end, start = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|im_start|>"))
    word = tokenizer("mug").input_ids[0]
    p = policy(changed(model=str(write_model(tmp_path, ends=(start, word))), answer="free"))
    assert p.chat.end_tokens == {end, start, word} and p.chat.end_token == end
    assert all(p.chat.is_complete((7, token)) for token in (end, start, word)) and not p.chat.is_complete((word, 7))
    for d in decide(p, copies=4)[1]:
        assert not set(d.tokens[:-1]) & p.chat.end_tokens
    p.save(tmp_path / "saved")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved" / "model")
    assert plain.generation_config.eos_token_id == [start, word]


# attention


@pytest.mark.parametrize("model", ["tiny", "folder"])
def test_kinds_of_attention_agree(tmp_path, model):
    name = "tiny" if model == "tiny" else str(write_model(tmp_path))
    found = {}
    for kind in ("auto", "sdpa", "eager"):
        p = policy(changed(model=name, attention=kind))
        assert p.model.config._attn_implementation == ("sdpa" if kind == "auto" else kind)
        assert p.update(rows(p), 0)["policy/ratio_error"] < 1e-4
        found[kind] = logits(p.model, IDS)
    assert torch.equal(found["auto"], found["sdpa"])
    assert torch.allclose(found["sdpa"], found["eager"], atol=1e-3)


def test_flash_attention_is_taken_where_it_can_be(monkeypatch):
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    flash = changed(attention="flash_attention_2", dtype="bfloat16")
    for settings, device, there, message in (
        (flash, cpu, True, "a GPU"),
        (changed(flash, dtype="float32"), gpu, True, "bfloat16"),
        (flash, gpu, False, "flash-attn"),
    ):
        monkeypatch.setattr(loading, "is_flash_attn_2_available", lambda there=there: there)
        with pytest.raises(ConfigError, match=f"which needs .*{message}.*: use auto"):
            loading.attention_kinds(settings, device)
        assert loading.attention_kinds(changed(settings, attention="auto"), device) == (None,)
    monkeypatch.setattr(loading, "is_flash_attn_2_available", lambda: True)
    assert loading.attention_kinds(flash, gpu) == ("flash_attention_2",)
    assert loading.attention_kinds(changed(flash, attention="auto"), gpu) == ("flash_attention_2", None)


def test_attention_that_a_model_has_not_is_left_or_refused(tmp_path, monkeypatch):
    folder = str(write_model(tmp_path))
    model = loading.load_model(folder, "float32", ("flash_attention_2", None))
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(ConfigError, match="flash_attention_2"):
        policy(changed(model=folder, attention="flash_attention_2"))
    monkeypatch.setattr(transformers.Qwen2ForCausalLM, "_supports_sdpa", False)
    with pytest.raises(ConfigError, match='no attention of the kind "sdpa": use auto'):
        policy(changed(model=folder, attention="sdpa"))


# memory


@pytest.mark.parametrize("answer", ["choice", "free"])
@pytest.mark.parametrize("values", [{}, {"lora_rank": 4}, {"dtype": "bfloat16"}])
def test_layers_computed_again_give_the_same_gradients(folder, answer, values):
    settings = changed(model=str(folder), answer=answer, **values)
    plain, again = policy(settings), policy(changed(settings, gradient_checkpointing=True))
    for p in (plain, again):
        p.imitate([(prompt(i), prompt(i).actions[0]) for i in range(4)], 0)
        p.freeze_reference()
    items = [item for row in rows(plain, copies=3) if (item := plain._example(row))]
    first, second = plain._backward(items, 10), again._backward(items, 10)
    assert torch.allclose(first[0], second[0]) and first[1] == pytest.approx(second[1], abs=1e-6)
    for (name, one), other in zip(plain.model.named_parameters(), again.model.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            assert torch.allclose(one.grad, other.grad, rtol=1e-5, atol=1e-6 * float(one.grad.abs().max())), name


def test_layers_computed_again_leave_less_behind_and_the_model_as_it_was():
    def kept(p):
        items = [item for row in rows(p, copies=3) if (item := p._example(row))]
        sizes = {}

        def pack(tensor):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), p._checkpointing(p.model):
            token_log_probs(p.model, items, 1.0)
        return sum(sizes.values())

    again = policy(changed(layers=6, gradient_checkpointing=True))
    assert kept(again) < kept(policy(changed(layers=6))) / 2
    assert all("forward" not in vars(layer) for layer in checkpointable_layers(again.model))


def test_checkpointable_layers_another_kind_cannot_be_computed_again(monkeypatch):
    p = policy(changed(gradient_checkpointing=True))
    assert len(checkpointable_layers(p.model)) == SMALL.layers
    with pytest.raises(ConfigError, match="turn it off"):
        checkpointable_layers(torch.nn.Linear(2, 2))


# what is not available


def test_a_model_that_is_nowhere_is_said_without_a_network(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"is neither a folder nor a model on the hub: check its name, the network"):
        policy(changed(model="nobody-there/no-such-model-7b"))


def test_a_model_without_a_chat_template_is_refused(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template: use an instruction-tuned model"):
        policy(changed(model=str(folder)))


def test_a_context_that_is_too_short_is_refused_before_the_weights_are_read(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 256}))
    (folder / "model.safetensors").unlink()
    settings = changed(model=str(folder))
    with pytest.raises(ConfigError, match=r"reads 256 tokens, too few .* lower prompt\.max_tokens or policy"):
        policy(settings, prompt_tokens=250)
    with pytest.raises(ConfigError, match=r"an answer of 250: lower policy\.lm\.max_new_tokens, or"):
        policy(changed(settings, max_new_tokens=250), prompt_tokens=100)


def test_a_context_that_is_long_enough_is_taken(folder):
    p = policy(changed(model=str(folder)), prompt_tokens=2048 - SMALL.max_new_tokens)
    with pytest.raises(ConfigError, match="reads 2048"):
        policy(changed(model=str(folder)), prompt_tokens=2049 - SMALL.max_new_tokens)
    with pytest.raises(ConfigError, match="reads 32768"):
        policy(prompt_tokens=40000)
    assert p.update(rows(p), 0)["policy/ratio_error"] < 1e-4
