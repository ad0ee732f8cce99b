"""Work, hours and money, by hand."""

import pytest
from planning_cases import lm, seven

from d2skill.errors import RunError
from d2skill.planning.lengths import Lengths, limit_lengths, typical_lengths
from d2skill.planning.plan import PlanOptions, plan
from d2skill.planning.workload import estimate_workload, model_hours, run_statistics
from d2skill.runs.folder import RunFolder


def test_work_at_the_limits_by_hand():
    config = lm(
        answer="free",
        max_new_tokens=10,
        prompt={"max_tokens": 100},
        rollout={"tasks": 2, "group_size": 4, "with_skills": 2},
    )
    config = config.model_copy(update={"train": config.train.model_copy(update={"iterations": 40})})
    todo = estimate_workload(config, limit_lengths(config))
    assert (todo.episodes, todo.decisions, todo.read, todo.written) == (8, 160, 16000, 1600)
    assert (todo.validations, todo.validation_decisions) == (3, 2 * 128 * 20)
    assert (todo.texts, todo.calls) == (82, 0)
    assert sum(todo.policy_tokens) == 40 * 17600 + 3 * 5120 * 110
    found = model_hours(config, todo, 1000)
    assert found["acting"] == pytest.approx(40 * 17600 / 1000 / 3600)
    assert found["learning"] == pytest.approx(4 * found["acting"])  # 6N of learning and 2N of the reference over 2N


def test_reflection_keeps_within_its_budget():
    def calls(**given):
        config = lm(reflect={"kind": "llm", "price_in": 1, "price_out": 2, **given})
        todo = estimate_workload(config, limit_lengths(config))
        return todo.calls, todo.iterations * (todo.call_in + todo.call_out)

    assert calls() == (10, 160 * 70000)
    assert calls(max_calls=800)[0] == pytest.approx(5)
    assert calls(max_tokens=70000)[1] == pytest.approx(70000)
    priced = lm(model="tiny", reflect={"kind": "llm", "price_in": 1, "price_out": 2, "max_cost": 3})
    assert plan(priced)["money"]["reflection"] == pytest.approx(3)


def test_a_run_like_it_gives_steps_and_pace(finished, tmp_path):
    like = run_statistics(finished)
    assert (like.steps, like.demonstrations, like.iteration_seconds) == (10, 50, 2)
    todo = estimate_workload(finished.config(), limit_lengths(finished.config()), like)
    assert todo.decisions == 1280
    hours = plan(finished.config(), PlanOptions(like=finished.path))["time"]["parts"]
    assert hours["iterations"] == pytest.approx(160 * 2 / 3600, abs=1e-3)
    assert hours["validation"] == pytest.approx(todo.validations * 2 / 3600, abs=1e-3)
    empty = RunFolder.create(tmp_path / "empty")
    empty.begin(finished.config(), {})
    with pytest.raises(RunError, match="no finished iteration"):
        run_statistics(empty)


def test_typical_lengths_by_hand():
    config = seven()
    found = typical_lengths(config)
    # two steps of history, six skills, half of the episodes at their limit of 50 steps
    assert (found.prompt, found.skills, found.answer, found.steps) == (299 + 2 * 42, 6 * 60, 120, (10 + 50) / 2)
    assert found.longest_answer == 512 and "alfworld" in found.source
    mean, deviation = found.mixed(0.5)
    assert mean == 383 + 180 and deviation == pytest.approx((117**2 + 180**2) ** 0.5)
    todo = estimate_workload(config, found)
    assert (todo.decisions, todo.read) == (128 * 30, 128 * 30 * mean)
    assert todo.spread == pytest.approx(deviation / (mean + 120))
    # never over the limits; and an environment without an entry has nothing else
    short = config.model_copy(update={"prompt": config.prompt.model_copy(update={"max_tokens": 64})})
    assert typical_lengths(short).prompt + typical_lengths(short).skills == 64 + 512
    free = lm(answer="free", max_new_tokens=10, prompt={"max_tokens": 100})
    assert typical_lengths(free) == limit_lengths(free) == Lengths(100, 0, 10, 20, 10)
