"""Games for the tests: recorded ones that are part of the project, and real ones from archives beside it."""

from __future__ import annotations

import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"
ARCHIVES = Path(__file__).parents[4] / "shared" / "data"
SAMPLE = 60


@pytest.fixture(scope="session")
def recorded() -> list[dict[str, Any]]:
    """Games with traces of the official engine; see `data/README.md`."""
    content = json.loads(lzma.decompress((DATA / "reference_traces.json.xz").read_bytes()))
    for game in content["games"]:
        game["pddl_domain"] = content["domains"][game["domain"]]
        game["grammar"] = content["grammars"][game["grammar"]].replace("@TASK@", game["task"])
    return content["games"]


@pytest.fixture
def game_json(recorded: list[dict[str, Any]]) -> dict[str, Any]:
    """One game as its file holds it."""
    keys = ("pddl_domain", "grammar", "pddl_problem", "solvable", "walkthrough")
    return {key: recorded[-1][key] for key in keys}


@pytest.fixture
def data_folder(tmp_path: Path, recorded: list[dict[str, Any]]) -> Path:
    """A small folder in the official layout, of the recorded games; one of two splits holds a single game."""
    for game in recorded:
        split = "train" if game is not recorded[0] else "valid_seen"
        folder = tmp_path / "json_2.1.1" / split / game["name"]
        folder.mkdir(parents=True)
        content = {key: game[key] for key in ("pddl_domain", "grammar", "pddl_problem")}
        (folder / "game.tw-pddl").write_text(json.dumps({**content, "solvable": True, "walkthrough": []}))
    return tmp_path


def unpack(archive: str, folder: Path, wanted: Callable[[int, str], bool]) -> list[Path]:
    """Unpacks the games of an archive that are wanted by number and name; skips the test where there is no archive."""
    path = ARCHIVES / archive
    if not path.is_file():
        pytest.skip(f"the archive {archive} of real games is not there")
    files = []
    with tarfile.open(path) as tar:
        games = 0
        for member in tar:
            if member.name.endswith("/game.tw-pddl"):
                games += 1
                if wanted(games, member.name):
                    tar.extract(member, folder, filter="data")
                    files.append(folder / member.name)
    return sorted(files)


@pytest.fixture(scope="session")
def sampled_games(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Some real games of all kinds."""
    folder = tmp_path_factory.mktemp("sample")
    return unpack("alfworld_train_seen.tar.xz", folder, lambda n, name: n % (3693 // SAMPLE) == 1)


@pytest.fixture(scope="session")
def all_games(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All 3,693 real games of the current release."""
    return unpack("alfworld_train_seen.tar.xz", tmp_path_factory.mktemp("all"), lambda n, name: True)


@pytest.fixture(scope="session")
def older_games(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All 187 games of the 2021 release, which words placing and arriving differently."""
    return unpack("alfworld_2021_valid_seen.tar.xz", tmp_path_factory.mktemp("older"), lambda n, name: True)


@pytest.fixture(params=["alfworld_train_seen", "alfworld_2021_valid_seen"])
def valid_seen_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the split valid_seen of a release."""
    files = unpack(f"{request.param}.tar.xz", tmp_path, lambda n, name: "/valid_seen/" in name)
    return files[0].parents[3]
