"""The environment of examples/custom_env.py, in which all ways stay open: what is learned there, and followed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from d2skill.bank import SkillBank
from d2skill.config import BankConfig, PromptConfig
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.episode import Episode
from d2skill.knowledge.evidence import gather
from d2skill.types import Decision, Group, Trajectory

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    import custom_env

    yield custom_env.TreasureHunt()
    sys.modules.pop("custom_env")


def search(environment: Any, task_id: str, bank: SkillBank | None = None) -> Trajectory:
    """Goes where advice says, or else from chest to chest; takes what is wanted and puts it on the altar."""
    session = environment.start(task_id)
    episode = Episode(session, arm="skills", index=0, max_steps=30, settings=PromptConfig(), count_tokens=len)
    if bank:
        episode.advise(*bank.advise([episode.start])[0])
    chests = iter(range(1, 13))
    while not episode.done:
        prompt = episode.prompt()
        named = [f"go to {one.text.title.split(': in ')[1]}" for one in prompt.step_skills]
        wanted = (f"take {session.wanted} from", f"put {session.wanted} on")
        found = [action for action in prompt.actions if action.startswith(wanted)]
        action = next(iter([*found, *named]), None) or f"go to chest {next(chests)}"
        episode.act(prompt, Decision(action, action, (), ()))
    return episode.trajectory()


def taught(environment: Any, task_ids: list[str]) -> SkillBank:
    bank = SkillBank(HashedEmbedder(64), BankConfig())
    played = [search(environment, task_id) for task_id in task_ids]
    assert all(one.success for one in played)
    bank.knowledge.consolidate(gather([Group(one.task, (one,)) for one in played], bank.knowledge.known), 0)
    return bank


def test_procedures_and_places_come_out_right(environment: Any) -> None:
    ids = [one for one in environment.task_ids("train") if "/Dover/" in one]
    bank = taught(environment, ids)
    (procedure,) = bank.skills("task")
    assert procedure.text.title == "Dover: put the {thing} on the {place}."
    assert procedure.text.principle == "Take {thing}, then put {thing} on {place}."
    assert (procedure.supports, procedure.refutes) == (len(ids), 0)
    for treasure in ("ruby", "crown", "sword", "pearl"):
        way_to = [environment.start(one).way_to[treasure] for one in ids if f"/{treasure}/" in one]
        usual = max(way_to, key=way_to.count).removeprefix("go to ")
        (ranked,) = bank.knowledge.known.sought(f"the {treasure}", "You are in Dover, among chests.")
        best = ranked[0]
        assert best.text.title == f"{treasure}: in {usual}"
        assert best.text.principle == f"Go to {usual}, then take {treasure} from {usual}."


def test_advice_saves_steps_in_games_that_were_never_played(environment: Any) -> None:
    """A place that was looked at in vain is refuted, although the way to it stays open."""
    bank = taught(environment, [one for one in environment.task_ids("train") if "/Dover/" in one])
    new = [one for one in environment.task_ids("valid_seen") if "/Dover/" in one]
    advised = [search(environment, one, bank) for one in new]
    assert all(one.success for one in advised)
    plain = [search(environment, one) for one in new]
    assert sum(len(one.turns) for one in advised) < 0.8 * sum(len(one.turns) for one in plain)
    for one in advised:
        went = [turn.decision.action for turn in one.turns if turn.decision.action.startswith("go")]
        assert len(set(went)) == len(went)
