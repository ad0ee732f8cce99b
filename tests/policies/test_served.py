"""A policy behind a server: what it is asked, what it makes of answers, and runs in which only the bank learns."""

import re
from contextlib import closing
from dataclasses import replace
from threading import Event

import pytest
from chat_server import ChatServer
from toys import prompt, tiny_config

from d2skill.bank.journal import Credit, Journal
from d2skill.cli.main import main
from d2skill.components import Components, restore
from d2skill.config import Config, EndpointConfig, PolicyConfig, ServedConfig
from d2skill.config.cli_flags import parse_settings
from d2skill.errors import ConfigError, RunError
from d2skill.policies import make_policy
from d2skill.policies.served import ServedPolicy
from d2skill.protocols import SupportsSlots
from d2skill.runs import checkpoint
from d2skill.runs.folder import RunFolder
from d2skill.trainer import Trainer

pytest.importorskip("openai")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("d2skill.endpoints.chat_client._FIRST_WAIT", 0.001)
    monkeypatch.setattr("d2skill.endpoints.chat_client._LONGEST_WAIT", 0.001)
    with ChatServer() as server:
        yield server


def asked_in(body) -> str:
    return body["messages"][0]["content"]


def opens_chests(body) -> str:
    """Takes the gem where it lies open, else opens the first chest that was not opened yet."""
    said = asked_in(body)
    actions = said.partition("Admissible actions:\n")[2].splitlines()
    take = [action for action in actions if action.startswith("take")]
    past = re.findall(r"^> (.*)$", said, re.MULTILINE)
    left = [action for action in actions if action not in past]
    return f"<think>Where is it?</think><action>{(take or left or actions)[0]}</action>"


def made(server, **settings) -> ServedPolicy:
    return ServedPolicy(ServedConfig(endpoint=EndpointConfig(model="toy", url=server.url, **settings)))


def config_of(server, **sections) -> Config:
    served = {"kind": "served", "train": False, "served": {"endpoint": {"model": "toy", "url": server.url}}}
    return tiny_config(policy=served, **sections)


# acting


def test_each_prompt_is_asked_with_its_own_seed_and_the_temperature(server):
    server.answer = opens_chests
    policy = made(server)
    prompts = [prompt(actions=("open chest 1", "open chest 2")), prompt(actions=("take ruby",))]
    decisions = policy.act(prompts, [7, 2**40 + 3], 0.4)
    assert [one.action for one in decisions] == ["open chest 1", "take ruby"]
    assert all(one.tokens == one.log_probs == () for one in decisions)
    asked = sorted((r.body for r in server.requests if r.path == "/v1/chat/completions"), key=lambda b: b["seed"])
    assert [body["seed"] for body in asked] == [3, 7]
    assert all(body["temperature"] == 0.4 and body["stop"] == ["</action>"] for body in asked)
    assert "take ruby" in asked_in(asked[0])


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("<think>so</think><action>go left</action>", "go left"),
        ("<think>so</think><action>go left", "go left"),
        ("go left", ""),
        ("", ""),
    ],
)
def test_the_closing_tag_at_which_a_server_stops_is_put_back(server, text, action):
    server.answer = lambda body: text
    (decision,) = made(server).act([prompt(actions=("go left",))], [0], 0.0)
    assert decision.action == action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("<think>so</think><search>red mugs", "search[red mugs]"),
        ("<think>so</think><search>red mugs</search>", "search[red mugs]"),
        ("<think><search> or <answer>?</think><answer>Port Elm", "answer[Port Elm]"),
        ("<think>so</think><action>search[red mugs]", "search[red mugs]"),
        ("Port Elm", ""),
    ],
)
def test_forms_with_names_are_asked_for_and_read_in_tags_of_these(server, text, action):
    server.answer = lambda body: text
    asked = replace(prompt(actions=()), forms=("search[...]", "answer[...]"))
    (decision,) = made(server).act([asked], [0], 0.0)
    assert decision.action == action
    (request,) = [r.body for r in server.requests if r.path == "/v1/chat/completions"]
    assert request["stop"] == ["</search>", "</answer>", "</action>"]
    assert "<answer> ... </answer>" in asked_in(request)


def test_an_answer_that_is_taken_whole_has_its_closing_tag_again(server):
    server.answer = lambda body: "<think>so</think> <answer>Port Elm"
    (decision,) = made(server).act([replace(prompt(actions=()), forms=("...",))], [0], 0.0)
    assert decision.action == decision.text == "<think>so</think> <answer>Port Elm</answer>"


def test_an_answer_that_cannot_be_had_is_an_empty_one(server, caplog):
    server.answer = opens_chests
    policy = made(server, retries=0, concurrency=1)
    server.behave = ["500", "ok"]
    decisions = policy.act([prompt(actions=("look",))] * 2, [0, 1], 1.0)
    assert sorted(one.action for one in decisions) == ["", "look"]
    assert "1 of 2 requests failed" in caplog.text


def test_a_server_that_is_gone_ends_the_run_with_the_way_on(server):
    policy = made(server, retries=1)
    server.behave = "drop"
    with pytest.raises(RunError, match=r"toy has not answered the last 3 prompts .*go on by `d2skill resume`"):
        policy.act([prompt(actions=("look",))] * 3, [0, 1, 2], 1.0)


def test_episodes_go_on_while_another_waits_for_a_slow_answer(server):
    going = Event()

    def answer(body):
        if "slow task" in asked_in(body):
            assert going.wait(20), "the others wait for the slow one"
        return opens_chests(body)

    server.answer = answer
    policy = made(server, concurrency=2)
    assert isinstance(policy, SupportsSlots)
    with closing(policy.slots(1.0)) as slots:
        assert slots.capacity == 4
        slots.submit(0, prompt(task="slow task", actions=("look",)), 0)
        for turn in range(5):
            slots.submit(1, prompt(actions=("open chest 1",)), turn)
            assert [(who, decision.action) for who, decision in slots.collect()] == [(1, "open chest 1")]
        slots.release(1)
        going.set()
        assert [(who, decision.action) for who, decision in slots.collect()] == [(0, "look")]
        assert slots.collect() == []


