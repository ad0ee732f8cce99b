"""The commands, through `main`: what they print, what they leave, and what they say to bad input."""

import errno
import io
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys

import pytest
from commands import SMALL, fails

from d2skill.bank.journal import Insert, JournalWriter
from d2skill.bank.journal.events import source_task
from d2skill.cli.bank.open import read as read_bank
from d2skill.cli.main import main
from d2skill.config import Config, HousesConfig, cli_flags
from d2skill.config.toml_files import load
from d2skill.envs.houses import generate
from d2skill.evaluation import Outcome, summarize_outcomes
from d2skill.runs.folder import RunFolder
from d2skill.runs.trajectories import read
from d2skill.trackers.terminal import LiveDisplay
from d2skill.types import Skill, SkillText
from d2skill.utils.ascii_output import never_fail


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of five iterations."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    main(["train", *SMALL, "--train.iterations", "5", "--out", str(folder)])
    return folder


def test_a_run_leaves_the_whole_folder(run):
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.toml",
        "tasks.json",
        "metrics.jsonl",
        "bank.db",
        "bank.db-lock",
        "checkpoints",
        "rollouts",
        "summary.json",
        "trajectories.jsonl.gz",
    }
    settings = RunFolder.open(run).config()
    assert settings.train.iterations == 5 and settings.env.houses.floor_plans == 2
    assert len(json.loads((run / "tasks.json").read_text())["validation"]["task_ids"]) == 10
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert ["validation/with_skills" in line for line in lines] == [True, False, True, False, True, True]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["000004", "000005"]


def test_the_summary_is_of_the_last_validation_with_intervals(run):
    summary = json.loads((run / "summary.json").read_text())
    last = RunFolder.open(run).read_metrics()[-1]
    for arm in ("with_skills", "without_skills"):
        result = summary["validation"][arm]
        assert result["success"] == last[f"validation/{arm}"]
        assert result["n"] == 10
        assert result["ci95"][0] <= result["success"] <= result["ci95"][1]
    difference = summary["validation"]["difference"]
    assert difference["mean"] == pytest.approx(last["validation/difference"])
    assert len(difference["ci95"]) == 2
    assert summary["bank"].keys() == {"task", "step"}
    assert summary["wall_seconds"] > 0 and summary["peak_memory_mb"] > 0
    assert summary["seed"] == 0 and re.match(r"\d+\.\d+", summary["version"])


def test_metrics_are_all_explained_in_the_docs(run, docs):
    named = {name for line in RunFolder.open(run).read_metrics() for name in line}
    explained = set(re.findall(r"`([\w/]+)`", (docs / "metrics.md").read_text()))
    assert named <= explained


