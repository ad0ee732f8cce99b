import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from lm_toys import OPTIM, WARM, changed, decide, exact, logits, policy, prompt, rows, write_model  # noqa: E402

from d2skill.errors import ConfigError, RunError  # noqa: E402
from d2skill.policies import tuning  # noqa: E402
from d2skill.policies.torch_loss import token_log_probs  # noqa: E402
from d2skill.types import Row  # noqa: E402

LORA = changed(lora_rank=4, lora_alpha=8)
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
    p._backward([item for row in rows(p) if (item := p._item(row))], 10)
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
    with p.tuning.reference() as model:
        assert torch.equal(logits(model, IDS), kept)
    assert not torch.equal(logits(p.model, IDS), kept)
    assert all(weight.requires_grad == (".default." in name) for name, weight in p.model.named_parameters())
    items = [item for row in rows(p) if (item := p._item(row))]
    assert token_log_probs(p.model, items, 1.0)[0].requires_grad


def test_a_later_reference_takes_the_place_of_the_first():
    p = imitated(policy(LORA))
    p.freeze_reference()
    p.update(rows(p), 0)
    p.freeze_reference()
    with p.tuning.reference() as model:
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

    monkeypatch.setattr(tuning, "import_module", missing)
    with pytest.raises(ConfigError, match="needs the package peft"):
        policy(LORA)


def test_an_adapter_is_no_model(tmp_path):
    policy(LORA).save(tmp_path)
    with pytest.raises(ConfigError, match="is an adapter: name the model"):
        policy(changed(model=str(tmp_path / "adapter")))
