"""Numbers of training stay finite: a run that diverges stops, says so, and keeps its last good checkpoint."""

import numpy as np
import pytest
from toys import TreasureEnvironment, make_scorer, prompt, tiny_config

import d2skill
from d2skill.config import Config, OptimConfig, ScorerConfig, WarmStartConfig
from d2skill.config.toml_files import dump
from d2skill.errors import RunError
from d2skill.policies.scorer.policy import ScorerPolicy
from d2skill.runs import checkpoint
from d2skill.types import Decision, Row
from d2skill.utils.finite import Diverged

HUGE = [1e300, 1e308, float("inf"), float("nan")]
UPDATE = ["optim.learning_rate", "optim.kl", "reward.success", "reward.intrinsic", "reward.score"]
SCORED = "reward.score"


def with_setting(config: Config, name: str, value: float) -> Config:
    """Sets a setting past its bounds, as Python can."""
    section, _, setting = name.rpartition(".")
    changed = getattr(config, section).model_copy(update={setting: value})
    return config.model_copy(update={section: changed})


class Scored(TreasureEnvironment):
    """Gives each episode a score of its own."""

    def start(self, task_id):
        session = super().start(task_id)
        step, seen = session.step, []

        def scored(action):
            seen.append(action)
            found = step(action)
            return type(found)(found.text, found.actions, found.done, found.success, score=0.1 * len(seen))

        session.step = scored
        return session


def train(folder, name, value, **sections):
    config = with_setting(tiny_config(out=folder, train={"iterations": 8}, **sections), name, value)
    return d2skill.train(config, environment=Scored() if name == SCORED else None)


def all_finite(folder):
    """Whether all numbers of a run's checkpoints, metrics and bank are finite."""
    for point in checkpoint.folders(folder):
        with np.load(point / "policy" / "scorer.npz") as stored:
            if not all(np.isfinite(stored[name]).all() for name in stored.files):
                return False
    said = (folder / "metrics.jsonl").read_text()
    return not {"NaN", "Infinity", "null"} & set(said.replace(",", " ").replace("}", " ").split())


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("name", UPDATE)
def test_an_update_that_diverges_stops_the_run(name, value, tmp_path, recwarn):
    folder = tmp_path / "run"
    with pytest.raises(Diverged, match=r"training diverged in iteration (\d+): .* is .*: lower .*") as stopped:
        train(folder, name, value)
    last = checkpoint.read_progress(checkpoint.latest(folder)).iteration
    assert f"goes on from the checkpoint of iteration {last}, the last good one" in str(stopped.value)
    assert f"in iteration {last + 1}:" in str(stopped.value)
    assert all_finite(folder) and not (folder / "summary.json").exists()
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]
    before = {path: path.read_bytes() for path in folder.rglob("*.npz")}
    with pytest.raises((Diverged, d2skill.ConfigError)):
        d2skill.resume(folder, **({"environment": Scored()} if name == SCORED else {}))
    assert {path: path.read_bytes() for path in folder.rglob("*.npz")} == before


@pytest.mark.parametrize("value", HUGE)
def test_a_warm_start_that_diverges_leaves_nothing(value, tmp_path):
    with pytest.raises(Diverged, match=r"diverged in the warm start: .*: lower warm_start\.learning_rate.*nothing is"):
        train(tmp_path / "run", "warm_start.learning_rate", value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [("reward.success", 1e6), ("optim.kl", 1e6), ("optim.learning_rate", 1.0)])
def test_what_is_only_large_goes_on(name, value, tmp_path):
    train(tmp_path / "run", name, value)
    assert all_finite(tmp_path / "run")


class Diverging(ScorerPolicy):
    """A policy of one's own, whose third update tells a number that is not finite."""

    def __init__(self, metrics):
        super().__init__(ScorerConfig(buckets=1024), OptimConfig(), WarmStartConfig())
        self._metrics, self._updates = metrics, 0

    def update(self, rows, seed):
        self._updates += 1
        return self._metrics if self._updates == 3 else super().update(rows, seed)


