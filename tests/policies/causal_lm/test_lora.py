import json
import shutil

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from lm_toys import OPTIM, WARM, changed, decide, exact, logits, policy, prompt, rows, write_model  # noqa: E402

from d2skill.cli.main import main  # noqa: E402
from d2skill.errors import ConfigError, RunError  # noqa: E402
from d2skill.policies.causal_lm import fine_tuning, lora  # noqa: E402
from d2skill.policies.causal_lm.loss import token_log_probs  # noqa: E402
from d2skill.types import Row  # noqa: E402

LORA = changed(lora_rank=4, lora_alpha=8)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = [5, 17, 40, 8, 99]


def split(p):
    """The weights of the model and those of adapters."""
    every = {name: value.clone() for name, value in p.model.state_dict().items()}
    adapter = {name: value for name, value in every.items() if "lora_" in name}
    return {name: value for name, value in every.items() if name not in adapter}, adapter


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def imitated(p, times=1):
    for seed in range(times):
        p.imitate([(prompt(i), prompt(i).actions[0]) for i in range(8)], seed)
    return p


def test_only_the_adapter_trains():
    p = policy(LORA)
    trained = [(name, weight) for name, weight in p.model.named_parameters() if weight.requires_grad]
    assert all("lora_" in name for name, _ in trained)
    # 4 linear layers of 32 x 32 in attention, 3 of 32 x 96 in the MLP, in each of 2 layers
    assert sum(weight.numel() for _, weight in trained) == 2 * 4 * (4 * (32 + 32) + 3 * (32 + 96))
    base, adapter = split(p)
    p._backward([item for row in rows(p) if (item := p._example(row))], 10)
    for name, weight in p.model.named_parameters():
        assert (weight.grad is not None) == ("lora_" in name)
    p.model.zero_grad()
    p.update(rows(p), 0)
    assert same(split(p)[0], base) and not same(split(p)[1], adapter)


def test_names_of_layers_choose_what_gets_an_adapter():
    p = policy(changed(LORA, lora_targets="q_proj, v_proj"))
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in split(p)[1]}
    assert layers == {"q_proj", "v_proj"}


def test_a_fresh_adapter_answers_as_the_model_does_and_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    plain, p = policy(), policy(LORA)
    assert torch.equal(before, torch.random.get_rng_state())
    for one, other in zip(decide(plain)[1], decide(p)[1], strict=True):
        assert one.action == other.action and one.log_probs == pytest.approx(other.log_probs, abs=1e-6)
    assert same(split(p)[1], split(policy(LORA))[1]) and not same(split(p)[1], split(policy(LORA, seed=1))[1])


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_step_starts_at_the_reference(warm, dtype):
    p = policy(changed(LORA, dtype=dtype), OPTIM.model_copy(update={"minibatch_rows": 512}))
    if warm:
        imitated(p)
    p.freeze_reference()
    metrics = p.update(rows(p), 0)
    assert metrics["policy/kl"] == pytest.approx(0, abs=1e-6) and metrics["policy/ratio_error"] < (
        1e-4 if dtype == "float32" else 0.1
    )
    again = p.update(rows(p), 0)
    assert again["policy/kl"] > 1e-5


@pytest.mark.parametrize("warm", [False, True])
def test_the_reference_is_the_policy_after_the_warm_start_and_stays(warm):
    p = policy(LORA)
    if warm:
        imitated(p)
    kept = logits(p.model, IDS)
    copies = len(list(p.model.parameters()))
    p.freeze_reference()
    # nothing is copied before there is something in the adapter, and then only the adapter is
    assert (len(list(p.model.parameters())) > copies) == warm
    for seed in range(3):
        p.update(rows(p, start=100 * seed), seed)
    with p.fine_tuning.reference() as model:
        assert torch.equal(logits(model, IDS), kept)
    assert not torch.equal(logits(p.model, IDS), kept)
    assert all(weight.requires_grad == (".default." in name) for name, weight in p.model.named_parameters())
    items = [item for row in rows(p) if (item := p._example(row))]
    assert token_log_probs(p.model, items, 1.0)[0].requires_grad


def test_a_later_reference_takes_the_place_of_the_first():
    p = imitated(policy(LORA))
    p.freeze_reference()
    p.update(rows(p), 0)
    p.freeze_reference()
    with p.fine_tuning.reference() as model:
        kept = logits(model, IDS)
    assert torch.equal(kept, logits(p.model, IDS))


