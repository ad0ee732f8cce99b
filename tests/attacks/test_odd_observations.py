"""Observations of an environment of one's own with odd values: what is plain is taken, the rest ends that episode."""

import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from toys import TreasureEnvironment, tiny_config

import d2skill
from d2skill.config import PromptConfig
from d2skill.episode import Episode
from d2skill.errors import D2SkillError
from d2skill.types import Decision, Observation

NAN, INF = float("nan"), float("inf")
TAKEN = {
    "score": [
        np.float64(0.5),
        np.float32(0.5),
        np.int64(1),
        True,
        np.array(0.5),
        Decimal("0.5"),
        Fraction(1, 2),
        None,
        1,
    ],
    "success": [np.bool_(True), 1, 0, None, np.array(True)],
    "done": [np.bool_(False), 1, 0, None],
    "text": ["", "\x1b[2J", "ünïcode \U0001f600", np.str_("a")],
    "actions": [(), [], ["go"], ("go", "go"), (np.str_("go"),), ("\x1b[2J",)],
}
FAULTS = {
    "score": [NAN, INF, -INF, np.float64("nan"), 10**400, -(10**400), "much", [0.5], np.array([1, 2]), 1 + 2j, {}],
    "success": [np.array([True, False])],
    "done": [np.array([True, False])],
    "text": [None, b"bytes", 5, "\ud800", ["a"]],
    "actions": [None, "abc", {"a": 1}, (1, 2), (None,), ("\ud800",), iter(()), 5],
    "forms": [None, (1,), ("\udfff ...",)],
}
PLAIN = {"score": (float, type(None)), "success": bool, "done": bool, "text": str, "actions": tuple}


class Odd(TreasureEnvironment):
    """Sends its observations, after a number of them, with one field changed."""

    def __init__(self, field, value, after=0):
        super().__init__()
        self.field, self.value, self.left = field, value, after

    def start(self, task_id):
        session = super().start(task_id)
        step = session.step

        def odd(action):
            seen = step(action)
            self.left -= 1
            fields = {"text": seen.text, "actions": seen.actions, "done": seen.done, "success": seen.success}
            return Observation(**(fields | ({self.field: self.value} if self.left < 0 else {})))

        session.step = odd
        return session


def played(environment):
    session = environment.start(environment.task_ids("train")[0])
    episode = Episode(session, arm="skills", index=0, max_steps=5, settings=PromptConfig(), count_tokens=len)
    prompt = episode.prompt()
    episode.act(prompt, Decision("a", prompt.actions[0], (), ()))
    return episode


def cases(table):
    pairs = [(field, number) for field in table for number in range(len(table[field]))]
    return [pytest.param(field, table[field][number], id=f"{field}-{number}") for field, number in pairs]


@pytest.mark.parametrize(("field", "value"), cases(TAKEN))
def test_values_of_other_types_are_taken_as_plain_ones(field, value):
    episode = played(Odd(field, value))
    assert not episode.trajectory().fault and isinstance(getattr(episode._observation, field), PLAIN[field])


@pytest.mark.parametrize(("field", "value"), cases(FAULTS))
def test_what_is_no_observation_is_a_fault_of_that_episode(field, value):
    trajectory = played(Odd(field, value)).trajectory()
    assert trajectory.fault and not trajectory.success and trajectory.score is None


@pytest.mark.parametrize("value", [NAN, 10**400, "much"])
def test_a_run_whose_scores_become_odd_in_every_episode_stops_in_a_sentence(value, tmp_path):
    with pytest.raises(D2SkillError, match=r"the environment failed in all of .* check-env"):
        d2skill.train(tiny_config(out=tmp_path, train={"iterations": 3}), environment=Odd("score", value, after=180))
    metrics = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in metrics and "Infinity" not in metrics


def test_a_run_takes_scores_of_numpy(tmp_path):
    d2skill.train(tiny_config(out=tmp_path, train={"iterations": 2}), environment=Odd("score", np.float32(0.3)))
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    scores = [value for line in lines for name, value in line.items() if name.startswith("validation/score")]
    assert scores and all(0.29 < score < 0.31 for score in scores)


def test_an_odd_first_observation_is_a_fault():
    session = TreasureEnvironment().start(TreasureEnvironment().task_ids("train")[0])
    for odd in (None, "text", Observation("a", None), Observation(None)):
        session.observation = odd
        episode = Episode(session, arm="skills", index=0, max_steps=5, settings=PromptConfig(), count_tokens=len)
        assert episode.done and episode.trajectory().fault
