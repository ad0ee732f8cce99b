"""The engine against recorded traces of the official one, real games, and broken ones."""

from __future__ import annotations

import importlib.util
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2skill.envs.alfworld import Game, GameObservation
from d2skill.envs.alfworld.domain import parse_domain
from d2skill.errors import DataError

ROOT = Path(__file__).parents[3]
NOTHING = "Nothing happens."


def play(game: Game, commands: Sequence[str]) -> GameObservation:
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
            assert seen == GameObservation(step["text"], commands, step["won"]), (record["name"], i, step["command"])
            observations += 1
    assert observations > 400


def test_recorded_traces_hold_the_odd_cases(recorded: list[dict[str, Any]]) -> None:
    texts = "\n".join(step["text"] for record in recorded for step in record["steps"])
    for part in ("You arrive at loc ", "Next to it, you see a ", "You sliced the ", "This is a clean ", NOTHING):
        assert part in texts


def same_as_the_official_engine(games: list[Path], folder: Path) -> int:
    """Plays games again that were compared live, and returns how many say what the official engine said then."""
    spec = importlib.util.spec_from_file_location("alfworld_parity", ROOT / "benchmarks" / "alfworld_parity.py")
    parity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parity)
    lines = parity.read_lines(Path(__file__).parent / "data" / "official_digests.jsonl.xz")
    compared = {line["game"]: line for line in lines if "digest" in line}
    names = {path: str(path.parent.relative_to(folder)) for path in games}
    known = [path for path, name in names.items() if name in compared]
    different = [path for path in known if not parity.replay(path, compared[names[path]])]
    assert not different
    return len(known)


def test_sampled_games_say_what_the_official_engine_said(sampled_games: list[Path]) -> None:
    assert same_as_the_official_engine(sampled_games, sampled_games[0].parents[4]) == len(sampled_games)


@pytest.mark.slow
def test_all_games_say_what_the_official_engine_said(all_games: list[Path], older_games: list[Path]) -> None:
    assert same_as_the_official_engine(all_games, all_games[0].parents[4]) == 3693
    # The official engine itself fails on 18 of the older ones.
    assert same_as_the_official_engine(older_games, older_games[0].parents[5]) == 169


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
    game = Game.load(sampled_games[0])
    task, trial = sampled_games[0].parts[-3:-1]
    assert game.task.id == f"{task}/{trial}"
    assert (game.task.kind, game.task.split) == (task.split("-")[0], "train")
    assert game.task.scene == int(task.split("-")[-1])
    assert f"Your task is to: {game.task.text}." in game.reset().text


def test_a_mapping_names_kind_and_scene_itself(game_json: dict[str, Any]) -> None:
    game = Game.load({**game_json, "task_type": "pick_and_place_simple", "scene": 7}, id="x", split="train")
    assert (game.task.id, game.task.split, game.task.kind, game.task.scene) == (
        "x",
        "train",
        "pick_and_place_simple",
        7,
    )


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
def test_a_command_that_is_not_admissible_changes_nothing(game_json: dict[str, Any], command: str) -> None:
    game = Game.load(game_json)
    before = game.reset()
    assert game.step(command) == GameObservation(NOTHING, before.commands, False)


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
        ("pddl_problem", "(:goal", "(:goal (", r'"\(" in line \d+ of its "pddl_problem" that is never closed'),
        ("pddl_problem", "(:goal", ") (:goal", r'has a "\)" too many in line \d+ of its "pddl_problem"|no "\(define'),
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
        ("pddl_domain", "(:action look", "((:action look", r'in line \d+ of its "pddl_domain" that is never closed'),
        ("pddl_domain", "(isClean ?o)", "(isHot ?o)", "whose action cleanobject is not that of ALFWorld"),
        ("pddl_domain", "(cleanable ?o)", "", "whose action cleanobject is not that of ALFWorld"),
        ("pddl_domain", "(define", "(refine", r'no "\(define'),
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


def test_what_cleans_is_read_off_the_domain(game_json: dict[str, Any]) -> None:
    """alfworld 0.4.2 makes games in which sinks no longer clean, only sink basins do."""
    either = parse_domain(game_json["pddl_domain"])
    newer = changed(game_json, "pddl_domain", "(receptacleType ?r SinkType)", ";(receptacleType ?r SinkType)")
    basin_only = parse_domain(newer["pddl_domain"])
    assert either.types["cleanobject"] == {"sinktype", "sinkbasintype"}
    assert basin_only.types["cleanobject"] == {"sinkbasintype"}
    problem = game_json["pddl_problem"].replace("SinkType - otype", "SinkType - rtype")
    problem = re.sub(r"\(objectType \S+ SinkType\)", "", problem).replace(" SinkBasinType)", " SinkType)")
    for domain, cleans in ((game_json, True), (newer, False)):
        assert bool(Game.load({**domain, "pddl_problem": problem})._world.tools["cleanobject"]) is cleans


def displayed_task(game: dict[str, Any], task: str) -> str:
    rule = re.sub(
        r"Your task is to: [^\"]*", lambda _: json.dumps(f"Your task is to: {task}")[1:-1], game["grammar"], count=1
    )
    return Game.load({**game, "grammar": rule}).reset().text.partition("Your task is to: ")[2]


@pytest.mark.parametrize(
    ("task", "seen"),
    [
        ("put it (the mug), 2's, on a/b & c: 50 %.", "put it (the mug), 2's, on a/b & c: 50 %."),
        ("put a; then b.", "put a"),
        ("put a | b.", "put a "),
        ('put "a" in "b c".', "put a in b c."),
        ('put "a in b.', "put "),
        ("put <a>.", "put "),
        ("put {a", "put "),
        ("put # 1.", "put "),
    ],
)
def test_a_task_is_displayed_as_by_the_official_engine(game_json: dict[str, Any], task: str, seen: str) -> None:
    """Found by comparing it with the official engine."""
    assert displayed_task(game_json, task) == seen


@pytest.mark.parametrize("task", ["look #look.feedback#", "put {0}", "put [{o.name | holds(a:agent, o:object)}]"])
def test_a_task_with_a_formula_is_refused(game_json: dict[str, Any], task: str) -> None:
    with pytest.raises(DataError, match="has a task with a formula"):
        displayed_task(game_json, task)


def test_what_lies_in_itself_is_not_listed(game_json: dict[str, Any]) -> None:
    """As in 20 training games of floor plan 22."""
    commands = game_json["walkthrough"]
    taking = next(i for i, command in enumerate(commands) if command.startswith("take "))
    name = commands[taking].split()[1]
    target = next(
        w for w in re.findall(r"\(pickupable (\S+)\)", game_json["pddl_problem"]) if w.lower().startswith(name)
    )
    facts = f"(:init (isReceptacleObject {target}) (inReceptacleObject {target} {target})"
    game = Game.load(changed(game_json, "pddl_problem", "(:init", facts))
    play(game, commands[: taking + 1])
    assert game.step(f"examine {commands[taking].partition(' from ')[0].removeprefix('take ')}").text.endswith(
        "nothing."
    )


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