def test_advantages_move_an_adapter_and_the_reference_holds_it():
    a = prompt(3)

    def after(kl):
        p = policy(LORA, OPTIM.model_copy(update={"kl": kl, "minibatch_rows": 64, "learning_rate": 1e-2}))
        p.freeze_reference()
        before = exact(p, a)
        good = max(before, key=before.__getitem__)
        for step in range(5):
            drawn = p.act([a] * 32, range(100 * step, 100 * step + 32), 1.0)
            p.update([Row(a, d, 1.0 if d.action == good else -1.0) for d in drawn], step)
        return exact(p, a)[good] - before[good]

    free, held = after(0.0), after(50.0)
    assert free > 0.3 and held < free / 2


def test_an_adapter_learns_to_copy():
    p = policy(changed(LORA, lora_rank=8), warm=WARM.model_copy(update={"learning_rate": 2e-2}))
    learn = [(prompt(i), prompt(i).actions[-1]) for i in range(12)]
    for seed in range(25):
        metrics = p.imitate(learn, seed)
    assert metrics["warm_start/accuracy"] == 1.0


# files


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loaded_adapter_goes_on_bit_for_bit(tmp_path, dtype, warm):
    settings = changed(LORA, dtype=dtype)
    p = imitated(policy(settings)) if warm else policy(settings)
    p.freeze_reference()
    p.update(rows(p), 0)
    p.save(tmp_path)
    loaded = imitated(policy(settings, seed=5))
    loaded.freeze_reference()
    loaded.load(tmp_path)
    for part, other in zip(split(p), split(loaded), strict=True):
        assert same(part, other)
    learn = rows(p, start=50)
    assert learn == rows(loaded, start=50)
    assert p.update(learn, 1) == loaded.update(learn, 1)
    for part, other in zip(split(p), split(loaded), strict=True):
        assert same(part, other)
    state = (tmp_path / "optimiser.safetensors").stat().st_size
    assert state < 3 * 4 * sum(value.numel() for value in split(p)[1].values()) + 20_000


@pytest.mark.parametrize("warm", [False, True])
def test_a_saved_adapter_loads_in_plain_peft_and_transformers(tmp_path, warm):
    folder = write_model(tmp_path / "base", "Llama")
    p = policy(changed(LORA, model=str(folder)))
    if warm:
        imitated(p)
    p.freeze_reference()
    p.update(rows(p), 0)
    p.save(tmp_path)
    ours, adapter = logits(p.model, IDS), tmp_path / "adapter"
    assert not torch.equal(ours, logits(policy(changed(model=str(folder))).model, IDS))
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(logits(peft.PeftModel.from_pretrained(base, adapter), IDS), ours, atol=1e-5)
    assert torch.allclose(logits(transformers.AutoModelForCausalLM.from_pretrained(adapter), IDS), ours, atol=1e-5)
    assert transformers.AutoTokenizer.from_pretrained(adapter).chat_template
    assert not (tmp_path / "model").exists()


def test_the_tiny_model_is_saved_beside_its_adapter(tmp_path):
    p = policy(LORA)
    p.update(rows(p), 0)
    p.save(tmp_path)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert torch.equal(logits(base, IDS), logits(policy().model, IDS))
    both = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.allclose(logits(both, IDS), logits(p.model, IDS), atol=1e-5)


def test_an_adapter_for_another_model_is_refused(tmp_path):
    one, other = (write_model(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    p = policy(changed(LORA, model=str(one)))
    p.save(tmp_path)
    policy(changed(LORA, model=str(one), dtype="bfloat16")).load(tmp_path)
    wrong = policy(changed(LORA, model=str(other)))
    before = split(wrong)[1]
    with pytest.raises(RunError, match=r"adapter for the model .*0\" .* set policy.lm.model to that one"):
        wrong.load(tmp_path)
    assert same(split(wrong)[1], before)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_rank": 2}, "set policy.lm.lora_rank, which is 2, to 4"),
        ({"lora_alpha": 9}, "set policy.lm.lora_alpha, which is 9, to 8"),
        ({"lora_targets": "q_proj"}, "set policy.lm.lora_targets, which is q_proj, to all-linear"),
        ({"lora_rank": 0}, "set policy.lm.lora_rank, which is 0, to 4"),
    ],
)
def test_an_adapter_of_another_form_is_refused(tmp_path, values, message):
    policy(LORA).save(tmp_path)
    with pytest.raises(RunError, match=message):
        policy(changed(LORA, **values)).load(tmp_path)


