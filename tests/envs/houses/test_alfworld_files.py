"""Generated houses as files: the official layout, whole or not there, the same bytes each time."""

import json
import re
from pathlib import Path

import pytest

from d2skill.config import HousesConfig
from d2skill.envs.alfworld.environment import AlfworldEnvironment
from d2skill.envs.alfworld.game import Game
from d2skill.envs.houses import generate
from d2skill.envs.houses.alfworld_files import write_houses
from d2skill.envs.houses.floor_plans import floor_plans
from d2skill.errors import ConfigError, DataError

SETTINGS = HousesConfig()
COUNTS = {"train": 48, "valid_seen": 12, "valid_unseen": 24}
TASK_TYPES = {
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
}
TASK_FOLDER = re.compile(r"([a-z_]+)-([A-Za-z]+)-None-([A-Za-z]+)-(\d+)")
TRIAL = re.compile(r"trial_T\d{8}_\d{6}_\d{6}")


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of written houses, of all task types and rooms."""
    out = tmp_path_factory.mktemp("houses")
    write_houses(out, SETTINGS, COUNTS)
    return out


def trials(out, split="*"):
    return sorted(path.parent for path in (out / "json_2.1.1").glob(f"{split}/*/*/game.tw-pddl"))


def content(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_our_environment_plays_what_was_written(houses):
    environment = AlfworldEnvironment(data=houses)
    for split, count in COUNTS.items():
        ids = environment.task_ids(split)
        assert len(ids) == count
        for task_id in ids:
            game = Game.load(houses / "json_2.1.1" / task_id / "game.tw-pddl")
            session = environment.start(task_id)
            assert session.task.kind == task_id.split("/")[1].split("-")[0]
            assert session.task.split == split
            for command in game.walkthrough:
                assert not session.observation.done
                assert command in session.observation.actions
                session.step(command)
            assert session.observation.success


def test_a_written_game_is_the_generated_one(houses):
    number = 13
    folder = next(folder for folder in trials(houses, "train") if folder.name.endswith(f"_{number:06d}"))
    generated, written = generate(SETTINGS, "train", number), Game.load(folder / "game.tw-pddl")
    assert json.loads((folder / "game.tw-pddl").read_text()) == {
        key: generated[key] for key in ("pddl_domain", "grammar", "pddl_problem", "solvable", "walkthrough")
    }
    in_memory = Game.load(generated)
    assert (written.intro, written.task.scene, written.task.kind) == (
        in_memory.intro,
        in_memory.task.scene,
        in_memory.task.kind,
    )


def test_folders_are_named_as_the_official_ones(houses):
    folders = trials(houses)
    assert len({folder.name for folder in folders}) == len(folders) == sum(COUNTS.values())
    for folder in folders:
        assert TRIAL.fullmatch(folder.name)
        task_type, target, destination, _ = TASK_FOLDER.fullmatch(folder.parent.name).groups()
        assert task_type in TASK_TYPES
        assert (destination == "DeskLamp") == (task_type == "look_at_obj_in_light")
        assert f"{target}Type" in (folder / "initial_state.pddl").read_text()
    assert {folder.parent.name.split("-")[0] for folder in folders} == TASK_TYPES


def test_scenes_are_floor_plans(houses):
    numbers = {}
    for folder in trials(houses):
        game = Game.load(folder / "game.tw-pddl")
        split = folder.parts[-3]
        numbers.setdefault(split, {}).setdefault(game.task.scene, set()).add(game.first_look)
    for scenes in numbers.values():
        assert all(len(looks) == 1 for looks in scenes.values())
        assert len(set.union(*scenes.values())) == len(scenes) == SETTINGS.floor_plans
    assert numbers["valid_seen"] == numbers["train"]
    assert not set(numbers["valid_unseen"]) & set(numbers["train"])


def test_scene_numbers_tell_the_room_and_never_meet():
    plans = floor_plans(HousesConfig(receptacles=8), 700)
    assert [plan.scene for plan in plans[:8]] == [1, 301, 2, 401, 3, 201, 4, 302]
    assert len({plan.scene for plan in plans}) == len(plans)
    starts = {"kitchen": 0, "living": 200, "bedroom": 300, "bathroom": 400}
    for plan in plans:
        assert 0 < plan.scene % 1000 - starts[plan.room] <= 100
    assert max(plan.scene for plan in plans if plan.number < 60) <= 430


def test_the_official_loader_finds_what_it_reads(houses):
    """What AlfredTWEnv, its hand-coded expert and alfworld-generate ask of a trial folder, without running them."""
    for folder in trials(houses):
        inside = folder.relative_to(houses).as_posix()
        assert "movable" not in inside and "Sliced" not in inside
        annotations = json.loads((folder / "traj_data.json").read_text())
        assert annotations["task_type"] in TASK_TYPES
        assert annotations["task_id"] == folder.name
        names = annotations["pddl_params"]
        parts = [annotations["task_type"], names["object_target"], names["mrecep_target"] or "None"]
        parts += [names["parent_target"] or names["toggle_target"], str(annotations["scene"]["scene_num"])]
        assert folder.parent.name == "-".join(parts)
        assert not names["object_sliced"]
        assert annotations["scene"]["floor_plan"] == f"FloorPlan{annotations['scene']['scene_num']}"
        game = json.loads((folder / "game.tw-pddl").read_text())
        assert game["solvable"] is True
        assert game["pddl_problem"] == (folder / "initial_state.pddl").read_text()
        (annotation,) = annotations["turk_annotations"]["anns"]
        assert f"Your task is to: {annotation['task_desc']}." in game["grammar"]


def test_the_same_settings_give_the_same_bytes(houses, tmp_path):
    write_houses(tmp_path / "again", SETTINGS, COUNTS)
    assert content(tmp_path / "again") == content(houses)
    write_houses(tmp_path / "fewer", SETTINGS, {"valid_unseen": 3})
    fewer = content(tmp_path / "fewer")
    assert len(fewer) == 9 and fewer.items() <= content(houses).items()
    write_houses(tmp_path / "other", HousesConfig(seed=1), {"valid_unseen": 3})
    assert not content(tmp_path / "other").keys() & content(houses).keys()


def test_a_split_may_be_larger_than_its_panel(tmp_path):
    settings = HousesConfig(floor_plans=2, games_per_plan=1)
    progress = []
    write_houses(tmp_path, settings, {"train": 5, "test_seen": 150}, lambda *done: progress.append(done))
    assert progress == [(number, 155) for number in range(1, 156)]
    problems = {path.read_text().partition("(:init")[2] for path in tmp_path.rglob("initial_state.pddl")}
    assert len(problems) == 155


def test_a_folder_with_files_is_left_alone(houses, tmp_path):
    before = content(houses)
    with pytest.raises(DataError, match="not empty"):
        write_houses(houses, SETTINGS, {"train": 1})
    assert content(houses) == before
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataError, match="is a file"):
        write_houses(file, SETTINGS, {"train": 1})


def test_what_was_interrupted_leaves_nothing_and_can_be_repeated(tmp_path):
    def interrupt(done, _):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_houses(tmp_path, SETTINGS, {"train": 5}, interrupt)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".json_2.1.1.part" / "train").mkdir(parents=True)
    write_houses(tmp_path, SETTINGS, {"train": 5})
    assert [path.name for path in tmp_path.iterdir()] == ["json_2.1.1"]


@pytest.mark.parametrize("counts", [{"train": 0}, {"train": 1, "test": 1}])
def test_wrong_counts_are_named_before_anything_is_written(tmp_path, counts):
    with pytest.raises(ConfigError, match="train"):
        write_houses(tmp_path, SETTINGS, counts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_official_loader_and_engine_take_them(tmp_path):
    official = pytest.importorskip("alfworld.agents.environment.alfred_tw_env", reason="alfworld is not installed")
    write_houses(tmp_path, SETTINGS, {"train": 10})
    data = str(tmp_path / "json_2.1.1" / "train")
    config = {
        "dataset": {"data_path": data, "num_train_games": -1},
        "env": {
            "goal_desc_human_anns_prob": 0,
            "task_types": [1, 2, 3, 4, 5, 6],
            "domain_randomization": False,
            "expert_type": "handcoded",
        },
        "general": {"training_method": "dqn"},
        "rl": {"training": {"max_nb_steps_per_episode": 50}},
    }
    collected = official.AlfredTWEnv(config, train_eval="train")
    assert sorted(map(Path, collected.game_files)) == [folder / "game.tw-pddl" for folder in trials(tmp_path)]
    environment = collected.init_env(batch_size=1)
    for _ in collected.game_files:
        (text,), infos = environment.reset()
        game = Game.load(Path(infos["extra.gamefile"][0]))
        seen = game.reset()
        for command in game.walkthrough:
            assert (text, infos["admissible_commands"][0]) == (seen.text, seen.commands)
            (text,), _, _, infos = environment.step([command])
            seen = game.step(command)
        assert (text, infos["won"][0]) == (seen.text, True)
    environment.close()
