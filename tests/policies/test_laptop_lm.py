"""The path of the big models, walked small: a language model through the whole loop, saved, resumed and read back."""

import json
import shutil

import pytest

from d2skill.cli.main import main
from d2skill.runs.folder import RunFolder

torch = pytest.importorskip("torch", reason="needs d2skill[train]")

SMALL = [
    *("--config", "laptop-lm", "--train.iterations", "2", "--train.checkpoint-every", "1", "--validation.every", "2"),
    *("--rollout.tasks", "2", "--validation.tasks", "4", "--warm-start.tasks", "12", "--warm-start.epochs", "1"),
    *("--env.max-steps", "10", "--policy.lm.hidden-size", "32", "--policy.lm.layers", "1"),
]
# in few chests any policy finds a gem now and then, so there is something to learn
LEARNING = [*SMALL, "--env", "toys:TreasureEnvironment", "--optim.learning-rate", "1e-3", "--seed", "1"]
SHORT = ["--warm-start.tasks", "0", "--train.iterations", "1", "--validation.every", "1", "--validation.tasks", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "lm"
    main(["train", *LEARNING, "--out", str(folder)])
    return folder


def test_a_language_model_goes_through_the_whole_loop(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["validation"]["with_skills"]["n"] == 4
    lines = RunFolder.open(run).read_metrics()
    assert lines[0]["warm_start/demonstrations"] > 0
    for line in lines[1:]:
        assert line["rollout/invalid_actions"] == 0  # held to the admissible actions
        assert line["policy/ratio_error"] < 1e-3 and line["policy/grad_norm"] > 0


def test_its_checkpoint_loads_in_plain_transformers(run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run / "checkpoints" / "000002" / "policy" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer)
    assert sum(weight.numel() for weight in model.parameters()) < 1_000_000


def test_it_trains_on_from_a_folder_in_houses(run, tmp_path):
    model = run / "checkpoints" / "000002" / "policy" / "model"
    main(["train", *SMALL, "--policy.lm.model", str(model), *SHORT, "--out", str(tmp_path / "on")])
    lines = RunFolder.open(tmp_path / "on").read_metrics()
    assert len(lines) == 2 and lines[1]["rollout/invalid_actions"] == 0


def test_resuming_gives_the_same_end(run, tmp_path):
    other = tmp_path / "other"
    main(["train", *LEARNING, "--train.iterations", "1", "--out", str(other)])
    config = (other / "config.toml").read_text()
    (other / "config.toml").write_text(config.replace("iterations = 1\n", "iterations = 2\n"))
    (other / "summary.json").unlink()
    main(["resume", str(other)])

    assert last(other) == last(run)
    one, two = (
        (folder / "checkpoints" / "000002" / "policy" / "model" / "model.safetensors").read_bytes()
        for folder in (run, other)
    )
    assert one == two


def last(folder):
    """Returns what the last iteration of a run measured of its policy and its episodes."""
    line = RunFolder.open(folder).read_metrics()[-1]
    return {name: value for name, value in line.items() if name.startswith(("policy/", "rollout/", "validation/"))}


def test_an_adapter_goes_through_the_whole_loop(tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    run, other = tmp_path / "run", tmp_path / "other"
    adapter = ["--policy.lm.lora-rank", "4"]
    main(["train", *LEARNING, *adapter, "--out", str(run)])
    assert last(run)["policy/ratio_error"] < 1e-3 and last(run)["policy/grad_norm"] > 0

    shutil.copytree(run, other)  # as if it had been stopped after its first iteration
    shutil.rmtree(other / "checkpoints" / "000002")
    (other / "summary.json").unlink()
    main(["resume", str(other)])
    assert last(other) == last(run)
    saved = [folder / "checkpoints" / "000002" / "policy" for folder in (run, other)]
    one, two = ((folder / "adapter" / "adapter_model.safetensors").read_bytes() for folder in saved)
    assert one == two

    base = AutoModelForCausalLM.from_pretrained(saved[0] / "base")
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        before = base(ids).logits
        adapted = peft.PeftModel.from_pretrained(base, str(saved[0] / "adapter"))
        trained = adapted(ids).logits
        adapted.load_adapter(str(saved[0] / "adapter" / "reference"), "reference")
        adapted.set_adapter("reference")
        imitated = adapted(ids).logits
    assert not torch.equal(before, imitated) and not torch.equal(imitated, trained)

    # a new run begins where this one ended
    given = ["--policy.lm.model", str(saved[0] / "adapter"), *SHORT, "--rollout.tasks", "6"]
    main(["train", *LEARNING, *adapter, *given, "--out", str(tmp_path / "on")])
    reference = tmp_path / "on" / "checkpoints" / "000001" / "policy" / "adapter" / "reference"
    assert (reference / "adapter_model.safetensors").read_bytes() == one
    assert last(tmp_path / "on")["policy/grad_norm"] > 0