def test_a_model_in_full_is_no_adapter(tmp_path):
    policy().save(tmp_path)
    with pytest.raises(RunError, match=r"set policy\.lm\.lora_rank to 0"):
        policy(LORA).load(tmp_path)


def test_a_broken_adapter_is_refused(tmp_path):
    policy(LORA).save(tmp_path)
    meta = json.loads((tmp_path / "policy.json").read_text())
    del meta["lora"]["lora_rank"]
    (tmp_path / "policy.json").write_text(json.dumps(meta))
    with pytest.raises(RunError, match="damaged"):
        policy(LORA).load(tmp_path)
    policy(LORA).save(tmp_path)
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(RunError, match="damaged"):
        policy(LORA).load(tmp_path)


def test_layers_that_are_not_there_and_a_missing_package_are_said_at_once(monkeypatch):
    with pytest.raises(ConfigError, match=r"all-linear, or some of .*q_proj"):
        policy(changed(LORA, lora_targets="query"))

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(lora, "import_module", missing)
    with pytest.raises(ConfigError, match="needs the package peft"):
        policy(LORA)


# models that are named by an adapter


def write_adapter(folder, base, **settings):
    """Saves an adapter as peft does; returns what the model with it says of IDS."""
    config = peft.LoraConfig(
        **{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | settings
    )
    adapted = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.data += 0.1 * torch.randn(weight.shape)
    adapted.save_pretrained(folder)
    return logits(adapted.eval(), IDS)


@pytest.fixture
def base(tmp_path):
    return write_model(tmp_path / "model", "Llama")


@pytest.fixture
def adapter(tmp_path, base):
    write_adapter(tmp_path / "given", base)
    return tmp_path / "given"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Qwen2", {}),
        ("Llama", {"target_modules": ["q_proj", "down_proj"], "r": 3, "layers_to_transform": [1]}),
        ("Llama", {"use_rslora": True, "bias": "lora_only"}),
        ("Llama", {"use_dora": True}),
        ("Llama", {"init_lora_weights": "olora"}),
        ("Llama", {"modules_to_save": ["lm_head"], "rank_pattern": {"q_proj": 2}}),
    ],
)
def test_an_adapter_is_merged_and_all_weights_train(tmp_path, kind, settings):
    folder = write_model(tmp_path / "model", kind)
    wanted = write_adapter(tmp_path / "given", folder, **settings)
    plain = policy(changed(model=str(folder)))
    assert (logits(plain.model, IDS) - wanted).abs().max() > 1e-2
    state = torch.random.get_rng_state()
    p = policy(changed(model=str(tmp_path / "given")))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.allclose(logits(p.model, IDS), wanted, atol=1e-5)
    before, adapters = split(p)
    assert not adapters and before.keys() == split(plain)[0].keys()
    p.update(rows(p), 0)
    assert all(weight.requires_grad for weight in p.model.parameters())
    assert not any(torch.equal(weight, before[name]) for name, weight in p.model.named_parameters() if "proj" in name)


def test_merging_is_in_float32_and_rounds_once(tmp_path, adapter):
    whole = policy(changed(model=str(adapter)))
    p = policy(changed(model=str(adapter), dtype="bfloat16"))
    wanted = {name: weight.to(torch.bfloat16) for name, weight in split(whole)[0].items()}
    assert same(split(p)[0], wanted)
    assert all(one.dtype == torch.float32 for name, one in p.model.named_buffers() if "inv_freq" in name)
    assert p.model.config.dtype == torch.bfloat16


def test_a_run_with_a_merged_adapter_goes_on_without_it(tmp_path, adapter):
    settings = changed(model=str(adapter))
    p = policy(settings)
    p.freeze_reference()
    start = logits(p.model, IDS)
    p.update(rows(p), 0)
    p.save(tmp_path / "saved")
    loaded = policy(settings)
    loaded.load(tmp_path / "saved")
    assert same(split(p)[0], split(loaded)[0])
    with loaded.fine_tuning.reference() as model:
        assert torch.equal(logits(model, IDS), start)
    on = policy(changed(model=str(tmp_path / "saved" / "model")))
    assert same(split(p)[0], split(on)[0])