@pytest.mark.parametrize("name", ["policy/loss", "policy/grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_a_policy_of_one_s_own_that_diverges_stops_as_well(name, value, tmp_path):
    config = tiny_config(out=tmp_path / "run")
    with pytest.raises(RunError, match=r"diverged in iteration 3: .*the checkpoint of iteration 2, the last"):
        d2skill.train(config, policy=Diverging({name: value}))


@pytest.mark.parametrize("advantage", [float("inf"), float("nan"), 1e308, -1e308])
def test_the_scorer_is_as_before_when_a_step_diverges(advantage):
    policy = make_scorer(buckets=1024)
    before = policy.distribution(prompt())
    row = Row(prompt(), Decision("left", "left", (0,), (float(before[0]),)), advantage)
    with pytest.raises(Diverged, match=r"is .*: lower"):
        policy.update([row, row], 0)
    assert (policy.distribution(prompt()) == before).all()


def test_the_command_says_it_in_one_sentence(tmp_path, capsys):
    from commands import fails

    settings = tmp_path / "settings.toml"
    settings.write_text(dump(tiny_config(train={"iterations": 8})))
    said = fails(
        capsys,
        *("train", "--config", settings, "--out", tmp_path / "run", "--reward.success", "1e5", "--optim.kl", "1e300"),
    )
    assert "diverged" in said or "optim.kl" in said, "the settings refuse it, or the run stops"


# language models

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("value", [1e37, 1e38, 1e300, float("nan")])
@pytest.mark.parametrize("part", ["optim", "warm"])
def test_a_language_model_does_not_learn_at_a_rate_that_diverges(part, value):
    from lm_toys import OPTIM, SMALL, WARM, policy, prompt, rows

    optim = OPTIM.model_copy(update={"learning_rate": value} if part == "optim" else {})
    warm = WARM.model_copy(update={"learning_rate": value} if part == "warm" else {})
    with pytest.raises((Diverged, d2skill.ConfigError), match="lower"):
        model = policy(SMALL, optim, warm)
        for _ in range(3):
            if part == "warm":
                model.imitate([(prompt(number), prompt(number).actions[0]) for number in range(4)], 0)
            else:
                model.update(rows(model, count=4), 0)


def test_a_run_of_a_language_model_that_diverges_keeps_its_last_checkpoint(tmp_path):
    from lm_toys import SMALL, policy
    from safetensors.torch import load_file

    small = {"rollout": {"tasks": 2}, "validation": {"tasks": 1}, "warm_start": {"tasks": 2}}
    config = with_setting(tiny_config(out=tmp_path / "run", **small), "optim.kl", 1e300)
    with pytest.raises(Diverged, match=r"diverged in iteration \d+: .* lower optim\.learning_rate, optim\.kl"):
        d2skill.train(config, policy=policy(SMALL, config.optim, config.warm_start))
    files = list(checkpoint.latest(tmp_path / "run").rglob("*.safetensors"))
    assert files and all(bool(torch.isfinite(each).all()) for file in files for each in load_file(file).values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_optimiser_step_that_is_not_finite_changes_no_weight(bad):
    from d2skill.policies.causal_lm.optimizer import MasterWeightAdam

    for dtype in (torch.float32, torch.bfloat16):
        model = torch.nn.Linear(4, 2).to(dtype)
        adam = MasterWeightAdam(model, 0.1, 1.0)
        before = [weight.clone() for weight in model.parameters()]
        (model(torch.ones(1, 4, dtype=dtype)).sum() * bad).backward()
        with pytest.raises(Diverged, match="the norm of the gradient"):
            adam.step()
        assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
        model(torch.ones(1, 4, dtype=dtype)).sum().backward()
        adam.step()
        adam.require_finite_weights()
        with torch.no_grad():
            model.weight[0, 0] = bad
        with pytest.raises(Diverged, match="the square of a weight is"):
            adam.require_finite_weights()
