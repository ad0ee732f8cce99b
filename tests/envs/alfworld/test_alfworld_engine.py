"""The engine against recorded traces of the official one, real games, and broken ones."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2skill.envs.alfworld import Game, Observation
from d2skill.errors import DataError

NOTHING = "Nothing happens."


def play(game: Game, commands: Sequence[str]) -> Observation:
    seen = game.reset()
    for command in commands:
        seen = game.step(command)
        assert seen.text != NOTHING, command
    return seen


def test_plays_byte_for_byte_like_the_official_engine(recorded: list[dict[str, Any]]) -> None:
    observations = 0
    for record in recorded:
        game = Game.load(record, id=record["name"])
        commands: list[str] = []
        for i, step in enumerate(record["steps"]):
            seen = game.step(step["command"]) if i else game.reset()
            commands = commands if step["commands"] is None else step["commands"]
            assert seen == Observation(step["text"], commands, step["won"]), (record["name"], i, step["command"])
            observations += 1
    assert observations > 400


def test_recorded_traces_hold_the_odd_cases(recorded: list[dict[str, Any]]) -> None:
    texts = "\n".join(step["text"] for record in recorded for step in record["steps"])
    for part in ("You arrive at loc ", "Next to it, you see a ", "You sliced the ", "This is a clean ", NOTHING):
        assert part in texts


def test_every_sampled_walkthrough_wins(sampled_games: list[Path]) -> None:
    assert len(sampled_games) >= 60
    for path in sampled_games:
        game = Game.load(path)
        assert play(game, game.walkthrough).won, path


@pytest.mark.slow
def test_every_walkthrough_wins(all_games: list[Path]) -> None:
    assert len(all_games) == 3693
    for path in all_games:
        game = Game.load(path)
        assert play(game, game.walkthrough).won, path


@pytest.mark.slow
def test_older_games_play(older_games: list[Path]) -> None:
    assert len(older_games) == 187
    choice = random.Random(0)
    for path in older_games:
        game = Game.load(path)
        seen = game.reset()
        assert "help" not in seen.commands
        for _ in range(30):
            assert seen.commands == sorted(set(seen.commands))
            seen = game.step(choice.choice(seen.commands))
            assert seen.text != NOTHING


def test_names_task_kind_and_scene_from_the_folder(sampled_games: list[Path]) -> None:
    game = Game.load(sampled_games[0], split="train")
    task, trial = sampled_games[0].parts[-3:-1]
    assert game.task.id == f"{task}/{trial}"
    assert (game.task.kind, game.task.split) == (task.split("-")[0], "train")
    assert game.scene == int(task.split("-")[-1])
    assert f"Your task is to: {game.task.text}." in game.reset().text


def test_a_mapping_names_kind_and_scene_itself(game_json: dict[str, Any]) -> None:
    game = Game.load({**game_json, "task_type": "pick_and_place_simple", "scene": 7}, id="x", split="train")
    assert (game.task.id, game.task.split, game.task.kind, game.scene) == ("x", "train", "pick_and_place_simple", 7)


def test_reset_starts_over_and_clones_are_apart(game_json: dict[str, Any]) -> None:
    game = Game.load(game_json)
    first = game.reset()
    twin = game.clone()
    choice = random.Random(1)
    seen = first
    for _ in range(40):
        seen = game.step(choice.choice(seen.commands))
    assert twin.step("look").commands == first.commands
    assert game.reset() == first


def test_a_caller_may_change_its_command_list(game_json: dict[str, Any]) -> None:
    game = Game.load(game_json)
    game.reset().commands.clear()
    assert game.step("look").commands


@pytest.mark.parametrize("command", ["", "dance", "go to", "Look", "take nothing 1 from nowhere 2", "{o}", "\0"])
def test_what_is_not_admissible_changes_nothing(game_json: dict[str, Any], command: str) -> None:
    game = Game.load(game_json)
    before = game.reset()
    assert game.step(command) == Observation(NOTHING, before.commands, False)


@pytest.mark.parametrize("key", ["pddl_domain", "grammar", "pddl_problem"])
def test_a_missing_part_is_named(game_json: dict[str, Any], tmp_path: Path, key: str) -> None:
    del game_json[key]
    path = tmp_path / "game.tw-pddl"
    path.write_text(json.dumps(game_json))
    with pytest.raises(DataError) as caught:
        Game.load(path)
    assert str(caught.value) == f'game file {path} has no "{key}": is it an ALFWorld game?'


def changed(game: dict[str, Any], key: str, old: str, new: str) -> dict[str, Any]:
    assert old in game[key]
    return {**game, key: game[key].replace(old, new, 1)}


@pytest.mark.parametrize(
    ("key", "old", "new", "message"),
    [
        ("pddl_problem", "(:goal", "(:goal (", r'has a "\(" that is never closed'),
        ("pddl_problem", "(:goal", ") (:goal", r'has a "\)" too many|no "\(define'),
        ("pddl_problem", "(:goal", "(:gaol", 'without ":goal"'),
        ("pddl_problem", "(:init", "(:init (openable Ghost_bar_1)", "unknown object ghost_bar_1"),
        ("pddl_problem", "(:init", "(:init (haunted agent1)", r"the fact \(haunted ...\)"),
        ("pddl_problem", "(:init", "(:init (openable agent1)", "but it takes: receptacle"),
        ("pddl_problem", "(:init", "(:init (openable (agent1))", "among its facts"),
        ("pddl_problem", "- agent", "-", "type is missing|without a type|where PDDL wants"),
        ("pddl_problem", "(and", "(or", "has a goal that this engine does not know"),
        ("pddl_problem", "(atLocation agent1", "(checked agent1", "agent at 0 locations"),
        ("pddl_domain", "(:action look", "(:action Dance", "has the action dance, which this engine does not know"),
        ("pddl_domain", "(:action look", "(:axiom look", "without the action look"),
        ("grammar", '"task"', '"tusk"', 'without a "task" rule'),
        ("grammar", "action look {", "action lock {", "without the action look"),
        ("grammar", '"intro": [', '"intro": ', "not JSON"),
        ("grammar", "{o.name}", "{o.colour}", "words that this engine does not know"),
        ("grammar", "holdsany(a:agent)", "handsome(a:agent)", "asks for what this engine does not know"),
    ],
)
def test_broken_games_are_refused_in_one_sentence(
    game_json: dict[str, Any], key: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Game.load(changed(game_json, key, old, new), id="g7")
    assert str(caught.value).startswith("game g7 ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "\x80", '{"pddl_problem": 3}', "[" * 100_000])
def test_what_is_no_game_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=str(path)):
        Game.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.tw-pddl cannot be read"):
        Game.load(tmp_path / "nowhere.tw-pddl")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_game_is_refused_or_plays(game_json: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(["pddl_problem", "grammar", "pddl_domain"]))
    text = game_json[key]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)) | st.just(len(text)))
    noise = data.draw(
        st.sampled_from(["", "(", ")", "-", '"', "{", "}", "{o}", "#look#", "?r", "\n"]) | st.text(max_size=5)
    )
    try:
        game = Game.load({**game_json, key: text[:start] + noise + text[end:]})
    except DataError as error:
        assert str(error).startswith("game ")
        return
    seen = game.reset()
    choice = random.Random(start)
    for _ in range(20):
        seen = game.step(choice.choice(seen.commands))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), flip=st.integers(0, 255))
def test_a_cut_or_flipped_file_is_refused_or_plays(
    game_json: dict[str, Any], tmp_path: Path, cut: float, flip: int
) -> None:
    content = bytearray(json.dumps(game_json).encode())
    place = min(int(cut * len(content)), len(content) - 1)
    content[place] ^= flip
    path = tmp_path / "game.tw-pddl"
    for damaged in (content, content[:place]):
        path.write_bytes(damaged)
        try:
            Game.load(path).reset()
        except DataError as error:
            assert str(path) in str(error)