@pytest.mark.parametrize("targets", ["all-linear", "q_proj,down_proj"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_goes_on_training_and_is_held_to_its_start(tmp_path, base, dtype, targets):
    names = targets if targets == "all-linear" else targets.split(",")
    wanted = write_adapter(tmp_path / "given", base, target_modules=names, lora_dropout=0.3)
    settings = changed(LORA, model=str(tmp_path / "given"), dtype=dtype, lora_targets=targets)
    p = policy(settings, OPTIM.model_copy(update={"minibatch_rows": 512}))
    start = logits(p.model, IDS)
    assert torch.allclose(start, wanted, atol=1e-5 if dtype == "float32" else 0.2)
    # the file, the reference and its own base are known to the bit
    tensors = peft.utils.load_peft_weights(str(tmp_path / "given"), device="cpu")
    assert same(p.fine_tuning._weights("default"), tensors)
    assert p.fine_tuning._fingerprint == fine_tuning.fingerprint(policy(changed(model=str(base), dtype=dtype)).model)
    p.freeze_reference()
    assert p.update(rows(p), 0)["policy/kl"] == pytest.approx(0, abs=1e-6)
    assert p.update(rows(p), 1)["policy/kl"] > 1e-5
    assert all(weight.requires_grad == (".default." in name) for name, weight in p.model.named_parameters())
    with p.fine_tuning.reference() as model:
        assert torch.equal(logits(model, IDS), start)


def test_a_run_from_an_adapter_goes_on_bit_for_bit_and_hands_its_own_on(tmp_path, base, adapter):
    settings = changed(LORA, model=str(adapter))
    p = policy(settings)
    p.freeze_reference()
    p.update(rows(p), 0)
    p.save(tmp_path / "saved")
    loaded = policy(settings)
    loaded.load(tmp_path / "saved")
    learn = rows(p, start=50)
    assert learn == rows(loaded, start=50) and p.update(learn, 1) == loaded.update(learn, 1)
    for part, other in zip(split(p), split(loaded), strict=True):
        assert same(part, other)
    assert not (tmp_path / "saved" / "base").exists()
    p.save(tmp_path / "handed")
    given = tmp_path / "handed" / "adapter"
    assert json.loads((given / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    on = policy(changed(LORA, model=str(given)))
    assert torch.equal(logits(on.model, IDS), logits(p.model, IDS))
    for other in (policy(changed(LORA, model=str(base))), on):  # all are for one base
        other.load(tmp_path / "saved")


@pytest.mark.parametrize("rank", [0, 4])
def test_an_adapter_of_the_tiny_model_finds_it_beside_itself(tmp_path, rank):
    p = imitated(policy(LORA))
    p.save(tmp_path / "saved")
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    settings = changed(LORA, model=str(tmp_path / "moved" / "adapter"), lora_rank=rank)
    on = policy(settings)
    assert torch.allclose(logits(on.model, IDS), logits(p.model, IDS), atol=1e-5)
    assert [one.action for one in decide(on)[1]] == [one.action for one in decide(p)[1]]
    on.update(rows(on), 0)
    on.save(tmp_path / "on")
    loaded = policy(settings)
    loaded.load(tmp_path / "on")
    assert all(same(*parts) for parts in zip(split(on), split(loaded), strict=True))
    if rank:  # the new adapter names the model that the old one had beside it
        third = policy(changed(settings, model=str(tmp_path / "on" / "adapter")))
        assert torch.equal(logits(third.model, IDS), logits(on.model, IDS))


@pytest.mark.parametrize(
    ("made", "values", "message"),
    [
        ({}, {"lora_rank": 2}, "set policy.lm.lora_rank, which is 2, to 4, or"),
        ({}, {"lora_alpha": 9}, "set policy.lm.lora_alpha, which is 9, to 8, or"),
        (
            {"target_modules": ["q_proj", "v_proj"]},
            {},
            "set policy.lm.lora_targets, which is all-linear, to q_proj,v_proj, or",
        ),
        (
            {"target_modules": ["q_proj", "v_proj"]},
            {"lora_targets": "v_proj"},
            "set policy.lm.lora_targets, which is v_proj, to q_proj,v_proj, or",
        ),
        (
            {"layers_to_transform": [0], "target_modules": LINEAR},
            {},
            "adapter of only some of the layers .* set policy.lm.lora_rank to 0",
        ),
        (
            {"use_rslora": True},
            {},
            "adapter with use_rslora, which cannot be trained further: set policy.lm.lora_rank to 0",
        ),
        ({"use_dora": True, "bias": "all"}, {}, "adapter with bias and use_dora, which cannot be trained further"),
        ({"rank_pattern": {"q_proj": 2}}, {}, "adapter with rank_pattern, which"),
        ({"init_lora_weights": "olora"}, {}, "adapter with init_lora_weights, which"),
    ],
)
def test_an_adapter_goes_on_only_in_its_own_form(tmp_path, base, made, values, message):
    write_adapter(tmp_path / "given", base, **made)
    with pytest.raises(ConfigError, match=message):
        policy(changed(LORA, model=str(tmp_path / "given"), **values))


def reword(folder, **values):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peft_type": "IA3"}, "adapter of the kind IA3 and not LORA: merge it"),
        ({"base_model_name_or_path": None}, "does not name its model: set base_model_name_or_path"),
        (
            {"base_model_name_or_path": "/no/such"},
            'is an adapter for "/no/such", which is neither a folder nor a model on the hub',
        ),
        ({"base_model_name_or_path": "here"}, "which is an adapter itself"),
        ({"layers_pattern": "layers"}, "adapter_config.json cannot be read .*: save the adapter again"),
    ],
)
def test_an_adapter_that_is_no_use_is_refused(monkeypatch, adapter, rank, values, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    reword(adapter, **{name: str(adapter) if value == "here" else value for name, value in values.items()})
    with pytest.raises(ConfigError, match=message):
        policy(changed(LORA, model=str(adapter), lora_rank=rank))


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("Llama", {"hidden_size": 48}),
        ("Llama", {"num_hidden_layers": 1}),
        ("Llama", {"num_hidden_layers": 3}),
        ("Qwen2", {"num_attention_heads": 2}),
    ],
)
def test_an_adapter_does_not_go_with_another_model(tmp_path, base, rank, kind, extra):
    adapter = tmp_path / "given"
    write_adapter(adapter, base, target_modules=["q_proj", "down_proj"])
    other = write_model(tmp_path / "other", kind, **extra)
    reword(adapter, base_model_name_or_path=str(other))
    message = "does not fit the model .*other.* correct base_model_name_or_path"
    if rank and extra.get("num_hidden_layers") == 3:
        message = "of only some of the layers"
    with pytest.raises(ConfigError, match=message):
        policy(changed(LORA, model=str(adapter), lora_rank=rank, lora_targets="q_proj,down_proj"))


@pytest.mark.parametrize("rank", [0, 4])
def test_an_adapter_without_sound_weights_is_refused(adapter, rank):
    settings = changed(LORA, model=str(adapter), lora_rank=rank)
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(b"no")
    with pytest.raises(ConfigError, match=r"weights of policy\.lm\.model .* cannot be read"):
        policy(settings)
    file.unlink()
    with pytest.raises(ConfigError, match=r"has no adapter_model\.safetensors"):
        policy(settings)
    (adapter / "adapter_config.json").write_text("[]")
    with pytest.raises(ConfigError, match="is no configuration of peft"):
        policy(settings)


def test_a_head_that_is_the_embeddings_too_cannot_be_merged(tmp_path):
    folder = write_model(tmp_path / "model", "Qwen2", tie_word_embeddings=True)
    write_adapter(tmp_path / "given", folder, target_modules=["q_proj", "lm_head"])
    with pytest.raises(ConfigError, match="one matrix there, so that it cannot be merged"):
        policy(changed(model=str(tmp_path / "given")))
    write_adapter(tmp_path / "without", folder, target_modules=["q_proj"])
    policy(changed(model=str(tmp_path / "without")))


def test_merging_needs_peft(monkeypatch, adapter):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(lora, "import_module", missing)
    with pytest.raises(ConfigError, match=r"given\", which is an adapter, needs the package peft: pip install"):
        policy(changed(model=str(adapter)))


def test_a_plan_reads_the_shape_of_the_model_that_an_adapter_is_for(capsys, base, adapter):
    def plan(model, *more):
        main(["plan", "--policy", "causal-lm", "--policy.lm.model", str(model), "--gpu", "cpu", "--json", *more])
        return json.loads(capsys.readouterr().out)

    own, of_base = plan(adapter), plan(base)
    assert own["model"]["name"] == str(adapter) and own["model"]["from"] == str(base / "config.json")
    assert own["model"]["parameters"] == of_base["model"]["parameters"] and own["memory"] == of_base["memory"]
    flags = ["--policy.lm.lora-rank", "4", "--warm-start.tasks", "0"]
    own, of_base = (plan(model, *flags)["memory"]["always"] for model in (adapter, base))
    assert own.pop("reference") > of_base.pop("reference") == 0 and own == of_base
