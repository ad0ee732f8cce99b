"""The policy reflects on its own failures."""

import json

import pytest
from chat_server import ChatServer, reflection
from toys import task, tiny_config, trajectory, turn

from d2skill.bank.journal import Insert, Journal
from d2skill.cli.main import main
from d2skill.components import Components
from d2skill.config import ReflectConfig
from d2skill.errors import ReflectionFault
from d2skill.protocols import BatchReflector, BudgetedReflector, HasOrigin, Reflector, SupportsChat
from d2skill.reflectors.policy import PolicyReflector
from d2skill.runs.folder import RunFolder
from d2skill.trainer import Trainer

NOTE = {"title": "ruby: search", "principle": "Open all chests in turn.", "when_to_apply": "the ruby is wanted"}
GOOD = json.dumps({"failing_step": 1, "step_skill": None, "task_skill": NOTE})


class Scripted:
    """Writes what it is told, chat by chat."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), []

    def generate_chat(self, chats, tokens):
        self.asked.append([list(messages) for messages in chats])
        return self.answers.pop(0)


def failure(number: int = 0):
    turns = [turn(action=f"open chest {at}", observation=f"Chest {at} is shut.") for at in range(3)]
    return trajectory("skills", 0, False, turns, task=task(f"train/{number:03d}"))


def test_all_failures_are_asked_about_at_once_and_unusable_answers_once_more():
    policy = Scripted([GOOD, "I do not know.", "no"], [f"So: {GOOD}", "still no"])
    own = PolicyReflector(ReflectConfig(), policy)
    first, second, third = own.reflect_batch([(failure(number), None) for number in range(3)])
    assert first.task_skill.title == second.task_skill.title == "ruby: search" and third is None
    assert [len(chats) for chats in policy.asked] == [3, 2]
    assert policy.asked[1][0][-2] == {"role": "assistant", "content": "I do not know."}
    calls, metrics = own.drain_calls()
    assert [(call["task"], call["attempt"], call["outcome"].split(":")[0]) for call in calls] == [
        ("train/000", 0, "used"),
        ("train/001", 0, "asked again"),
        ("train/001", 1, "used"),
        ("train/002", 0, "asked again"),
        ("train/002", 1, "dropped"),
    ]
    assert (metrics["reflect/calls"], metrics["reflect/repaired"], metrics["reflect/dropped"]) == (5, 1, 1)
    assert own.drain_calls()[0] == []


def test_one_failure_without_an_answer_is_a_fault():
    own = PolicyReflector(ReflectConfig(), Scripted(["no"], ["no"]))
    with pytest.raises(ReflectionFault, match="dropped"):
        own.reflect(failure(), None)
    assert all(
        isinstance(own, kind)
        for kind in (Reflector, BatchReflector, BudgetedReflector, HasOrigin)
        if kind is not Reflector
    )


def test_a_policy_that_does_not_write_is_refused_in_a_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--reflect.kind", "policy", "--out", str(tmp_path / "run")])
    assert "reflect.kind policy needs a policy that writes text" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "run").exists()


def test_a_served_policy_writes_its_own_skills(tmp_path):
    pytest.importorskip("openai")

    def answer(body):
        return "<action>wait</action>" if "<action>" in body["messages"][-1]["content"] else reflection(body)

    with ChatServer(answer=answer) as server:
        served = {"kind": "served", "train": False, "served": {"endpoint": {"model": "toy", "url": server.url}}}
        config = tiny_config(policy=served, reflect={"kind": "policy", "threshold": 1.0}, bank={"skills": "paper"})
        parts = Components.make(config)
        assert isinstance(parts.policy, SupportsChat)
        Trainer(config, tmp_path / "run", parts).start()
    run = RunFolder(tmp_path / "run")
    inserts = [event for _, event in Journal(run.bank).events() if isinstance(event, Insert)]
    assert inserts and all(event.origin["model"] == "the policy itself" for event in inserts)
    calls = list(run.read_reflections())
    assert calls and {call["outcome"] for call in calls} == {"used"}
    assert any("reflect/calls" in line for line in run.read_metrics())
