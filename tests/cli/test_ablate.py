"""ablate and compare through `main`: what they print, what they leave, and what they say to bad input."""

import json
import re
import sys
from pathlib import Path

import pytest
from commands import fails

from d2skill.cli.ablate import _duration
from d2skill.cli.main import main
from d2skill.evaluation.ablation import VARIANTS, claim_folder

TOY = [
    *("--env", "toys:TreasureEnvironment", "--env.max-steps", "4", "--policy.scorer.buckets", "4096"),
    *("--rollout.tasks", "4", "--rollout.group-size", "4", "--rollout.with-skills", "2"),
    *("--warm-start.tasks", "6", "--validation.tasks", "8", "--validation.every", "1"),
    *("--train.iterations", "3", "--train.checkpoint-every", "1"),
]


@pytest.fixture(autouse=True)
def _toys_are_found_by_runs(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("COLUMNS", "240")  # folders of tests have long names


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An ablation of two rows and two seeds that has ended."""
    out = tmp_path_factory.mktemp("evidence") / "ablation"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        main(["ablate", *TOY, "--seeds", "2", "--jobs", "2", "--rows", "full,no-skills", "--out", str(out)])
    return out


def said(capsys, *arguments):
    main(list(map(str, arguments)))
    return capsys.readouterr().out


def ablate(folder, *more):
    return ["ablate", *TOY, "--seeds", "2", "--jobs", "1", "--rows", "full,no-skills", "--out", folder, *more]


# ablate


def test_an_ablation_leaves_runs_numbers_and_a_plot(folder):
    assert {path.name for path in folder.iterdir()} == {
        *("full-0", "full-1", "no-skills-0", "no-skills-1", "full.toml", "no-skills.toml"),
        *("ablation.json", "ablation.svg", ".lock"),
    }
    report = json.loads((folder / "ablation.json").read_text())
    assert report["seeds"] == [0, 1] and report["failed"] == [] and report["version"]
    assert report["command"].startswith("d2skill ablate --env toys:TreasureEnvironment")
    assert report["settings"]["rollout"]["with_skills"] == 2
    for row in report["rows"]:
        for run in row["runs"]:
            lines = [json.loads(line) for line in (Path(run["run"]) / "metrics.jsonl").read_text().splitlines()]
            key = "validation/with_skills" if row["row"] == "full" else "validation/without_skills"
            values = [line[key] for line in lines]
            assert [point["success"] for point in run["evaluations"]] == values
            assert run["headline"] == pytest.approx(sum(values[-3:]) / 3)
            assert run["best_evaluation_not_comparable"] == max(values[1:])
    svg = (folder / "ablation.svg").read_text()
    assert "<svg" in svg


def test_what_has_ended_is_not_run_again_and_the_table_is_printed(folder, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    out = said(capsys, *ablate(folder))
    assert "4 runs in" in out and "4 of them ended" in out
    report = json.loads((folder / "ablation.json").read_text())
    heading, line, full, none, *_ = out.splitlines()[1:]
    assert (
        "success % (mean of the last 3 validations)" in heading
        and "best evaluation (not comparable)" in heading
        and "─" in line
    )
    mean = 100 * report["rows"][0]["headline"]["mean"]
    assert full.split()[:3] == ["full", "2", f"{mean:.1f}"] and none.startswith("no-skills ")
    gap = 100 * report["rows"][1]["difference_to_full"]["mean"]
    assert f" {gap:+.1f} ±" in none
    assert "mean of the last 3 evaluations of each run" in out and "95 % interval over seeds" in out
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    changed = {path.name for path in after if before[path] != after[path]}
    assert after.keys() == before.keys() and changed == {"ablation.json"}  # which holds the command


def test_more_seeds_are_added_to_those_there_are(capsys, tmp_path):
    out = said(capsys, "ablate", *TOY, "--seeds", "1", "--rows", "full", "--out", tmp_path, "--seed", "7")
    assert "full-7: " in out and "without skills" in out and "0 left" in out
    assert "One seed, so no interval over seeds." in out and "±" not in out.replace("After ± is", "")
    out = said(capsys, "ablate", *TOY, "--seeds", "2", "--rows", "full", "--out", tmp_path, "--seed", "7")
    assert "1 of them ended" in out and "full-8: " in out and "full-7: " not in out


def test_other_settings_are_refused_before_anything_begins(folder, capsys):
    told = fails(capsys, *ablate(folder, "--retrieval.k-task", "1"))
    assert "full-0 was made with retrieval.k_task 3, not 1: choose another --out" in told


def test_a_failing_run_gives_status_one_and_its_text(capsys, tmp_path):
    (tmp_path / "full-0" / "checkpoints" / "000001").mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        main([*map(str, ablate(tmp_path, "--env", "toys:NoEnvironment"))])
    out = capsys.readouterr().out
    assert ended.value.code == 1
    assert "full-0 failed after" in out and "module toys has no NoEnvironment" in out and "3 left, about" in out
    assert "4 runs failed and are left out: full-0, no-skills-0, full-1, no-skills-1." in out
    assert (tmp_path / "full-0.aside-1" / "checkpoints").is_dir()
    report = json.loads((tmp_path / "ablation.json").read_text())
    assert len(report["failed"]) == 4 and report["rows"][0]["headline"] is None


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--rows", "luck"], f'there is no row "luck": --rows takes {", ".join(VARIANTS)}'),
        (["--seeds", "0"], "--seeds 0 gives no run"),
        (["--jobs", "0"], "--jobs 0 runs nothing"),
        (["--rollout.with-skills", "0"], "rollout.with_skills is 0 in the settings"),
        (["--optim.clip", "-1"], "optim.clip = -1.0: input should be greater than 0"),
    ],
)
def test_ablate_tells_what_is_wrong(capsys, tmp_path, flags, told):
    assert told in fails(capsys, *ablate(tmp_path / "a"), *flags)
    assert not (tmp_path / "a").exists()


def test_one_ablation_at_a_time(folder, capsys):
    with claim_folder(folder):
        assert "another `d2skill ablate`, or a run that one has left" in fails(capsys, *ablate(folder))


def test_without_matplotlib_it_is_said_how_to_get_it(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out = said(capsys, *ablate(folder))
    assert "ablation.json; a plot needs matplotlib: pip install 'd2skill[plot]'." in out
    told = fails(capsys, "compare", folder / "full-0", "--plot", tmp_path / "a.svg")
    assert "pip install 'd2skill[plot]'" in told


@pytest.mark.parametrize(
    ("seconds", "told"), [(8.4, "8 s"), (99, "99 s"), (600, "10 min"), (5900, "98 min"), (9000, "2.5 h")]
)
def test_durations_are_short(seconds, told):
    assert _duration(seconds) == told


# compare


def test_compare_prints_groups_and_leaves_numbers_and_a_plot(folder, capsys, tmp_path):
    runs = [folder / name for name in ("no-skills-0", "no-skills-1", "full-0", "full-1")]
    plot, numbers = tmp_path / "curves.svg", tmp_path / "curves.json"
    out = said(capsys, "compare", *runs, "--plot", plot, "--json", numbers, "--level", "0.1")
    report = json.loads(numbers.read_text())
    assert [group["name"] for group in report["groups"]] == ["no-skills-*", "full-*"]
    assert [group["seeds"] for group in report["groups"]] == [[0, 1], [0, 1]]
    heading, _, none, full, *_ = out.splitlines()
    assert "steps to 10.0 %" in heading and "seconds to 10.0 %" in heading
    assert "best evaluation (not comparable)" in heading
    assert none.startswith("no-skills-*") and full.startswith("full-*")
    ablation = json.loads((folder / "ablation.json").read_text())
    rows = {row["row"]: row for row in ablation["rows"]}
    for group, row in zip(report["groups"], ("no-skills", "full"), strict=True):
        assert [run["headline"] for run in group["runs"]] == [run["headline"] for run in rows[row]["runs"]]
    gap = report["groups"][1]["headline"]["mean"] - report["groups"][0]["headline"]["mean"]
    assert report["groups"][1]["difference"]["mean"] == pytest.approx(gap)
    assert "mean up to there" in out and "<svg" in plot.read_text()


def test_compare_takes_names_and_other_seeds(folder, capsys):
    out = said(capsys, "compare", folder / "full-0", folder / "full-1", folder / "no-skills-1", "--names", "ours, grpo")
    told, heading, _, ours, grpo = out.splitlines()[:5]
    assert told == ("Not comparable: grpo has seeds 1 and ours 0, 1, so the difference is not paired but Welch's.")
    assert heading.startswith("group ") and ours.startswith("ours ") and grpo.startswith("grpo ")
    assert "One seed, so no interval over seeds: grpo." in out


def test_nothing_of_a_narrow_table_is_cut_off(folder, capsys, monkeypatch):
    names = [folder / name for name in ("full-0", "no-skills-0")]
    wide = said(capsys, "compare", *names)
    monkeypatch.setenv("COLUMNS", "60")
    out = said(capsys, "compare", *names)
    assert "…" not in out and "best evaluation (not comparable)" in out
    numbers = [set(re.findall(r"(?<![-\w])[\d,.]*\d", text.split("Success:")[0])) for text in (wide, out)]
    assert numbers[0] == numbers[1] and max(map(len, out.split("Success:")[0].splitlines())) <= 60


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "there is nothing to compare: name run folders"),
        (["."], ". is not a run folder: it has no config.toml"),
        (["full-0", "full-0"], "have the same settings and seed 0, so they count once: leave one out"),
        (["full-0", "--names", "a,b"], "--names has 2 and needs 1, one for each group of runs: full-0"),
        (["full-0", "--level", "70"], "--level 70.0 is no share of success"),
        (["full-0", "--plot", "curve.gif"], "curve.gif is no file for a plot: end its name in .svg, .png, .pdf"),
        (["full-0", "--plot", "nowhere/curve.svg"], "nowhere"),
    ],
)
def test_compare_tells_what_is_wrong(folder, capsys, monkeypatch, arguments, told):
    monkeypatch.chdir(folder)
    assert told in fails(capsys, "compare", *arguments)


def test_a_run_without_an_evaluation_is_told(folder, capsys, tmp_path):
    for name in ("config.toml", "tasks.json"):
        (tmp_path / name).write_bytes((folder / "full-0" / name).read_bytes())
    told = fails(capsys, "compare", tmp_path)
    assert f"{tmp_path} has no evaluation since training began" in told
