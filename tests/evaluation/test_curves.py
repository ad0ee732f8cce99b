"""Curves of runs made by hand, so that every number can be checked on paper."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from toys import tiny_config

from d2skill.config import AdvantageConfig
from d2skill.config.toml_files import dump
from d2skill.errors import ConfigError, RunError
from d2skill.evaluation import plots
from d2skill.evaluation.curves import compare_groups, group_by_method, mean_band, method_settings, read_curve
from d2skill.utils.statistics import band_over_seeds, difference_over_seeds, mean_over_seeds, paired_over_seeds

TASKS = {
    "training": {"split": "train", "task_ids": ["train/000"]},
    "validation": {"split": "valid_seen", "task_ids": ["valid_seen/000"]},
}


def make_run(folder, successes, *, without=None, ended=True, tasks=TASKS, steps=100, seconds=10.0, **settings):
    """A run folder with an evaluation every `steps` environment steps, of which nothing was ever played."""
    config = tiny_config(**settings)
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(dump(config))
    (folder / "tasks.json").write_text(json.dumps(tasks))
    lines = []
    for number, success in enumerate(successes):
        line = {"iteration": number, "env_steps": steps * number, "time/seconds": seconds * number}
        line["validation/without_skills"] = (without or successes)[number]
        if config.rollout.with_skills:
            line["validation/with_skills"] = success
        lines += [line, {"iteration": number, "env_steps": steps * number}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if ended:
        (folder / "summary.json").write_text("{}")
    return folder


# statistics


def test_mean_and_interval_by_hand():
    # mean 0.6, deviations −0.1 0 0.1, deviation 0.1, so 4.3027 · 0.1 / √3 = 0.248414
    found = mean_over_seeds([0.5, 0.6, 0.7])
    assert found.n == 3 and found.mean == pytest.approx(0.6)
    assert found.ci95 == pytest.approx((0.6 - 0.248414, 0.6 + 0.248414), abs=1e-5)


def test_one_seed_has_no_interval_and_none_no_mean():
    assert mean_over_seeds([0.5]).record() == {"mean": 0.5, "ci95": None, "n": 1}
    assert paired_over_seeds({0: 0.5}, {0: 0.25}).record() == {"mean": 0.25, "ci95": None, "n": 1, "paired": True}
    assert difference_over_seeds({0: 0.5}, {1: 0.25, 2: 0.25}).record() == {
        "mean": 0.25,
        "ci95": None,
        "n": 1,
        "paired": False,
    }
    with pytest.raises(ValueError):
        mean_over_seeds([])


def test_differences_are_paired_by_seed_whatever_the_order():
    # 0.1, 0.2, 0.3: as narrow as the differences are alike, however far the seeds are apart
    found = difference_over_seeds({2: 1.2, 0: 0.2, 1: 0.7}, {0: 0.1, 1: 0.5, 2: 0.9})
    assert (found.paired, found.n) == (True, 3) and found.mean == pytest.approx(0.2)
    assert found.ci95 == pytest.approx((0.2 - 0.248414, 0.2 + 0.248414), abs=1e-5)


def test_a_pair_needs_both():
    assert paired_over_seeds({0: 0.5, 1: 0.7, 2: 0.1}, {1: 0.5, 3: 0.9}).record()["mean"] == pytest.approx(0.2)
    assert paired_over_seeds({0: 0.5}, {1: 0.5}) is None


def test_welch_by_hand():
    # variances 0.01 and 0.04 over 3 and 2: 0.00333 + 0.02 = 0.02333 (root 0.152753)
    # degrees 0.02333² / (0.00333²/2 + 0.02²/1) = 0.000544444 / 0.000405556 = 1.342466
    found = difference_over_seeds({0: 0.5, 1: 0.6, 2: 0.7}, {5: 0.2, 6: 0.2 + 0.2 * math.sqrt(2)})
    assert (found.paired, found.n) == (False, 2)
    assert found.mean == pytest.approx(0.6 - 0.2 - 0.1 * math.sqrt(2))
    # t of so many degrees is 7.1122, times the root 1.08640, which is scipy.stats.ttest_ind's as well
    assert (found.ci95[1] - found.ci95[0]) / 2 == pytest.approx(1.08640, rel=1e-4)


def test_seeds_that_all_agree_have_no_interval():
    """They do not tell how far other seeds would be; an interval of no width would say that there is no doubt."""
    assert difference_over_seeds({0: 0.5, 1: 0.5}, {2: 0.25, 3: 0.25}).ci95 is None
    assert difference_over_seeds({0: 0.3, 1: 0.6}, {0: 0.1, 1: 0.4}).ci95 is None  # 0.2 both times
    assert mean_over_seeds([0.5, 0.5]).ci95 is None


def test_a_band_is_an_interval_from_three_seeds_on():
    values = np.array([[0.5, 0.2], [0.6, 0.2], [0.7, 0.2]])
    shows, low, high = band_over_seeds(values)
    assert shows == "interval"
    assert low == pytest.approx([0.6 - 0.248414, 0.2], abs=1e-5) and high == pytest.approx([0.848414, 0.2], abs=1e-5)
    assert band_over_seeds(values[:2]) == ("range", [0.5, 0.2], [0.6, 0.2])
    assert band_over_seeds(values[:1])[0] == "none"


# curves


def test_the_headline_is_the_mean_of_the_last_three_and_the_best_is_not_it(tmp_path):
    curve = read_curve(make_run(tmp_path / "a", [1.0, 0.9, 0.1, 0.2, 0.6], without=[0, 0, 0.1, 0.1, 0.4]))
    assert curve.headline == pytest.approx(0.3) and curve.headline_without_skills == pytest.approx(0.2)
    assert curve.best == 0.9  # what was before training does not count


def test_without_skills_in_the_method_it_is_the_evaluation_without(tmp_path):
    run = make_run(tmp_path / "a", [0.9] * 4, without=[0.1, 0.2, 0.3, 0.4], rollout={"with_skills": 0})
    assert read_curve(run).headline == pytest.approx(0.3)


def test_what_was_before_training_is_no_part_of_the_headline(tmp_path):
    curve = read_curve(make_run(tmp_path / "a", [0.9, 0.1, 0.3]))
    assert curve.headline == pytest.approx(0.2)
    with pytest.raises(RunError, match=r"b has no evaluation since training began: go on with it by `d2skill resume"):
        read_curve(make_run(tmp_path / "b", [0.9]))


def test_area_and_level_by_hand(tmp_path):
    curve = read_curve(make_run(tmp_path / "a", [0.0, 0.4, 0.2, 0.6]))
    assert curve.mean_until(300) == pytest.approx((0.2 + 0.3 + 0.4) / 3)
    assert curve.mean_until(150) == pytest.approx((100 * 0.2 + 50 * 0.35) / 150)
    assert curve.success_at("env_steps", [50, 150]).tolist() == pytest.approx([0.2, 0.3])
    assert curve.success_at("seconds", [25]).tolist() == pytest.approx([0.4])
    assert (curve.first_at(0.4).env_steps, curve.first_at(0.5).env_steps, curve.first_at(0.7)) == (100, 300, None)
    assert curve.first_at(0.1 + 0.3 + 1e-12).env_steps == 100  # not lost by rounding


def test_damage_is_told_in_a_sentence(tmp_path):
    with pytest.raises(RunError, match="is not a run folder"):
        read_curve(tmp_path)
    run = make_run(tmp_path / "a", [0.0, 0.5])
    (run / "metrics.jsonl").write_text("nonsense\n")
    with pytest.raises(RunError, match=r"line 1 of .*metrics\.jsonl is damaged"):
        read_curve(run)
    (run / "metrics.jsonl").write_text('{"iteration": 1, "validation/without_skills": 0.5}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged \(KeyError: 'validation/with_skills'\)"):
        read_curve(run)


# groups


def test_seed_folder_and_length_make_no_other_group(tmp_path):
    curves = [
        read_curve(make_run(tmp_path / "a", [0, 0.5], seed=0, train={"iterations": 3})),
        read_curve(make_run(tmp_path / "b", [0, 0.5], seed=1, out="elsewhere", train={"max_env_steps": 9})),
        read_curve(make_run(tmp_path / "c", [0, 0.5], seed=1, rollout={"with_skills": 0})),
    ]
    groups = group_by_method(curves)
    assert [[curve.run.name for curve in series.curves] for series in groups] == [["a", "b"], ["c"]]
    assert [series.name for series in groups] == ["a and 1 more", "c"]
    assert (
        not {"seed", "out", "train.iterations", "bank.wait", "embedder.cache_mb"}
        & method_settings(curves[0].config).keys()
    )


def test_a_group_is_named_after_its_folders(tmp_path):
    places = ["full-0", "full-1", "grpo/full-0", "alone"]
    settings = [{}, {"seed": 1}, {"rollout": {"with_skills": 0}}, {"retrieval": {"gate": 0.5}}]
    curves = [
        read_curve(make_run(tmp_path / place, [0, 0.5], **own)) for place, own in zip(places, settings, strict=True)
    ]
    assert [group.name for group in group_by_method(curves)] == ["full-*", "full-0", "alone"]
    own, other = group_by_method([curves[0], curves[2]])  # both are full-0
    assert (own.name, other.name) == (f"{tmp_path.name}/full-0", "grpo/full-0")
    assert [group.name for group in group_by_method(curves[:1])] == ["full-0"]
    assert [group.name for group in group_by_method(curves[1:3], ["ours", "theirs"])] == ["ours", "theirs"]


def test_names_have_to_fit_and_runs_count_once(tmp_path):
    first, second = (read_curve(make_run(tmp_path / name, [0, 0.5])) for name in "ab")
    with pytest.raises(ConfigError, match=r"a and .*b have the same settings and seed 0, so they count once"):
        group_by_method([first, second])
    other = replace(second, config=tiny_config(rollout={"with_skills": 0}))
    with pytest.raises(ConfigError, match="--names has 1 and needs 2, one for each group of runs: a; b"):
        group_by_method([first, other], ["ours"])
    with pytest.raises(ConfigError, match="--names has a name twice"):
        group_by_method([first, other], ["ours", "ours"])


def two_groups(folder):
    """Three seeds each: headlines 0.5 0.6 0.7, and 0.1 lower."""
    for seed in range(3):
        top = 0.5 + seed / 10
        make_run(folder / f"a{seed}", [0.2, top, top, top], without=[0.2] * 4, seed=seed)
        low = [0.2, top - 0.2, top - 0.1, top]
        make_run(folder / f"b{seed}", low, steps=200, seconds=5.0, seed=seed, rollout={"with_skills": 0})
    return [read_curve(folder / f"{name}{seed}") for name in "ab" for seed in range(3)]


def test_a_comparison_by_hand(tmp_path):
    report = compare_groups(group_by_method(two_groups(tmp_path), ["ours", "grpo"]))
    ours, grpo = report["groups"]
    assert (ours["name"], ours["seeds"], grpo["seeds"]) == ("ours", [0, 1, 2], [0, 1, 2])
    assert report["common_env_steps"] == 300 and "300 environment steps" in report["headline"]
    # of the second up to 300 steps: 0.4 at 200 steps, and 0.45 at 300, between 0.4 at 200 and 0.5 at 400
    assert ours["headline"]["mean"] == pytest.approx(0.6) and grpo["headline"]["mean"] == pytest.approx(0.425)
    assert [run["headline"] for run in grpo["runs"]] == pytest.approx([0.4, 0.5, 0.6])  # at their ends
    assert ours["headline"]["ci95"] == pytest.approx([0.351586, 0.848414], abs=1e-5)
    assert ours["difference"] is None and grpo["difference"]["paired"]
    assert grpo["difference"]["mean"] == pytest.approx(-0.175) and grpo["difference"]["ci95"] is None
    assert ours["without_skills"]["mean"] == pytest.approx(0.2)
    assert [place["env_steps"] for place in ours["at_env_steps"]] == [75, 150, 225, 300]
    assert [p["mean"] for p in ours["at_env_steps"]] == pytest.approx([0.2 + 0.75 * 0.4, 0.6, 0.6, 0.6])
    assert [p["mean"] for p in grpo["at_env_steps"]] == pytest.approx([0.275, 0.35, 0.4125, 0.45])
    # 100 steps at (0.2 + 0.6) / 2, 200 at 0.6; 200 steps at (0.2 + 0.4) / 2, 100 at (0.4 + 0.45) / 2
    assert ours["mean_to_common_env_steps"]["mean"] == pytest.approx((0.4 + 1.2) / 3)
    assert grpo["mean_to_common_env_steps"]["mean"] == pytest.approx((0.6 + 0.425) / 3)
    assert report["level"] == pytest.approx(0.425)
    assert ours["best_evaluation_not_comparable"] == pytest.approx(0.6)
    assert report["notes"][0].startswith("Fewer than 3 evaluations") and report["not_comparable"] == []
    json.dumps(report, allow_nan=False)


def test_a_curve_is_cut_between_validations(tmp_path):
    curve = read_curve(make_run(tmp_path / "a", [0.0, 0.5, 0.7], without=[0.0, 0.2, 0.4]))
    cut = curve.until(150)
    assert [point.env_steps for point in cut.points] == [0, 100, 150]
    assert (cut.points[-1].success, cut.points[-1].without) == pytest.approx((0.6, 0.3))
    assert curve.until(100).points == curve.points[:2] and curve.until(200) == curve == curve.until(900)


def test_the_way_to_a_level_is_told_only_if_all_get_there(tmp_path):
    groups = group_by_method(two_groups(tmp_path))
    ours, grpo = (group["to_level"] for group in compare_groups(groups, 0.45)["groups"])
    assert ours == {"reached": 3, "of": 3, "env_steps": 100, "seconds": 10}
    # at the third, second and first evaluation after training began
    assert grpo == {"reached": 3, "of": 3, "env_steps": 400, "seconds": 10}
    ours, grpo = (group["to_level"] for group in compare_groups(groups, 0.65)["groups"])
    assert ours == {"reached": 1, "of": 3, "env_steps": None, "seconds": None} == grpo


def test_a_band_is_drawn_where_all_runs_have_been(tmp_path):
    first = read_curve(make_run(tmp_path / "a", [0.0, 0.4, 0.8]))
    second = read_curve(make_run(tmp_path / "b", [0.2, 0.4], steps=150, seed=1))
    found = mean_band([first, second], "env_steps")
    assert (found["where"], found["shows"]) == ([0.0, 100.0, 150.0], "range")
    assert found["low"] == pytest.approx([0.0, 0.2 + 0.2 * 100 / 150, 0.4])
    assert found["high"] == pytest.approx([0.2, 0.4, 0.6])
    assert found["mean"] == pytest.approx([0.1, (0.4 + 1 / 3) / 2, 0.5])


def test_what_has_to_be_known_is_noted(tmp_path):
    other = TASKS | {"validation": {"split": "valid_seen", "task_ids": ["valid_seen/009"]}}
    curves = [
        read_curve(make_run(tmp_path / "a", [0.0, 0.5, 0.5, 0.5])),
        read_curve(make_run(tmp_path / "b", [0.0, 0.5], ended=False, tasks=other, rollout={"with_skills": 0})),
    ]
    report = compare_groups(group_by_method(curves, ["ours", "grpo"]))
    assert report["notes"] == [
        "One seed, so no interval over seeds: ours, grpo.",
        f"Fewer than 3 evaluations, so a mean of those there are: {tmp_path / 'a'}, {tmp_path / 'b'}.",
        f"{tmp_path / 'b'} has not ended: its curve stops after iteration 1.",
    ]
    assert report["not_comparable"] == [f"Validated on other tasks than {tmp_path / 'a'}: {tmp_path / 'b'}."]


def test_what_cannot_be_compared_is_said(tmp_path):
    first = make_run(tmp_path / "a", [0.0, 0.5])
    other = {"env": {"max_steps": 9}, "rollout": {"with_skills": 0}, "optim": {"clip": 0.3}, "seed": 4}
    report = compare_groups(
        group_by_method([read_curve(first), read_curve(make_run(tmp_path / "b", [0, 0.5], **other))])
    )
    measured, settings, seeds = report["not_comparable"]
    was = read_curve(first).config
    assert measured == f"b is measured otherwise than a: env.max_steps 9, not {was.env.max_steps}."
    assert settings.startswith("b differs from a in more than one setting: ")
    assert f"rollout.with_skills 0, not {was.rollout.with_skills}" in settings
    assert f"optim.clip 0.3, not {was.optim.clip}" in settings
    assert seeds == "b has seeds 4 and a 0, so the difference is not paired but Welch's."


@pytest.mark.parametrize(
    "one",
    [{"bank": {"skills": "consolidated"}}, {"policy": {"kind": "causal-lm"}}],
    ids=["skills", "policy"],
)
def test_a_setting_that_follows_from_another_is_no_difference_of_its_own(one, tmp_path):
    runs = []
    for name, own in (("a", {}), ("b", one)):
        folder = make_run(tmp_path / name, [0.0, 0.5], **own)
        unset = tiny_config(**own).model_copy(update={"advantage": AdvantageConfig()})
        (folder / "config.toml").write_text(dump(unset.resolved()))
        runs.append(read_curve(folder))
    first, other = (method_settings(run.config) for run in runs)
    assert sum(other[name] != first[name] for name in other) > 1, "one follows from the other"
    assert compare_groups(group_by_method(runs))["not_comparable"] == []


# plots


@pytest.mark.parametrize(("format", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_plots_are_the_same_file_each_time(tmp_path, format, begins):
    report = compare_groups(group_by_method(two_groups(tmp_path / "runs"), ["ours", "grpo"]))
    drawn = []
    for name in "ab":
        plots.plot_curves(report, tmp_path / f"{name}.{format}")
        drawn.append((tmp_path / f"{name}.{format}").read_bytes())
    assert drawn[0] == drawn[1] and drawn[0].startswith(begins)


@pytest.mark.parametrize(
    ("seeds", "told"), [(3, "3 seeds, 95 % interval"), (2, "2 seeds, lowest to highest"), (1, "(1 seed)")]
)
def test_the_legend_says_what_the_band_is(tmp_path, seeds, told, monkeypatch):
    monkeypatch.setattr(plots, "_save", lambda figure, path: found.append(figure))
    found = []
    report = compare_groups(group_by_method([c for c in two_groups(tmp_path) if c.seed < seeds], ["ours", "grpo"]))
    plots.plot_curves(report, tmp_path / "a.svg")
    (legend,) = found[0].legends
    assert [told in text.get_text() for text in legend.get_texts()] == [True, True]
    steps, wall = found[0].axes
    assert len(steps.collections) == len(wall.collections) == (2 if seeds > 1 else 0)
    assert steps.lines[0].get_xdata().tolist() == [0, 100, 200, 300]
    assert wall.lines[0].get_xdata().tolist() == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