def test_a_server_is_given_up_when_no_episode_gets_an_answer_any_more(server, caplog):
    server.answer = opens_chests
    policy = made(server, retries=0, concurrency=1)
    with closing(policy.slots(1.0)) as slots:
        for behaviour, action in (("500", ""), ("500", ""), ("ok", "look"), ("500", ""), ("500", "")):
            server.behave = behaviour
            slots.submit(0, prompt(actions=("look",)), 0)
            assert [decision.action for _, decision in slots.collect()] == [action]
        slots.submit(0, prompt(actions=("look",)), 0)
        with pytest.raises(RunError, match="has not answered the last 3 prompts"):
            slots.collect()
    assert "5 of 6 requests failed" in caplog.text


def test_a_server_that_takes_no_seed_is_asked_without(server):
    server.answer = opens_chests
    refused = []

    def picky(number, body):
        if "seed" in body:
            refused.append(number)
            return "400"
        return "ok"

    server.behave = picky
    policy = made(server, concurrency=1)
    assert [one.action for one in policy.act([prompt(actions=("look",))] * 3, [0, 1, 2], 0.5)] == ["look"] * 3
    assert len(refused) == 1, "once is enough to know"
    assert server.requests[-1].body["temperature"] == 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "gone"}, "does not know the model"),
        ({"model": ""}, "--policy.served.endpoint.model is not set"),
        ({"model": "toy", "url": "http://127.0.0.1:9/v1", "retries": 0}, "cannot be reached"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(server, given, said):
    with pytest.raises(ConfigError, match=said):
        ServedPolicy(ServedConfig(endpoint=EndpointConfig(**({"url": server.url} | given))))


# settings


def test_a_served_policy_has_to_be_told_that_it_does_not_learn():
    with pytest.raises(ValueError, match=r"served cannot be trained here: add --policy.train false"):
        PolicyConfig(kind="served")


@pytest.mark.parametrize(
    ("given", "train", "retire"),
    [
        (["--policy.train", "false"], False, False),
        (["--policy.train=False", "--bank.retire", "true"], False, True),
        (["--policy.no-train", "--bank.retire"], False, True),
        (["--bank.no-retire", "--policy.train"], True, False),
        (["--bank.retire", "--policy.train", "false"], False, True),
    ],
)
def test_switches_take_true_and_false(given, train, retire):
    config = parse_settings(given, "d2skill train")
    assert (config.policy.train, config.bank.retire) == (train, retire)


def test_a_switch_takes_nothing_else(capsys):
    with pytest.raises(SystemExit):
        parse_settings(["--bank.retire=maybe"], "d2skill train")
    assert "maybe" in capsys.readouterr().err


# training-free runs


def test_only_the_bank_learns(server, tmp_path):
    server.answer = opens_chests
    config = config_of(server, reflect={"threshold": 1.0})
    parts = Components.make(config)
    summary = Trainer(config, tmp_path / "run", parts).start()
    assert summary["iterations"] == 3 and len(parts.bank)
    assert any(isinstance(event, Credit) for _, event in Journal(RunFolder(tmp_path / "run").bank).events())
    lines = RunFolder(tmp_path / "run").read_metrics()
    assert not any(name.startswith(("policy/", "warm_start/")) for line in lines for name in line)
    assert any("Advice" in asked_in(request.body) for request in server.requests if request.body.get("messages"))


def test_a_frozen_scorer_stays_as_the_warm_start_left_it(tmp_path):
    config = tiny_config(policy={"scorer": {"buckets": 4096}, "train": False})
    parts = Components.make(config)
    Trainer(config, tmp_path / "run", parts).start()
    assert (parts.policy._weights == parts.policy._reference).all() and parts.policy._weights.any()
    assert len(parts.bank)


def test_a_training_free_run_goes_on_where_it_was(server, tmp_path):
    server.answer = opens_chests
    whole, cut = config_of(server, train={"iterations": 4}), config_of(server, train={"iterations": 2})
    straight = Components.make(whole)
    Trainer(whole, tmp_path / "whole", straight).start()
    Trainer(cut, tmp_path / "cut", Components.make(cut)).start()
    parts, progress = restore(whole, checkpoint.latest(tmp_path / "cut"))
    Trainer(whole, tmp_path / "cut", parts).resume(progress)
    assert parts.bank.skills(status=None) == straight.bank.skills(status=None)


def test_a_run_goes_on_with_its_own_model_only(server, tmp_path):
    policy = made(server)
    policy.save(tmp_path)
    policy.load(tmp_path)
    other = ServedPolicy(ServedConfig(endpoint=EndpointConfig(model="toy:prose", url=server.url)))
    with pytest.raises(RunError, match="is of the model toy, not of toy:prose"):
        other.load(tmp_path)


def test_a_run_is_evaluated_with_a_served_model_in_place_of_its_policy(server, tmp_path, capsys):
    server.answer = opens_chests
    config = tiny_config()
    Trainer(config, tmp_path / "run", Components.make(config)).start()
    main(["evaluate", str(tmp_path / "run"), "--model", "toy", "--url", server.url])
    said = capsys.readouterr().out
    assert "with toy" in said and "bank - none" in said and "answer" in said
    assert server.count() >= 16


def test_the_kind_is_found():
    with ChatServer() as server:
        assert isinstance(make_policy(config_of(server), list), ServedPolicy)
