import json
from dataclasses import asdict, replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from d2skill.evaluation.episodes import Outcome
from d2skill.evaluation.outcome_summary import summarize_outcomes
from d2skill.trackers.terminal import evaluation_tables
from d2skill.utils.statistics import mean_with_interval, paired_difference, wilson


def outcomes(arm, *rows, kinds="aab"):
    """Outcomes of an arm, one row of successes a seed, such as "110"."""
    return [
        Outcome(arm, seed, f"task{n}", kinds[n % len(kinds)], won == "1", 4, 2, 100)
        for seed, row in enumerate(rows)
        for n, won in enumerate(row)
    ]


def test_one_seed_by_hand():
    # bank wins tasks 1 and 2, loses task 3, ties elsewhere
    found = summarize_outcomes(outcomes("none", "100100") + outcomes("bank", "111000"))
    assert found["arms"]["bank"] == {
        "success": 0.5,
        "ci95": list(wilson(3, 6)),
        "n": 6,
        "episodes": 6,
        "steps": 4.0,
        "shown": 0.5,
        "prompt_tokens": 25.0,
        "generated_tokens": None,
        "faults": 0,
    }
    gap = found["differences"]["bank"]
    mean, ci95 = paired_difference([1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0])
    assert gap == {"to": "none", "success": {"mean": mean, "ci95": list(ci95), "wins": 2, "losses": 1, "p": 1.0}}
    assert mean == pytest.approx(1 / 6)
    assert found["types"]["a"]["bank"] == {"success": 0.5, "ci95": list(wilson(2, 4)), "n": 4, "steps": 4.0}
    assert found["types"]["b"]["none"] == {"success": 0.0, "ci95": list(wilson(0, 2)), "n": 2, "steps": 4.0}


def test_of_several_seeds_a_task_counts_once():
    found = summarize_outcomes(outcomes("none", "1000", "0000", "0010") + outcomes("bank", "1100", "1100", "1000"))
    # by task, of 3: none 1 0 1 0, bank 3 2 0 0
    bank = found["arms"]["bank"]
    mean, ci95 = mean_with_interval([1, 2 / 3, 0, 0])
    assert (bank["success"], bank["ci95"], bank["n"], bank["episodes"]) == (5 / 12, list(ci95), 4, 12)
    assert mean == pytest.approx(5 / 12)
    gap = found["differences"]["bank"]["success"]
    assert (gap["wins"], gap["losses"], gap["p"]) == (2, 1, 1.0)
    assert gap["mean"] == pytest.approx(5 / 12 - 2 / 12)


def test_where_nothing_or_all_is_solved_there_is_still_doubt():
    found = summarize_outcomes(outcomes("none", "0000", "0000") + outcomes("bank", "1111", "1111"))
    assert found["arms"]["none"]["ci95"] == list(wilson(0, 4)) and found["arms"]["bank"]["ci95"] == list(wilson(4, 4))


def test_differences_are_to_the_first_arm_where_none_is_missing():
    found = summarize_outcomes(outcomes("bank", "10") + outcomes("shuffled", "11") + outcomes("top", "00"))
    assert {name: gap["to"] for name, gap in found["differences"].items()} == {"shuffled": "bank", "top": "bank"}
    assert summarize_outcomes(outcomes("top", "10"))["differences"] == {}


def test_scores_and_tokens_where_there_are_some():
    none = [replace(one, score=0.25, generated=8) for one in outcomes("none", "1100")]
    bank = [replace(one, score=0.75, generated=9) for one in outcomes("bank", "1100")]
    bank[0] = replace(bank[0], score=None, fault="the lid fell")
    found = summarize_outcomes(none + bank)
    assert found["arms"]["bank"]["score"] == pytest.approx(0.5625)  # 3 of 0.75 and 1 without
    assert found["arms"]["bank"]["score_ci95"] == list(mean_with_interval([0, 0.75, 0.75, 0.75])[1])
    assert found["arms"]["bank"]["generated_tokens"] == 9 and found["arms"]["bank"]["faults"] == 1
    mean, ci95 = paired_difference([0, 0.75, 0.75, 0.75], [0.25] * 4)
    assert found["differences"]["bank"]["score"] == {"mean": mean, "ci95": list(ci95)}


def test_episodes_without_a_step_are_counted_with_their_kind():
    known, failed = outcomes("none", "11", "11"), outcomes("bank", "11", "01")
    failed[2] = replace(failed[2], kind="", steps=0, shown=0, prompt_tokens=0, fault="no start")
    found = summarize_outcomes(known + failed)
    assert found["types"].keys() == {"a"} and found["types"]["a"]["bank"]["success"] == 0.75
    nothing = [
        replace(one, kind="", steps=0, shown=0, prompt_tokens=0, fault="no start") for one in outcomes("bank", "00")
    ]
    assert (
        summarize_outcomes(nothing)["arms"]["bank"]["shown"]
        == summarize_outcomes(nothing)["arms"]["bank"]["prompt_tokens"]
        == 0
    )


def test_figures_can_be_made_again_from_the_outcomes_kept():
    rng = np.random.default_rng(0)
    rows = ["".join(map(str, rng.integers(2, size=20))) for _ in range(4)]
    played = outcomes("none", *rows[:2]) + outcomes("bank", *rows[2:])
    assert summarize_outcomes([Outcome(**json.loads(json.dumps(asdict(one)))) for one in played]) == summarize_outcomes(
        played
    )


@pytest.mark.parametrize("scored", [False, True])
def test_the_tables_can_be_read_at_80_columns(scored):
    arms = ("none", "bank", "shuffled", "task", "step", "top")
    kinds = ("pick_clean_then_place_in_recep", "pick_two_obj_and_place", "look_at_obj_in_light")
    played = [one for arm in arms for one in outcomes(arm, "1101", kinds=kinds)]
    if scored:
        played = [replace(one, score=1.0, generated=123) for one in played]
    console = Console(width=80, record=True, file=StringIO())
    for table in evaluation_tables(summarize_outcomes(played)):
        console.print(table)
    lines = console.export_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    said = "\n".join(lines)
    assert "shuffled - none" in said and "100.0" in said and "75.0 %" in said and "1.000" in said
    assert "…" not in said.split("Success by type")[0]
    assert ("answer" in said) == scored == ("score" in said)


def test_one_type_and_one_arm_need_one_table():
    assert len(evaluation_tables(summarize_outcomes(outcomes("none", "10", kinds="a")))) == 1
