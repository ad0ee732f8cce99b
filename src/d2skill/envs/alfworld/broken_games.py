"""Search for broken game files before a run, which would stop when it comes to one of them.

To load thousands of games takes a minute, so the cache has the files that were found whole, with size and time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from platformdirs import user_cache_path

from d2skill.errors import DataError
from d2skill.utils.atomic_files import write_json
from d2skill.utils.foreign_files import read_json
from d2skill.utils.foreign_text import logger

_FILE = "game.tw-pddl"
_MANY = 200  # games whose loading takes a while
_log = logger(__name__)


def find_broken(root: Path, task_ids: Sequence[str], load: Callable[[str], object]) -> dict[str, str]:
    """Returns the games that cannot be loaded, by id with the reason.

    Args:
        root: Folder of the splits.
        task_ids: Ids of the games, `split/task/trial`.
        load: Loads the game of an id; raises `DataError` for a broken one.
    """
    cache = _cache_file(root)
    known = _read_known(cache)
    stamps = {task_id: _stamp(root / task_id / _FILE) for task_id in task_ids}
    unknown = [task_id for task_id, stamp in stamps.items() if known.get(task_id) != stamp]
    if len(unknown) > _MANY:
        _log.warning("Checking %d games, once; a run of the same games does not check them again.", len(unknown))
    broken: dict[str, str] = {}
    for task_id in unknown:
        try:
            load(task_id)
        except DataError as error:
            broken[task_id] = str(error)
        else:
            known[task_id] = stamps[task_id]
    if len(unknown) > len(broken):
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_json(cache, known)
        except OSError:
            pass  # they are checked again next time
    return broken


def _cache_file(root: Path) -> Path:
    """Returns the file of what is known of a folder: $D2SKILL_CACHE/alfworld, or below the user's caches."""
    folder = os.environ.get("D2SKILL_CACHE", "")
    cache = Path(folder).expanduser() if folder else user_cache_path("d2skill", appauthor=False)
    name = hashlib.sha256(f"{root.absolute()} {version('d2skill')}".encode()).hexdigest()[:16]
    return cache / "alfworld" / f"{name}.json"


def _read_known(cache: Path) -> dict[str, list[int]]:
    """Returns the files that were found whole, by id with size and time; nothing if that cannot be read."""
    try:
        known = read_json(cache)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _stamp(path: Path) -> list[int]:
    """Returns size and time of a file, [] if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
