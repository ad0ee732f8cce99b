"""Settings as flags: every one has its docstring as help, and sections have that of their model."""

import dataclasses
from typing import get_args

import pytest
from pydantic import Field

from d2skill.cli.main import main
from d2skill.config import Config
from d2skill.config.base import Settings
from d2skill.config.cli_flags import fields_of
from d2skill.planning.plan import PlanOptions


class Sample(Settings):
    """A sample."""

    first: int = Field(1, ge=0)
    """Number of
    firsts"""
    second: str = ""

    def method(self):
        """Returns nothing."""


def with_help(model):
    """Yields the names of a model's flags, those of its sections too, with their help."""
    for name, kind, default in fields_of(model):
        yield name, get_args(kind)[1].help
        if isinstance(default, dataclasses.Field):
            yield from with_help(type(model.model_fields[name].default))


@pytest.mark.parametrize("model", [Config, PlanOptions])
def test_every_setting_and_section_has_a_help(model):
    found = list(with_help(model))
    assert len(found) >= 10 and all(text for _, text in found), found


def test_the_help_is_the_string_below_a_setting():
    assert dict(with_help(Sample)) == {"first": "Number of firsts", "second": None}


def test_a_section_and_a_short_flag_show_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help-all"])
    said = capsys.readouterr().out
    assert "The environment that the agent acts in." in said
    for name in (
        "--env STR, --env.kind STR",
        "--data {None}|PATH, --env.data",
        "--policy scorer|causal-lm|served|MODULE:CLASS, ",
    ):
        assert name in said
