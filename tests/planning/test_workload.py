"""Work, hours and money, by hand."""

import pytest
from planning_cases import lm

from d2skill.errors import RunError
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
    todo = estimate_workload(config)
    assert (todo.episodes, todo.decisions, todo.read, todo.written) == (8, 160, 16000, 1600)
    assert (todo.validations, todo.validation_decisions) == (3, 2 * 128 * 20)
    assert (todo.texts, todo.calls) == (82, 0)
    assert sum(todo.policy_tokens) == 40 * 17600 + 3 * 5120 * 110
    found = model_hours(config, todo, 1000)
    assert found["acting"] == pytest.approx(40 * 17600 / 1000 / 3600)
    assert found["learning"] == pytest.approx(4 * found["acting"])  # 6N of learning and 2N of the reference over 2N


def test_reflection_keeps_within_its_budget():
    def calls(**given):
        todo = estimate_workload(lm(reflect={"kind": "llm", "price_in": 1, "price_out": 2, **given}))
        return todo.calls, todo.iterations * (todo.call_in + todo.call_out)

    assert calls() == (10, 160 * 70000)
    assert calls(max_calls=800)[0] == pytest.approx(5)
    assert calls(max_tokens=70000)[1] == pytest.approx(70000)
    priced = lm(model="tiny", reflect={"kind": "llm", "price_in": 1, "price_out": 2, "max_cost": 3})
    assert plan(priced)["money"]["reflection"] == pytest.approx(3)


def test_a_run_like_it_gives_steps_and_pace(finished, tmp_path):
    like = run_statistics(finished)
    assert (like.steps, like.demonstrations, like.iteration_seconds) == (10, 50, 2)
    todo = estimate_workload(finished.config(), like)
    assert todo.decisions == 1280
    hours = plan(finished.config(), PlanOptions(like=finished.path))["time"]["parts"]
    assert hours["iterations"] == pytest.approx(160 * 2 / 3600, abs=1e-3)
    assert hours["validation"] == pytest.approx(todo.validations * 2 / 3600, abs=1e-3)
    empty = RunFolder.create(tmp_path / "empty")
    empty.begin(finished.config(), {})
    with pytest.raises(RunError, match="no finished iteration"):
        run_statistics(empty)
