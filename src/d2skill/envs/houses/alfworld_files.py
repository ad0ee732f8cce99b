"""Writer of generated houses as files in the layout of ALFWorld's data; the official loader and engine take them too.

    OUT/json_2.1.1/<split>/<task type>-<target>-None-<destination>-<scene>/<trial>/
        game.tw-pddl         the game, for both engines
        traj_data.json       what the official loader and its hand-coded expert read
        initial_state.pddl   the PDDL problem alone, from which `alfworld-generate` makes games anew

A trial is named like an official one; where those have date and time stand the seed of the houses, the split
and the number of the game. Nothing here can be played in the 3D simulator, so `traj_data.json` has neither
images nor a plan nor poses, and its one annotation is the task of the game, not a person's words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from d2skill.config import HousesConfig
from d2skill.envs.houses import House, build_house, sizes, split_size
from d2skill.errors import ConfigError, DataError
from d2skill.utils.atomic_files import write_folder


def write_houses(
    out: Path,
    settings: HousesConfig,
    counts: Mapping[str, int],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes games into a folder that is new or empty, but for hidden files.

    `OUT/json_2.1.1` appears when it is complete, and its bytes depend on the settings and counts alone.

    Args:
        out: The folder.
        settings: Settings of the houses.
        counts: Number of games of each split, the first of it.
        progress: Called after each game with the numbers of games written and to write.

    Raises:
        ConfigError: For an unknown split or a count below 1.
        DataError: For a folder that holds files.
    """
    for split, count in counts.items():
        split_size(settings, split)
        if count < 1:
            raise ConfigError(f"{split} cannot have {count} games: ask for 1 or more, or leave the split out")
    _require_empty(out)

    def fill(root: Path) -> None:
        written, total = 0, sum(counts.values())
        for split, count in counts.items():
            for number in range(count):
                _write_game(root / split, build_house(settings, split, number), _trial(settings, split, number))
                written += 1
                if progress:
                    progress(written, total)

    write_folder(out / "json_2.1.1", fill)


def _require_empty(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file: name a folder that is new or empty")
    if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise DataError(f"{out} is not empty: name a new folder, or remove what is in it")


def _trial(settings: HousesConfig, split: str, number: int) -> str:
    """Returns the unique name of a trial, such as trial_T00000000_000001_000139."""
    return f"trial_T{settings.seed:08d}_{list(sizes(settings)).index(split):06d}_{number:06d}"


def _write_game(split: Path, house: House, trial: str) -> None:
    task = house.task
    folder = split / f"{task.kind}-{task.target}-None-{task.destination}-{house.scene}" / trial
    folder.mkdir(parents=True)
    texts = {
        "game.tw-pddl": json.dumps(house.content),
        "traj_data.json": json.dumps(_annotations(house, trial), indent=2),
        "initial_state.pddl": house.content["pddl_problem"],
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")


def _annotations(house: House, trial: str) -> dict[str, Any]:
    """Returns the content of `traj_data.json`, without the keys that only the simulator needs."""
    task = house.task
    look = task.kind == "look_at_obj_in_light"
    return {
        "task_id": trial,
        "task_type": task.kind,
        "pddl_params": {
            "object_target": task.target,
            "parent_target": "" if look else task.destination,
            "toggle_target": task.destination if look else "",
            "mrecep_target": "",
            "object_sliced": False,
        },
        "scene": {"floor_plan": f"FloorPlan{house.scene}", "scene_num": house.scene},
        "turk_annotations": {"anns": [{"task_desc": house.task_text}]},
    }
