"""The display: every number is there in a narrow terminal, in a pipe and in ASCII; the end says what to do next."""

import io
import json
import re

import pytest
from commands import SMALL
from rich.console import Console
from toys import tiny_config

from d2skill import api
from d2skill.cli.main import main
from d2skill.runs.folder import RunFolder
from d2skill.trackers.terminal import LiveDisplay, print_summary

CONFIG = tiny_config(train={"iterations": 160})
LINES = [
    {"iteration": 0, "env_steps": 0, "bank/task": 0, "bank/step": 0, "bank/mean_utility": 0.0, "time/seconds": 10.0}
    | {"validation/with_skills": 0.125, "validation/without_skills": 0.25},
    {"iteration": 10, "env_steps": 4000, "bank/task": 1, "bank/step": 12, "bank/mean_utility": 0.0625}
    | {"rollout/skill_half_success": 0.0, "rollout/baseline_half_success": 0.5, "time/seconds": 35.0},
    {"iteration": 20, "env_steps": 9000, "bank/task": 3, "bank/step": 1234, "bank/mean_utility": -0.125}
    | {"rollout/skill_half_success": 1.0, "rollout/baseline_half_success": 0.4375, "time/seconds": 60.0}
    | {"validation/with_skills": 0.875, "validation/without_skills": 0.625},
]
SHOWN = [
    "20/160",
    "100.0 %",
    "43.8 %",
    "3 task",
    "1234 step",
    "-0.125",
    "87.5 % with",
    "62.5 % without",
    "iteration 20",
]
SHOWN += ["1 min 0 s", "5 min 50 s", "180"]
SUMMARY = {
    "validation": {
        "with_skills": {"success": 0.875, "ci95": [0.8123, 0.9234], "n": 128, "steps": 11.4},
        "without_skills": {"success": 0.625, "ci95": [0.5123, 0.7234], "n": 128, "steps": 13.9},
        "difference": {"mean": 0.25, "ci95": [-0.1234, 0.3456]},
    },
    "bank": {"task": 1, "step": 1234},
    "iterations": 1,
    "env_steps": 98765,
    "wall_seconds": 7325.0,
    "peak_memory_mb": 123.0,
}
NUMBERS = ["87.5", "81.2 to 92.3", "128", "11.4", "62.5", "51.2 to 72.3", "13.9", "+25.0", "-12.3 to +34.6"]
NUMBERS += ["1 task skill,", "1,234 step skills", "1 iteration,", "98,765 environment steps", "2 h 2 min", "123 MB"]


def displayed(tmp_path, lines=LINES, **options):
    file = io.TextIOWrapper(io.BytesIO(), options.pop("encoding", "utf-8"))
    console = Console(file=file, **options)
    with LiveDisplay(CONFIG, console, tmp_path / "my run") as display:
        for line in lines:
            display.log(line)
    file.flush()
    return file.buffer.getvalue().decode(file.encoding)


def test_a_run_that_goes_on_shows_its_last_validation(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    with LiveDisplay(CONFIG, console, tmp_path, LINES[:1]) as display:
        display.log(LINES[1])
    assert "12.5 % with, 25.0 % without skills (iteration 0)" in console.file.getvalue()
    assert "warm start" not in console.file.getvalue()


def unwrapped(text):
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).split())


@pytest.mark.parametrize("options", [{"force_terminal": True}, {"force_terminal": False}])
@pytest.mark.parametrize("width", [60, 120])
def test_no_number_is_lost_in_a_narrow_terminal_or_a_pipe(tmp_path, options, width):
    said = unwrapped(displayed(tmp_path, width=width, **options))
    for part in [*SHOWN, "toys:TreasureEnvironment", "my run"]:
        assert part in said, part
    if not options["force_terminal"]:
        (line,) = [one for one in displayed(tmp_path, width=width, **options).splitlines() if "20/160" in one]
        assert all(part in line for part in SHOWN), "one line an iteration, which grep finds"


