"""Every number of the settings has an upper bound: what is far over it is one sentence, and no work begins."""

from typing import get_args

import annotated_types
import pytest
from commands import fails
from pydantic import ValidationError

from d2skill import load_config
from d2skill.config import Config
from d2skill.config.base import Settings
from d2skill.errors import ConfigError
from d2skill.planning.plan import PlanOptions


def numbers(model, path=""):
    """Yields the dotted names of the numbers of some settings, with their fields."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, Settings):
            yield from numbers(type(field.default), f"{path}{name}.")
        elif {int, float} & {field.annotation, *get_args(field.annotation)}:
            yield path + name, field


NUMBERS = dict(numbers(Config))
FAR = {"10**18": 10**18, "10**400": 10**400, "5,000 digits": 10**5000, "1e308": 1e308, "infinity": float("inf")}


def bound(field):
    return next((one.le if hasattr(one, "le") else one.lt for one in field.metadata if is_bound(one)), None)


def is_bound(one):
    return isinstance(one, annotated_types.Le | annotated_types.Lt)


def test_the_numbers_are_found():
    assert len(NUMBERS) > 60
    assert {"seed", "policy.scorer.buckets", "train.iterations", "reflect.endpoint.timeout"} <= NUMBERS.keys()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_has_a_bound_and_is_refused_over_it(name):
    most = bound(NUMBERS[name])
    assert most is not None
    values = dict(FAR) if most < 10**18 else {key: value for key, value in FAR.items() if key != "10**18"}
    for value in (*values.values(), most + 1):
        if value == most:  # a float that one more does not change
            continue
        with pytest.raises(ConfigError) as refused:
            load_config("laptop", **{name: value})
        said = str(refused.value)
        assert "\n" not in said and len(said) < 400 and name.rpartition(".")[2] in said


@pytest.mark.parametrize("name", dict(numbers(PlanOptions)))
def test_an_option_of_a_plan_has_a_bound(name):
    assert bound(PlanOptions.model_fields[name]) is not None
    with pytest.raises(ValidationError):
        PlanOptions(**{name: 1e30})


@pytest.mark.parametrize(
    "flags",
    [
        "--policy.scorer.buckets 1000000000000",
        "--policy.scorer.buckets " + "1" * 5000,
        "--rollout.tasks 100000 --rollout.group-size 10000",
        "--env.houses.floor-plans 10000 --env.houses.games-per-plan 10000",
        "--seed " + "9" * 400,
        "--optim.learning-rate 1e300",
        "--bank.wait 1e300",
        "--train.iterations 1e400",
        "--policy.kind causal-lm --policy.lm.hidden-size 8192 --policy.lm.layers 256 --policy.lm.heads 64",
    ],
)
def test_train_refuses_before_it_begins(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if flags.split()[-1] in ("1" * 5000, "1e400"):  # tyro's own table of what is wrong with a flag
        with pytest.raises(SystemExit) as ended:
            run("train", *flags.split(), "--out", "run")
        assert ended.value.code == 2 and "Traceback" not in capsys.readouterr().err
    else:
        assert len(fails(capsys, "train", *flags.split(), "--out", "run")) < 600
    assert not any(tmp_path.iterdir())


def test_what_needs_more_memory_than_there_is_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 4e9, "total": 4e9})())
    said = fails(capsys, "train", "--policy.scorer.buckets", str(2**28), "--out", "run")
    assert "policy.scorer.buckets 268,435,456 needs 13 GB of memory" in said
    assert not any(tmp_path.iterdir())


def run(*arguments):
    from d2skill.cli.main import main

    main(list(arguments))