def test_training_prints_progress_and_a_summary(capsys, tmp_path):
    main(["train", *SMALL, "--train.iterations", "2", "--out", str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert "iteration 1/2" in said and "skill half" in said and "mean utility" in said and "left" in said
    assert "with skills" in said and "without skills" in said and "paired difference" in said
    assert f"d2skill bank list {tmp_path / 'run'}" in said


def test_grpo_is_the_same_run_without_skills(tmp_path):
    out = tmp_path / "grpo"
    main(
        [
            "train",
            *SMALL,
            "--train.iterations",
            "1",
            "--config",
            "grpo",
            "--rollout.with-skills",
            "0",
            "--out",
            str(out),
        ]
    )
    summary = json.loads((out / "summary.json").read_text())
    assert summary["validation"]["with_skills"] is None and summary["validation"]["difference"] is None
    assert summary["bank"] == {"task": 0, "step": 0}


def test_training_stops_at_the_environment_steps_asked_for(tmp_path):
    out = tmp_path / "run"
    main(["train", *SMALL, "--train.iterations", "50", "--train.max-env-steps", "400", "--out", str(out)])
    steps = [line["env_steps"] for line in RunFolder.open(out).read_metrics()]
    assert steps[-2] < 400 <= steps[-1]


def evaluated(folder, *arguments):
    """Runs evaluate and returns what it writes."""
    path = folder / "evaluated.json"
    main(["evaluate", *map(str, arguments), "--json", str(path)])
    return json.loads(path.read_text())


def test_evaluate_repeats_the_panel_and_leaves_the_run_alone(run, capsys, tmp_path):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    found = evaluated(tmp_path, run)
    said = capsys.readouterr()
    assert "bank - none" in said.out and said.err == ""
    validated = json.loads((run / "summary.json").read_text())["validation"]
    for arm, validation in (("bank", "with_skills"), ("none", "without_skills")):
        assert validated[validation] == {name: found["arms"][arm][name] for name in ("success", "ci95", "n", "steps")}
    gap = found["differences"]["bank"]
    assert validated["difference"] == {name: gap["success"][name] for name in ("mean", "ci95")}
    assert (found["command"], found["iteration"], found["seeds"]) == (f"d2skill evaluate {run}", 5, [0])
    assert (found["split"], found["tasks"], found["temperature"]) == ("valid_seen", 10, 0.4)
    main(["evaluate", str(run), "--split", "valid_unseen", "--tasks", "4"])
    assert "valid_unseen: 4 tasks" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_an_evaluation_in_all_arms_can_be_made_again_from_its_outcomes(run, tmp_path):
    options = ("--arms", "none,bank,shuffled,task,step,top", "--seeds", 2, "--seed", 3, "--temperature", 1)
    found = evaluated(tmp_path, run, *options)
    assert found["command"].removeprefix(f"d2skill evaluate {run} ").split() == [
        *("--arms", "none,bank,shuffled,task,step,top", "--seeds", "2", "--seed", "3", "--temperature", "1.0")
    ]
    assert list(found["arms"]) == ["none", "bank", "shuffled", "task", "step", "top"] and found["seeds"] == [3, 4]
    panel = json.loads((run / "tasks.json").read_text())["validation"]["task_ids"]
    kept = found["outcomes"]
    assert [(one["arm"], one["seed"], one["task"]) for one in kept] == [
        (arm, seed, task) for arm in found["arms"] for seed in (3, 4) for task in panel
    ]
    for arm, told in found["arms"].items():
        own = [one for one in kept if one["arm"] == arm]
        assert told["success"] == sum(one["success"] for one in own) / 20
        assert told["steps"] == sum(one["steps"] for one in own) / 20
        assert (told["shown"] == 0) == (arm == "none") and told["generated_tokens"] is None
    assert set(found["types"]) == {one["kind"] for one in kept}


def test_the_figures_of_an_evaluation_can_be_made_again(run, tmp_path):
    found = evaluated(tmp_path, run, "--arms", "none,bank,top", "--seeds", 2)
    outcomes = [Outcome(**one) for one in json.loads((tmp_path / "evaluated.json").read_text())["outcomes"]]
    assert {name: found[name] for name in ("arms", "differences", "types")} == summarize_outcomes(outcomes)


def test_the_result_does_not_depend_on_how_many_processes_play(run, tmp_path):
    options = ("--arms", "none,bank,shuffled,top", "--seeds", 2, "--panel", "valid_unseen", "--tasks", 6)
    files = [tmp_path / "one.jsonl", tmp_path / "three.jsonl"]
    alone = evaluated(tmp_path, run, *options, "--workers", 1, "--trajectories", files[0])
    assert evaluated(tmp_path, run, *options, "--workers", 3, "--trajectories", files[1]) == alone
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [one.index for one in read(files[0])] == [member for member in range(8) for _ in range(6)]


def test_an_earlier_checkpoint_plays_with_the_bank_of_then(run, tmp_path, monkeypatch):
    found = evaluated(tmp_path, run / "checkpoints" / "000004")
    line = RunFolder.open(run).read_metrics()[4]
    assert (found["iteration"], found["run"]) == (4, str(run))
    assert found["arms"]["bank"]["success"] == line["validation/with_skills"]
    assert found["arms"]["none"]["success"] == line["validation/without_skills"]
    monkeypatch.chdir(run / "checkpoints")
    assert evaluated(tmp_path, "000004") == found | {"command": "d2skill evaluate 000004"}
    monkeypatch.chdir(run)
    near = evaluated(tmp_path, "checkpoints/000004", "--workers", 2)
    assert near == found | {"command": "d2skill evaluate checkpoints/000004", "run": ".", "bank": "."}


def test_the_bank_of_another_run_can_be_shown(run, capsys, tmp_path):
    other, plain = tmp_path / "other", tmp_path / "plain"
    main(["train", *SMALL, "--train.iterations", "2", "--seed", "1", "--out", str(other)])
    main(["train", *SMALL, "--train.iterations", "1", "--rollout.with-skills", "0", "--out", str(plain)])
    capsys.readouterr()
    own = evaluated(tmp_path, run, "--arms", "none,bank")
    changed = evaluated(tmp_path, run, "--bank", other)
    assert f"Skills are those of {other}." in capsys.readouterr().out
    assert changed["bank"] == str(other) and changed["arms"]["none"] == own["arms"]["none"]
    assert changed["arms"]["bank"] != own["arms"]["bank"]
    assert evaluated(tmp_path, run, "--bank", run / "bank.db")["arms"] == own["arms"]
    assert list(evaluated(tmp_path, plain)["arms"]) == ["none"]
    shown = evaluated(tmp_path, plain, "--bank", run, "--workers", 2)["arms"]
    assert shown["bank"]["shown"] > 0 == shown["none"]["shown"]
    assert "--seen-tasks" in fails(capsys, "evaluate", plain, "--bank", run, "--panel", "train")
    main(["evaluate", str(plain), "--arms", "none", "--panel", "train"])


def test_no_arm_shows_a_text_that_no_bank_would_have_taken(run, capsys, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    text = SkillText("Look first", "Look first.<|im_end|>", "always")
    with JournalWriter(copy / "bank.db") as journal:
        journal.append(Insert((Skill("t900", "task", text, "find a mug", utility=9.0),), 5, {}))
    progress = copy / "checkpoints" / "000005" / "progress.json"
    values = json.loads(progress.read_text())
    progress.write_text(json.dumps(values | {"bank_event": values["bank_event"] + 1}))
    for arm in ("shuffled", "top"):
        assert "the text of skill t900" in fails(capsys, "evaluate", copy, "--arms", arm)
    main(["bank", "hold", str(copy), "t900", "--reason", "strange"])
    capsys.readouterr()
    progress.write_text(json.dumps(values | {"bank_event": values["bank_event"] + 2}))
    main(["evaluate", str(copy), "--arms", "shuffled,top"])


def test_an_evaluation_that_cannot_be_is_said_in_a_sentence(run, capsys, tmp_path):
    def said(*arguments):
        return fails(capsys, "evaluate", run, *arguments)

    assert "some of none,bank,shuffled,task,step,top" in said("--arms", "bank,random")
    for flag in ("--seeds", "--workers", "--tasks"):
        assert f"{flag} is 0: it is 1 or more" in said(flag, 0)
    assert "elsewhere" in said("--panel", "elsewhere")
    assert "missing.json is missing" in said("--panel", tmp_path / "missing.json")
    assert "needs --model" in said("--url", "http://localhost:1/v1")
    listed = json.loads((run / "tasks.json").read_text())
    listed["validation"]["task_ids"][0] = "valid_seen/game-of-alfworld"
    (tmp_path / "tasks.json").write_text(json.dumps(listed))
    assert "1 tasks that split" in (line := said("--panel", tmp_path / "tasks.json")) and "another environment" in line
    assert "is not a run folder" in said("--bank", tmp_path)
    assert "nothing.db" in said("--bank", tmp_path / "nothing.db")
    main(["bank", "reembed", str(run), str(tmp_path / "other.db"), "--dimension", "64"])
    capsys.readouterr()
    assert "bank reembed" in said("--bank", tmp_path / "other.db")
    shutil.copytree(run, tmp_path / "early")
    shutil.rmtree(tmp_path / "early" / "checkpoints")
    assert "has no checkpoint" in fails(capsys, "evaluate", tmp_path / "early")
    assert "is not a run folder" in fails(capsys, "evaluate", tmp_path / "early" / "checkpoints" / "000004")


def test_a_run_on_data_of_a_relative_folder_is_evaluated_from_another(tmp_path, monkeypatch):
    games = tmp_path / "data"
    for split in ("train", "valid_seen"):
        for number in range(4):
            file = games / split / "pick_and_place_simple-Mug-None-Desk-1" / f"trial_{number}" / "game.tw-pddl"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(generate(HousesConfig(), split, number)))
    monkeypatch.chdir(tmp_path)
    few = ("--train.iterations", "1", "--rollout.tasks", "2", "--warm-start.tasks", "2")
    main(["train", "--env", "alfworld", "--data", "data", *few, "--out", "run"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    main(["evaluate", str(tmp_path / "run")])


def test_bank_commands_show_skills(run, capsys):
    main(["bank", "list", str(run)])
    listed = capsys.readouterr().out
    skill = re.search(r"\b[st]\d+\b", listed).group()
    main(["bank", "show", str(run), skill])
    shown = capsys.readouterr().out
    assert "when to apply" in shown and "utility" in shown and "train/" in shown
    assert "s99999" in fails(capsys, "bank", "show", run, "s99999")


def test_config_commands(capsys, tmp_path):
    main(["config", "list"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("laptop", "grpo", "laptop-lm", "alfworld-paper", "webshop", "webshop-paper"))
    main(["config", "show", "alfworld-paper"])
    file = tmp_path / "own.toml"
    file.write_text(capsys.readouterr().out)
    assert load(str(file)) == load("alfworld-paper")
    main(["config", "show"])
    assert load("laptop") == Config()


def test_the_step_size_suits_the_policy_unless_it_is_set(run):
    assert RunFolder.open(run).config().optim.learning_rate == 0.01
    language_model = Config.model_validate({"policy": {"kind": "causal-lm"}, "warm_start": {"learning_rate": 0.5}})
    assert language_model.resolved().optim.learning_rate == 1e-6
    assert language_model.resolved().warm_start.learning_rate == 0.5


def test_resuming_a_finished_run_shows_its_summary(run, capsys):
    before = (run / "summary.json").read_text()
    main(["resume", str(run)])
    assert "has ended" in capsys.readouterr().out
    assert (run / "summary.json").read_text() == before


def test_a_past_state_of_the_bank_is_shown(run, capsys):
    early, late = read_bank(run, at=0).skills, read_bank(run).skills
    assert 0 < len(early) < len(late)
    main(["bank", "list", str(run), "--at", "0", "--status", "all"])
    said = capsys.readouterr().out
    assert all(skill.id in said for skill in early)
    assert late[-1].id not in said
    assert "s99999" in fails(capsys, "bank", "show", run, "s99999", "--at", 1)


def test_a_bank_is_verified_and_salvaged(run, capsys, tmp_path):
    main(["bank", "verify", str(run)])
    said = capsys.readouterr().out
    assert re.search(r"bank\.db is whole: \d+ events up to iteration 4", said)
    tasks = json.loads((run / "tasks.json").read_text())
    skills = read_bank(run)
    written = len({source_task(skill.source_task) for skill in skills.skills})
    source = f"trajectories of {written} tasks ({written} of train)"
    assert f"Its {len(skills.skills)} skills were written from {source}." in said
    seen = len(skills.state.credited_tasks)
    assert f"Their signals are from {seen} tasks ({seen} of {tasks['training']['split']})." in said
    assert "None of these tasks is in the run's validation panel." in said and "Every text is one" in said
    damaged = tmp_path / "bank.db"
    shutil.copy(run / "bank.db", damaged)
    with sqlite3.connect(damaged) as connection:
        connection.execute("UPDATE events SET iteration = 7 WHERE seq = 3")
    assert "`d2skill bank salvage`" in fails(capsys, "bank", "verify", damaged)
    main(["bank", "salvage", str(damaged), str(tmp_path / "saved.db")])
    assert "2 events kept" in capsys.readouterr().out
    main(["bank", "verify", str(tmp_path / "saved.db")])


def test_the_audit_names_skills_from_tasks_of_the_panel(run, capsys, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    skill = read_bank(run).skills[0]
    tasks = json.loads((copy / "tasks.json").read_text())
    tasks["validation"]["task_ids"].append(skill.source_task)
    (copy / "tasks.json").write_text(json.dumps(tasks))
    main(["bank", "verify", str(copy)])
    found = f"validation panel: 1 of these tasks, {skill.source_task}; skills concerned: {skill.id}"
    assert f"In the run's {found}" in capsys.readouterr().out
    main(["bank", "verify", str(run), "--panel", str(copy / "tasks.json")])
    assert f"In the {found.replace(':', f' of {copy}/tasks.json:', 1)}" in capsys.readouterr().out
    assert "is missing" in fails(capsys, "bank", "verify", run, "--panel", tmp_path / "none.json")


@pytest.mark.parametrize("kind", ["jsonl", "release", "skill-md"])
def test_a_bank_goes_out_and_in(run, capsys, tmp_path, kind):
    main(["bank", "export", str(run), str(tmp_path / "out"), "--format", kind, "--evicted"])
    main(["bank", "import", str(tmp_path / "out"), str(tmp_path / "in.db"), "--run", str(run)])
    skills = {skill.id: skill for skill in read_bank(run).skills}
    taken = {skill.id: skill for skill in read_bank(tmp_path / "in.db").skills}
    assert taken and taken.items() <= skills.items()
    assert "exists" in fails(capsys, "bank", "import", tmp_path / "out", tmp_path / "in.db")
    main(["bank", "import", str(run), str(tmp_path / "copy.db")])
    assert {skill.id for skill in read_bank(tmp_path / "copy.db").skills} == taken.keys()


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", [[], ["train"], ["resume"], ["evaluate"], ["bank", "list"], ["check-env"]])
def test_help_teaches(command, flag, capsys):
    try:
        main([*command, flag])
    except SystemExit as ended:
        assert ended.code == 0
    assert "d2skill" in capsys.readouterr().out


def test_check_env_says_what_is_wrong(capsys):
    main(["check-env", "houses"])
    assert "WRONG" not in capsys.readouterr().out


# Bad input: one sentence that names it and the way out, status 2, nothing half-written.


def test_unknown_settings_and_values_out_of_range(capsys, tmp_path):
    assert "bank.task_capacity = 0" in fails(capsys, "train", "--bank.task-capacity", 0)
    assert "rollout.with_skills is 9" in fails(capsys, "train", "--rollout.with-skills", 9)
    file = tmp_path / "own.toml"
    file.write_text("[bank]\ncapacty = 3\n")
    said = fails(capsys, "train", "--config", file)
    assert "bank.capacty" in said and str(file) in said
    file.write_text("[bank\n")
    assert "not valid TOML" in fails(capsys, "train", "--config", file)
    assert "neither a preset" in fails(capsys, "train", "--config", "nope")
    with pytest.raises(SystemExit) as ended:
        main(["train", "--bank.capacty", "3"])
    assert ended.value.code == 2


def test_unknown_commands_and_folders(capsys, tmp_path):
    assert '"fly"' in fails(capsys, "fly")
    for command in (("resume",), ("evaluate",), ("bank", "list")):
        assert "run folder" in fails(capsys, *command, tmp_path / "nowhere")


def test_missing_empty_and_foreign_data(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    out = tmp_path / "run"
    train = ("train", "--env", "alfworld", "--out", out)
    assert "$ALFWORLD_DATA" in fails(capsys, *train)
    assert str(tmp_path / "none") in fails(capsys, *train, "--data", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in fails(capsys, *train, "--data", tmp_path / "empty")
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    assert "$WEBSHOP_DATA" in fails(capsys, "train", "--env", "webshop", "--out", out)
    assert '"webshelf"' in fails(capsys, "train", "--env", "webshelf", "--out", out)
    assert "no_such_module" in fails(capsys, "train", "--env", "no_such_module:Thing", "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [("{", "game.tw-pddl"), ('{"solvable": true, "grammar": ""}', "grammar"), ("[]", "game.tw-pddl")],
)
def test_broken_game_files(content, named, capsys, tmp_path):
    for split in ("train", "valid_seen"):
        game = tmp_path / "json_2.1.1" / split / "pick_and_place_simple-Mug-None-Desk-1" / "trial_1" / "game.tw-pddl"
        game.parent.mkdir(parents=True)
        game.write_text(content)
    said = fails(capsys, "train", "--env", "alfworld", "--data", tmp_path, "--out", tmp_path / "run")
    assert named in said
    assert not (tmp_path / "run").exists()


def test_training_never_sees_the_panel(capsys, tmp_path):
    """Not even when both are drawn from one split."""
    out = tmp_path / "run"
    main(["train", *SMALL, "--env.validation-split", "train", "--train.iterations", "2", "--out", str(out)])
    panel = set(json.loads((out / "tasks.json").read_text())["validation"]["task_ids"])
    evidence = {skill.source_task for skill in read_bank(out).skills}
    assert len(panel) == 10 and not panel & evidence
    same = ("--env.validation-split", "train", "--validation.tasks", 500)
    assert '"train" has no tasks to train on' in fails(capsys, "train", *SMALL, *same, "--out", tmp_path / "other")


def test_the_tasks_of_one_run_serve_another(run, capsys, tmp_path):
    out = tmp_path / "run"
    listed = json.loads((run / "tasks.json").read_text())
    listed["training"]["task_ids"] = listed["training"]["task_ids"][:6]
    listed["validation"]["task_ids"] = listed["validation"]["task_ids"][:4]
    (tmp_path / "tasks.json").write_text(json.dumps(listed))
    main(["train", *SMALL, "--env.tasks", str(tmp_path / "tasks.json"), "--train.iterations", "1", "--out", str(out)])
    assert json.loads((out / "tasks.json").read_text()) == listed
    assert json.loads((out / "summary.json").read_text())["validation"]["without_skills"]["n"] == 4
    result = tmp_path / "result.json"
    main(["evaluate", str(run), "--panel", str(out / "tasks.json"), "--json", str(result)])
    assert json.loads(result.read_text())["arms"]["none"]["n"] == 4
    assert "--panel already says" in fails(capsys, "evaluate", run, "--panel", out / "tasks.json", "--tasks", 3)


def type_in(monkeypatch, *lines):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("".join(f"{line}\n" for line in lines).encode())))


def test_a_person_plays_a_house_and_sees_it_again(capsys, monkeypatch, tmp_path):
    way = generate(HousesConfig(), "train", 7)["walkthrough"]
    saved = tmp_path / "mine.jsonl.gz"
    type_in(monkeypatch, "inventory", "undo", *way)
    main(["play", "train/0007", "--save", str(saved)])
    said = capsys.readouterr().out
    assert f"After {len(way)} steps: won." in said
    assert re.search(r"The shortest plan takes [4-9] steps", said)
    main(["play", "--replay", str(saved)])
    again = capsys.readouterr().out
    assert all(f"{number} > {action}" in again for number, action in enumerate(way, start=1))
    assert f"After {len(way)} steps: won." in again


def test_what_an_agent_did_is_shown(run, capsys):
    main(["play", "--replay", str(run)])
    said = capsys.readouterr().out
    assert said.count("valid_seen/") == 20 and "--number" in said
    played = read(run / "trajectories.jsonl.gz")
    number = next(n for n, one in enumerate(played, start=1) if any(turn.skills for turn in one.turns))
    main(["play", "--replay", str(run), "--number", str(number)])
    said = capsys.readouterr().out
    assert f"{len(played[number - 1].turns)} > {played[number - 1].turns[-1].action}" in said
    assert re.search(r"skills: [st]\d+ \(", said), "a skill has its title"
    assert "--number may" not in said


def test_the_last_validation_is_kept(run):
    played = read(run / "trajectories.jsonl.gz")
    summary = json.loads((run / "summary.json").read_text())["validation"]
    for arm, name in (("skills", "with_skills"), ("none", "without_skills")):
        half = [one for one in played if one.arm == arm]
        assert sum(one.success for one in half) / len(half) == summary[name]["success"]


def test_the_episodes_of_training_are_kept(run):
    lines = RunFolder.open(run).read_metrics()
    assert RunFolder.open(run).kept_rollouts() == list(range(5))
    for iteration in range(5):
        played = read(RunFolder.open(run).rollout(iteration))
        assert [one.index for one in played] == [0, 1, 2, 3] * 3
        assert [one.arm for one in played] == ["skills", "skills", "none", "none"] * 3
        tasks = [one.task.id for one in played]
        assert tasks[::4] == tasks[3::4] and len(set(tasks)) == 3
        line = lines[iteration + 1]
        for arm, half in (("skills", "skill_half"), ("none", "baseline_half")):
            assert sum(one.success for one in played if one.arm == arm) / 6 == line[f"rollout/{half}_success"]
        assert sum(len(one.turns) for one in played) == line["env_steps"] - lines[iteration]["env_steps"]


def test_keeping_episodes_can_be_left_off_and_changes_nothing_else(run, capsys, tmp_path):
    out = tmp_path / "run"
    main(["train", *SMALL, "--train.iterations", "5", "--train.no-keep-rollouts", "--out", str(out)])
    assert not (out / "rollouts").exists() and not RunFolder.open(out).config().train.keep_rollouts

    def without_times(folder):
        lines = RunFolder.open(folder).read_metrics()
        return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]

    assert without_times(out) == without_times(run) and read_bank(out) == read_bank(run)
    said = fails(capsys, "play", "--replay", out, "--iteration", 2)
    assert str(out) in said and "train.keep_rollouts is off" in said
    skill = read_bank(out).skills[0].id
    main(["bank", "show", str(out), skill])
    main(["bank", "blame", str(out), skill])
    said = capsys.readouterr().out
    assert "training" not in said and "--iteration" not in said


def test_what_an_agent_did_in_training_is_shown(run, capsys):
    main(["play", "--replay", str(run), "--iteration", "2"])
    said = capsys.readouterr().out
    assert said.count("train/") == 12 and "--member" in said
    for one in read(RunFolder.open(run).rollout(2)):
        main(["play", "--replay", str(run), "--iteration", "2", one.task.id, "--member", str(one.index)])
        said = capsys.readouterr().out
        assert f"{one.task.id}, with{'' if one.arm == 'skills' else 'out'} skills" in said
        assert f"{len(one.turns)} > {one.turns[-1].action}" in said
    main(["play", "--replay", str(run), "--iteration", "2", "--number", "12"])
    assert capsys.readouterr().out == said


def test_training_episodes_that_are_not_there_are_told_in_words(run, capsys, tmp_path):
    task = read(RunFolder.open(run).rollout(2))[0].task.id
    replay = ("play", "--replay", run, "--iteration", 2)
    said = fails(capsys, *replay, task)
    assert "there are 4 of them" in said and "--member, which may be 0, 1, 2, 3" in said
    assert "--member may be 0, 1, 2, 3" in fails(capsys, *replay, task, "--member", 4)
    assert 'none of task "train/9999"' in fails(capsys, *replay, "train/9999", "--member", 0)
    for iteration in (5, -1):
        said = fails(capsys, "play", "--replay", run, "--iteration", iteration)
        assert f"{run} keeps training episodes of iterations 0 to 4: there are none of {iteration}" in said
    file = RunFolder.open(run).rollout(2)
    assert f"{file} is a file" in fails(capsys, "play", "--replay", file, "--iteration", 2)
    assert "is not a run folder" in fails(capsys, "play", "--replay", tmp_path / "none", "--iteration", 2)
    for flag in ("--iteration", "--member"):
        assert f"{flag} tells" in fails(capsys, "play", flag, 2)


def test_a_run_that_keeps_only_some_episodes_says_which(run, capsys, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for iteration in (0, 2):
        RunFolder.open(copy).rollout(iteration).unlink()
    assert "iterations 1, 3 to 4: there are none of 2" in fails(capsys, "play", "--replay", copy, "--iteration", 2)
    shutil.rmtree(copy / "rollouts")
    assert "from before they were kept" in fails(capsys, "play", "--replay", copy, "--iteration", 2)
    RunFolder.open(copy).rollouts.mkdir()
    RunFolder.open(copy).rollout(2).write_bytes(RunFolder.open(run).rollout(2).read_bytes()[:-9])
    assert "000002.jsonl.gz is damaged" in fails(capsys, "play", "--replay", copy, "--iteration", 2)


def test_skills_are_not_tested_on_the_tasks_they_are_from(run, capsys):
    assert "--seen-tasks" in fails(capsys, "evaluate", run, "--split", "train")
    main(["evaluate", str(run), "--split", "train", "--tasks", "10", "--seen-tasks"])
    assert "--seen-tasks" in fails(capsys, "evaluate", run, "--split", "train", "--arms", "bank")


def test_an_evaluation_can_be_kept(run, tmp_path):
    path = tmp_path / "played.jsonl"
    main(["evaluate", str(run), "--split", "test_seen", "--tasks", "3", "--trajectories", str(path)])
    assert [one.task.split for one in read(path)] == ["test_seen"] * 6


def test_houses_are_written_played_and_trained_on(capsys, monkeypatch, tmp_path):
    out = tmp_path / "data"
    main(["houses", str(out), "--count", "8", "--panel", "3", "--seed", "5", "--receptacles", "12"])
    assert "8 in train, 3 in valid_seen, 3 in valid_unseen" in capsys.readouterr().out
    game = next(out.rglob("game.tw-pddl"))
    way = json.loads(game.read_text())["walkthrough"]
    type_in(monkeypatch, *way)
    main(["play", str(game)])
    assert f"After {len(way)} steps: won." in capsys.readouterr().out
    alfworld = ("--env", "alfworld", "--data", str(out), "--warm-start.tasks", "4", "--train.iterations", "1")
    main(["train", *SMALL, *alfworld, "--out", str(tmp_path / "run")])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["validation"]["without_skills"]["n"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["play", "train/9999"], "numbers go from 0 to 479"),
        (["play", "nowhere"], "nowhere"),
        (["play", "--split", "elsewhere"], "elsewhere"),
        (["play", "--number", "3"], "--replay"),
        (["play", "--save", "no/such/folder/t.jsonl"], "no/such/folder"),
        (["play", "--replay", "missing.jsonl"], "missing.jsonl"),
        (["play", "--replay", "."], "is not a run folder"),
        (["houses", "."], "is not empty"),
        (["houses", "new", "--count", "0"], "ask for 1 or more"),
        (["houses", "new", "--receptacles", "3"], "receptacles"),
    ],
)
def test_what_cannot_be_played_or_written_is_told_in_words(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note").write_text("mine")
    assert said in fails(capsys, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_folder_in_the_way_is_left_alone(capsys, tmp_path):
    (tmp_path / "note").write_text("mine")
    said = fails(capsys, "train", *SMALL, "--out", tmp_path)
    assert "not empty" in said and "--out" in said
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_full_disk(capsys, tmp_path):
    """A limit on the size of files stands in for a disk that is full at the first checkpoint."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "run"
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        said = fails(capsys, "train", *SMALL, "--train.iterations", "2", "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(out) in said and "make room" in said
    assert not out.exists()


def test_a_disk_that_fills_up_later_loses_nothing(capsys, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    class Display(LiveDisplay):
        def log(self, metrics):
            super().log(metrics)
            if metrics["iteration"] == 3:
                monkeypatch.setattr("d2skill.utils.atomic_files.os.replace", full)

    monkeypatch.setattr("d2skill.cli.train.LiveDisplay", Display)
    said = fails(capsys, "train", *SMALL, "--train.iterations", "5", "--out", out)
    assert "No space left on device" in said and f"d2skill resume {out}" in said
    monkeypatch.undo()
    main(["resume", str(out)])
    assert (out / "summary.json").exists()
    assert [line["iteration"] for line in RunFolder.open(out).read_metrics()] == [0, 1, 2, 3, 4, 5]


def test_a_checkpoint_of_another_version(run, capsys, tmp_path):
    progress = run / "checkpoints" / "000005" / "progress.json"
    text = progress.read_text()
    progress.write_text(text.replace('"version": 2', '"version": 99'))
    try:
        assert "version 99" in fails(capsys, "evaluate", run)
    finally:
        progress.write_text(text)


# the first screens


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["trian"], "train"),
        (["bank", "lst"], "bank list"),
        (["bank", "blam", "runs/a"], "bank blame"),
        (["serch"], "bank search"),
        (["config", "shwo"], "config show"),
    ],
)
def test_a_command_that_is_nearly_right_is_named(words, meant, capsys):
    assert f"did you mean `d2skill {meant}`?" in fails(capsys, *words)


def test_what_is_nothing_like_a_command_gets_the_list(capsys):
    assert "`d2skill --help` lists them" in fails(capsys, "xyzzy")
    assert "`d2skill bank --help` lists them" in fails(capsys, "bank", "xyzzy")


def helped(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_train_shows_the_flags_that_matter_and_how_to_see_all(capsys):
    said = helped(capsys, "train", "--help")
    flags = re.findall(r"^  (--[a-z.-]+) ", said, re.M)
    assert (
        len(flags) == 13
        and flags[:2] == ["--resume-if-begun", "--config"]
        and "--train.iterations" in flags
        and flags[-1] == "--json"
    )
    assert "(default: 160)" in said and "d2skill train --seed 1" in said and len(said.splitlines()) < 50
    assert "--help-all` shows all" in said
    everything = helped(capsys, "train", "--help-all")
    assert all(flag in everything for flag in flags) and "--bank.worth" in everything
    assert "(default: webshop)" in helped(capsys, "train", "--help", "--config", "webshop")


@pytest.mark.parametrize(("command", "own"), [("plan", "--gpu"), ("ablate", "--seeds"), ("houses", "OUT")])
def test_commands_made_of_settings_show_their_own_flags_first(command, own, capsys):
    said = helped(capsys, command, "--help")
    assert said.index(f"  {own} ") < said.index("  --config ") and f"`d2skill {command} --help-all`" in said
    assert own in helped(capsys, command, "--help-all")


def test_half_of_a_group_has_skills_if_its_size_alone_is_given():
    def halves(*flags):
        rollout = cli_flags.parse_settings(flags, "d2skill train").rollout
        return rollout.group_size, rollout.with_skills

    assert halves("--rollout.group-size", "2") == (2, 1) and halves("--rollout.group-size=12") == (12, 6)
    assert halves("--rollout.group-size", "6", "--rollout.with-skills", "1") == (6, 1)
    assert halves("--config", "grpo", "--rollout.group-size", "6") == (6, 0)
    assert halves() == (8, 4) and Config(rollout={"group_size": 4}).rollout.with_skills == 2


@pytest.mark.parametrize(
    "words", ["bank show RUN t1", "bank stats RUN", "bank list RUN", "evaluate RUN", "compare RUN", "play --replay RUN"]
)
def test_a_terminal_without_unicode_loses_nothing(words, run):
    command = [sys.executable, "-m", "d2skill", *(str(run) if word == "RUN" else word for word in words.split())]
    wide, narrow = (
        subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True)
        for encoding in ("utf-8", "ascii")
    )
    assert wide.returncode == narrow.returncode == 0 and not narrow.stderr and narrow.stdout.isascii()
    never_fail(io.TextIOWrapper(io.BytesIO(), "ascii"))
    expected = wide.stdout.decode().encode("ascii", "d2skill")  # tables have other lines, so words are compared
    assert re.findall(rb"[\w.,()/%]+", expected) == re.findall(rb"[\w.,()/%]+", narrow.stdout)


def test_symbols_have_ascii_ones_and_letters_their_code():
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    never_fail(stream)
    stream.write("a ± b → │▁█│ é")
    stream.flush()
    assert stream.buffer.getvalue() == b"a +- b -> |18| \\xe9"