def test_both_halves_have_a_curve(tmp_path):
    said = unwrapped(displayed(tmp_path, width=80, force_terminal=True))
    assert "100.0 % ▁█" in said and "43.8 % ▅▄" in said
    many = [
        LINES[1] | {"iteration": n, "time/seconds": n, "rollout/skill_half_success": n / 160} for n in range(1, 161)
    ]
    said = unwrapped(displayed(tmp_path, many, width=60, force_terminal=True))
    curve = said.split("skill half 100.0 % ")[1].split()[0]
    assert len(curve) == 32 and list(curve) == sorted(curve) and {"▁", "█"} <= {*curve}


@pytest.mark.parametrize("terminal", [True, False])
def test_an_ascii_terminal_gets_ascii(tmp_path, terminal):
    said = displayed(tmp_path, width=80, force_terminal=terminal, encoding="ascii")  # anything else raises here
    assert all(part in unwrapped(said) for part in SHOWN)
    file = io.TextIOWrapper(io.BytesIO(), "ascii")
    print_summary(Console(file=file, width=80), SUMMARY, LINES, [], tmp_path)
    file.flush()
    said = file.buffer.getvalue().decode()
    assert "skill half" in said and "_# 0.0 % to 100.0 %" in said


def test_the_end_has_every_number_in_60_columns_and_says_what_is_next(tmp_path, capsys):
    file = io.StringIO()
    print_summary(Console(file=file, width=60), SUMMARY, LINES, [], tmp_path / "my run")
    text = file.getvalue()
    for part in NUMBERS:
        assert part in text, part
    assert "▁█ 0.0 % to 100.0 %" in text and "▅▄ 50.0 % to 43.8 %" in text
    for verb in ("bank list", "evaluate", "play --replay", "compare"):
        assert f"d2skill {verb} '{tmp_path / 'my run'}'" in text


def test_what_is_next_works(tmp_path, capsys):
    run = tmp_path / "run"
    main(["train", *SMALL, "--train.iterations", "1", "--out", str(run)])
    said = capsys.readouterr().out
    commands = re.findall(r"^  d2skill (.*?)  ", said.replace("OTHER", str(run)), re.MULTILINE)
    assert len(commands) == 4
    for words in commands:
        if words.split()[0] in ("bank", "evaluate"):  # play asks for keys, and compare for another run
            main(words.split())
    assert "Traceback" not in capsys.readouterr().err


def test_json_is_alone_on_stdout(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--train.iterations", "1", "--out", str(run), "--track", "tensorboard", "--json"]
    main(["train", *SMALL, *words])
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert record == {"run": str(run), **api.Run(run).summary, "held": [], "flagged": {}}
    assert "iteration 1/1" in err
    main(["resume", str(run), "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out) == record and "has ended" in err
    assert RunFolder(run).read_metrics()[-1]["iteration"] == 1


def test_a_long_imitation_is_told_once_a_minute(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("d2skill.trackers.terminal.monotonic", lambda: now[0])
    file = io.StringIO()
    with LiveDisplay(CONFIG, Console(file=file), tmp_path / "run") as display:
        for step in range(1, 41):
            now[0] += 10
            display.imitation_step(step, 40)
    told = re.findall(r"imitation, step (\d+) of 40", file.getvalue())
    assert told == ["6", "12", "18", "24", "30", "36"]


def test_training_tells_the_trackers_of_each_step_of_imitation(tmp_path):
    class Steps:
        def __init__(self):
            self.told = []

        def log(self, metrics):
            pass

        def imitation_step(self, step, steps):
            self.told.append((step, steps))

    pytest.importorskip("torch")
    model = {"kind": "causal-lm", "lm": {"hidden_size": 32, "layers": 2, "heads": 2}}
    imitation = {"tasks": 2, "epochs": 2, "minibatch_rows": 4}
    house = {"kind": "houses", "max_steps": 20}
    config = tiny_config(env=house, policy=model, train={"iterations": 1}, warm_start=imitation)
    api.train(config, folder=tmp_path / "run", trackers=[tracker := Steps()])
    steps = len(tracker.told)
    assert steps > 1 and tracker.told == [(step, steps) for step in range(1, steps + 1)]
