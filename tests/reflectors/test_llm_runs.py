"""Runs whose reflector is a model: beside the update, kept, killed and resumed; and what they say before they start."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from chat_server import ChatServer, _digest
from toys import tiny_config

from d2skill.bank.journal import Insert, Journal
from d2skill.bank.safety import objection
from d2skill.cli.bank.open import read
from d2skill.cli.main import main
from d2skill.components import Components, restore
from d2skill.config import Config
from d2skill.config.toml_files import dump
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.trainer import Trainer
from d2skill.utils.atomic_files import write_text

KINDS = "ok prose ok invented ok hostile truncated ok language 500 ok null".split()


def mixed(number, body):
    """What a server does that decides by the question alone."""
    return KINDS[_digest(body) // 11 % len(KINDS)]


@pytest.fixture(autouse=True)
def keyless(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def config(server, **sections):
    endpoint = {"model": "toy", "url": server.url, "retries": 0}
    reflect = {"kind": "llm", "endpoint": endpoint} | sections.pop("reflect", {})
    return tiny_config(**({"reflect": reflect, "bank": {"skills": "paper"}} | sections))


def train(folder, settings):
    components = Components.make(settings)
    Trainer(settings, folder, components).start()
    return components


def metrics(run):
    lines = RunFolder(run).read_metrics()
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]


def calls(run):
    return [line | {"seconds": 0} for line in RunFolder(run).read_reflections()]


# beside the update


def test_questions_are_asked_before_the_update_ends_and_answers_are_in_the_bank_after_it(tmp_path):
    updated = threading.Event()
    with ChatServer(before=lambda number, body: updated.wait(60)) as server:
        settings = config(server, train={"iterations": 1})
        components = Components.make(settings)
        update = components.policy.update

        def slow_update(rows, seed):
            assert server.wait_for(1), "a question is on its way"
            assert len(components.bank) == 0
            updated.set()
            return update(rows, seed)

        components.policy.update = slow_update
        Trainer(settings, tmp_path / "run", components).start()
    assert len(components.bank) > 0
    last = RunFolder(tmp_path / "run").read_metrics()[-1]
    assert last["reflect/calls"] > 0 and last["time/reflect"] > 0


def test_a_run_keeps_every_call_and_reports_them(tmp_path):
    with ChatServer(mixed) as server:
        components = train(tmp_path / "run", config(server, train={"iterations": 6}))
        kept, lines = calls(tmp_path / "run"), metrics(tmp_path / "run")
        assert len(kept) == server.count() > 10, "the warm start asks nothing"
    assert len(kept) == sum(line.get("reflect/calls", 0) for line in lines)
    assert sum(line.get("reflect/tokens", 0) for line in lines) == sum(c["tokens_in"] + c["tokens_out"] for c in kept)
    assert list(kept[0]) == (
        "iteration task member attempt messages answer tokens_in tokens_out seconds outcome".split()
    )
    assert [c["iteration"] for c in kept] == sorted(c["iteration"] for c in kept)
    assert {c["outcome"].partition(":")[0] for c in kept} >= {"used", "asked again", "failed"}
    assert kept[0]["messages"][1]["content"].startswith("The task: ")
    assert all(objection(skill.text) == "" for skill in components.bank.skills())
    inserts = [e for _, e in Journal(tmp_path / "run" / "bank.db").events() if isinstance(e, Insert)]
    assert {(e.origin["reflector"], e.origin["model"]) for e in inserts} == {("llm reflector", "toy")}
    assert "toy" in (tmp_path / "run" / "config.toml").read_text()


def test_a_run_by_contrast_reports_nothing_of_it(tmp_path):
    train(tmp_path / "run", tiny_config(train={"iterations": 1}))
    own = ("reflect/", "time/reflect")
    assert not any(name.startswith(own) for line in RunFolder(tmp_path / "run").read_metrics() for name in line)
    assert not RunFolder(tmp_path / "run").reflections.exists()


def test_the_same_run_twice_is_the_same_whatever_the_timing(tmp_path):
    runs = []
    with ChatServer(mixed) as server:
        for concurrency in (1, 8):
            reflect = {"endpoint": {"model": "toy", "url": server.url, "retries": 0, "concurrency": concurrency}}
            run = tmp_path / str(concurrency)
            train(run, config(server, reflect=reflect))
            runs.append((metrics(run), calls(run), read(run)))
    assert runs[0] == runs[1]


def test_an_error_in_the_reflector_ends_the_run(tmp_path, monkeypatch):
    with ChatServer() as server:
        settings = config(server)
        components = Components.make(settings)
        monkeypatch.setattr(components.reflector, "_ask", lambda chat, one: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            Trainer(settings, tmp_path / "run", components).start()
        assert checkpoint.latest(tmp_path / "run")


# killed and resumed


def command(*arguments):
    return [sys.executable, "-m", "d2skill", *map(str, arguments)]


def started(run, settings):
    file = run.with_suffix(".toml")
    write_text(file, dump(settings))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    arguments = command("train", "--config", file, "--out", run)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # what a shell runs in the background ignores interrupts, and so would this, which is started by that
    return subprocess.Popen(arguments, env=environment, preexec_fn=_interruptible, **pipes)


def _interruptible():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_run_that_is_killed_and_resumed_asks_and_spends_the_same(tmp_path):
    with ChatServer(mixed) as server:
        settings = config(server, train={"iterations": 8, "checkpoint_every": 3}, reflect={"max_calls": 16})
        train(tmp_path / "whole", settings)
        run = tmp_path / "cut"
        process = started(run, settings)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None and len(RunFolder(run).read_metrics()) < 6:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with RunFolder(run).reflections.open("a") as file:
            file.write('{"iteration": 4, "messages": [{"ro')
        components, progress = restore(settings, checkpoint.latest(run))
        assert 0 < progress.iteration < 8
        Trainer(settings, run, components).resume(progress)
    assert metrics(run) == metrics(tmp_path / "whole")
    assert calls(run) == calls(tmp_path / "whole")
    assert read(run) == read(tmp_path / "whole")
    assert sum(line.get("reflect/calls", 0) for line in metrics(run)) == 16
    assert metrics(run)[-1]["reflect/fallback"] > 0, "the budget ended in a later life"


def test_an_interrupt_is_not_held_up_by_a_server_that_says_nothing(tmp_path):
    with ChatServer("hang") as server:
        process = started(tmp_path / "run", config(server))
        assert server.wait_for(1)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"interrupted: go on by" in said.replace(b"\n", b" ")


# what it says


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert ended.value.code == 2
    return capsys.readouterr().err.replace("\n", " ")


TRAIN = ["train", "--env", "toys:TreasureEnvironment", "--reflect.kind", "llm"]
MODEL = ["--reflect.endpoint.model", "toy"]


def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, capsys):
    out = ["--out", tmp_path / "run"]
    with ChatServer(key="secret") as server, ChatServer() as open_server:
        url, open_url = ["--reflect.endpoint.url", server.url], ["--reflect.endpoint.url", open_server.url]
        closed = ["--reflect.endpoint.url", "http://127.0.0.1:1/v1", "--reflect.endpoint.retries", 0]
        gone = ["--reflect.endpoint.model", "gone"]
        for flags, sentence in (
            ([], "--reflect.endpoint.model is not set: name a model"),
            (MODEL, "https://api.openai.com/v1 wants a key and $OPENAI_API_KEY is not set: export it"),
            ([*MODEL, *closed], "http://127.0.0.1:1/v1 cannot be reached"),
            ([*MODEL, *url], "asks for a key, and $OPENAI_API_KEY is not set"),
            ([*gone, *open_url], 'does not know the model "gone"'),
            ([*MODEL, "--reflect.max-cost", "1"], "reflect.max_cost needs reflect.price_in and price_out"),
        ):
            said = fails(capsys, *TRAIN, *flags, *out)
            assert sentence in said and said.startswith("d2skill: ") and "Traceback" not in said
            assert not (tmp_path / "run").exists()


def test_a_run_whose_server_is_gone_can_be_evaluated_but_not_resumed(tmp_path, capsys):
    run = tmp_path / "run"
    with ChatServer() as server:
        train(run, config(server, train={"iterations": 1}))
        write_text(run / "config.toml", dump(config(server, train={"iterations": 2})))
    (run / "summary.json").unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "cannot be reached" in fails(capsys, "resume", run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    main(["evaluate", str(run)])
    assert "bank - none" in capsys.readouterr().out


def test_a_train_command_reflects_with_a_model(tmp_path, capsys):
    with ChatServer("fence") as server:
        flags = ["--reflect.endpoint.url", server.url, *MODEL, "--warm-start.tasks", "4", "--train.iterations", "1"]
        flags += ["--skills", "paper"]
        main([*TRAIN, *flags, "--validation.tasks", "4", "--env.max-steps", "2", "--out", str(tmp_path / "run")])
    (line, *_) = (tmp_path / "run" / "reflections.jsonl").read_text().splitlines()
    assert json.loads(line)["outcome"] == "used"


def test_the_page_on_reflection_names_settings_that_exist(docs):
    named = set(re.findall(r"--([a-z][a-z.-]*)", (docs / "reflection.md").read_text()))
    assert "reflect.endpoint.key-env" in named
    for name in named:
        section = Config()
        for part in name.replace("-", "_").split("."):
            section = getattr(section, part)
