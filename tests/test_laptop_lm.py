"""The path of the big models, walked small: a language model through the whole loop, saved, resumed and read back."""

import json

import pytest

from d2skill.cli import main
from d2skill.runfolder import RunFolder

pytest.importorskip("torch", reason="needs d2skill[train]")

SMALL = [
    *("--config", "laptop-lm", "--train.iterations", "2", "--train.checkpoint-every", "1", "--validation.every", "2"),
    *("--rollout.tasks", "2", "--validation.tasks", "4", "--warm-start.tasks", "12", "--warm-start.epochs", "1"),
    *("--env.max-steps", "10", "--policy.lm.hidden-size", "32", "--policy.lm.layers", "1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "lm"
    main(["train", *SMALL, "--out", str(folder)])
    return folder


def test_a_language_model_goes_through_the_whole_loop(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["validation"]["with_skills"]["n"] == 4
    lines = RunFolder.open(run).read_metrics()
    assert lines[0]["warm_start/demonstrations"] > 0
    for line in lines[1:]:
        assert line["rollout/invalid_actions"] == 0  # held to the admissible actions
        assert line["policy/ratio_error"] < 1e-3


def test_its_checkpoint_loads_in_plain_transformers(run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run / "checkpoints" / "000002" / "policy" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer)
    assert sum(weight.numel() for weight in model.parameters()) < 1_000_000


def test_it_trains_on_from_a_folder(run, tmp_path):
    model = run / "checkpoints" / "000002" / "policy" / "model"
    main(["train", *SMALL, "--policy.lm.model", str(model), "--warm-start.tasks", "0", "--out", str(tmp_path / "on")])
    assert (tmp_path / "on" / "summary.json").exists()


def test_resuming_gives_the_same_end(run, tmp_path):
    other = tmp_path / "other"
    main(["train", *SMALL, "--train.iterations", "1", "--out", str(other)])
    config = (other / "config.toml").read_text()
    (other / "config.toml").write_text(config.replace("iterations = 1\n", "iterations = 2\n"))
    (other / "summary.json").unlink()
    main(["resume", str(other)])

    def last(folder):
        line = RunFolder.open(folder).read_metrics()[-1]
        return {name: value for name, value in line.items() if name.startswith(("policy/", "rollout/"))}

    assert last(other) == last(run)
