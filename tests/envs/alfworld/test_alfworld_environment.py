"""The environment over a folder of games."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d2skill.envs.alfworld import AlfworldEnvironment, Game
from d2skill.envs.alfworld import environment as alfworld_files
from d2skill.errors import ConfigError, DataError
from d2skill.protocols import Environment
from d2skill.utils import foreign_files


def game_file(folder: Path, task_id: str) -> Path:
    return folder / "json_2.1.1" / task_id / "game.tw-pddl"


def test_keeps_the_protocol(data_folder: Path) -> None:
    assert isinstance(AlfworldEnvironment(data_folder), Environment)


def test_ids_are_split_task_and_trial_in_order(data_folder: Path, recorded: list[dict[str, Any]]) -> None:
    environment = AlfworldEnvironment(data_folder)
    ids = environment.task_ids("train")
    assert list(ids) == sorted(f"train/{record['name']}" for record in recorded[1:])
    assert environment.task_ids("valid_seen") == (f"valid_seen/{recorded[0]['name']}",)


@pytest.mark.parametrize("inner", ["", "json_2.1.1"])
def test_finds_the_splits_at_either_level(data_folder: Path, inner: str) -> None:
    assert len(AlfworldEnvironment(data_folder / inner).task_ids("valid_seen")) == 1


def test_takes_the_folder_from_the_environment(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(data_folder))
    assert AlfworldEnvironment().task_ids("train")
    monkeypatch.delenv("ALFWORLD_DATA")
    with pytest.raises(ConfigError, match=r"--data or \$ALFWORLD_DATA"):
        AlfworldEnvironment()


@pytest.mark.parametrize(
    ("edit", "listed"),
    [
        (lambda game: game.update(solvable=False), False),
        (lambda game: game.pop("solvable"), False),
        (lambda game: game.update(solvable=game.pop("solvable"), walkthrough=["look"] * 2000), True),
        (lambda game: game.update(solvable=False, walkthrough=["look"] * 2000), False),
    ],
)
def test_only_solvable_games_are_listed(
    data_folder: Path, edit: Callable[[dict[str, Any]], object], listed: bool
) -> None:
    task_id = AlfworldEnvironment(data_folder).task_ids("train")[0]
    path = game_file(data_folder, task_id)
    game = json.loads(path.read_text())
    edit(game)
    path.write_text(json.dumps(game))
    assert (task_id in AlfworldEnvironment(data_folder).task_ids("train")) == listed


@pytest.mark.parametrize(
    "kind", ["pick_and_place_with_movable_recep-Apple-Pan", "pick_and_place_simple-AppleSliced-None"]
)
def test_tasks_that_the_official_loader_leaves_out_are_left_out(data_folder: Path, kind: str) -> None:
    before = AlfworldEnvironment(data_folder).task_ids("train")
    game = game_file(data_folder, before[0])
    other = game.parents[2] / f"{kind}-CounterTop-8" / "trial_1" / "game.tw-pddl"
    other.parent.mkdir(parents=True)
    other.write_text(game.read_text())
    assert AlfworldEnvironment(data_folder).task_ids("train") == before


def test_other_splits_are_never_opened(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    real = foreign_files.open_regular

    def watched(path: Path) -> Any:
        opened.append(path)
        return real(path)

    for module in (foreign_files, alfworld_files):
        monkeypatch.setattr(module, "open_regular", watched)
    AlfworldEnvironment(data_folder).task_ids("valid_seen")
    assert opened
    assert all("valid_seen" in path.parts for path in opened)


def test_a_session_starts_in_the_room_without_the_task(data_folder: Path) -> None:
    environment = AlfworldEnvironment(data_folder)
    session = environment.start(environment.task_ids("train")[0])
    first = session.observation
    assert first.text.startswith("You are in the middle of a room. Looking quickly around you, you see a ")
    assert "Your task" not in first.text
    assert "Welcome" not in first.text
    assert {"look", "inventory"} <= set(first.actions)
    assert "help" not in first.actions
    assert (first.done, first.success) == (False, False)
    assert session.task.id == environment.task_ids("train")[0]
    assert session.task.split == "train"
    assert session.task.kind in session.task.id


def test_a_walkthrough_ends_with_success(data_folder: Path, recorded: list[dict[str, Any]]) -> None:
    environment = AlfworldEnvironment(data_folder)
    solved = 0
    for record in recorded[1:]:
        session = environment.start(f"train/{record['name']}")
        for action in record["walkthrough"]:
            assert not session.observation.done
            assert action in session.observation.actions
            assert session.step(action) == session.observation
        assert session.observation.success == session.observation.done == bool(record["walkthrough"])
        solved += session.observation.success
    assert solved >= 3


def test_sessions_of_a_task_are_apart_and_load_once(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = AlfworldEnvironment(data_folder)
    task_id = environment.task_ids("train")[0]
    one, first = environment.start(task_id), environment.start(task_id).observation
    assert one.observation == first
    one.step(first.actions[0])
    monkeypatch.setattr(Game, "load", None)
    assert environment.start(task_id).observation == first


def test_says_what_is_missing(data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        AlfworldEnvironment(tmp_path / "nowhere")
    environment = AlfworldEnvironment(data_folder)
    for split in ("valid_unseen", "", "..", "train/.."):
        with pytest.raises(ConfigError, match=r"has no split .*; it has: train, valid_seen"):
            environment.task_ids(split)
    (data_folder / "json_2.1.1" / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no solvable game"):
        environment.task_ids("empty")


def test_a_broken_game_is_reported_at_start(data_folder: Path) -> None:
    environment = AlfworldEnvironment(data_folder)
    task_id = environment.task_ids("train")[0]
    path = game_file(data_folder, task_id)
    path.write_text(path.read_text()[:5000])
    environment = AlfworldEnvironment(data_folder)
    assert task_id in environment.task_ids("train")
    with pytest.raises(DataError, match="is not JSON") as caught:
        environment.start(task_id)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        environment.start("train/a/b")
    for wrong in ("train", "../../etc", "a/../b"):
        with pytest.raises(ConfigError, match="no ALFWorld task id"):
            environment.start(wrong)


def test_teaches(data_folder: Path) -> None:
    expert_module = pytest.importorskip("d2skill.envs.alfworld.expert")
    environment = AlfworldEnvironment(data_folder)
    session = environment.start(environment.task_ids("train")[0])
    expert = environment.expert(session.task, [], seed=0)
    assert isinstance(expert, expert_module.Explorer)
    assert expert.act(session.observation) in session.observation.actions
