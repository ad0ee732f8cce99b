"""ALFWorld games and WebShop's small set: recorded games in the project, real ones from archives beside it."""

from __future__ import annotations

import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from webshop_products import write_set

from d2skill.envs.webshop import Catalogue

TRACES = Path(__file__).parent / "alfworld" / "data" / "reference_traces.json.xz"
ARCHIVES = Path(__file__).parents[3] / "shared" / "data"
SAMPLE = 60


@pytest.fixture(scope="session")
def recorded() -> list[dict[str, Any]]:
    """Games with traces of the official engine; see `data/README.md`."""
    content = json.loads(lzma.decompress(TRACES.read_bytes()))
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


def unpack_games(archive: str, folder: Path, wanted: Callable[[int, str], bool]) -> list[Path]:
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
    return unpack_games("alfworld_train_seen.tar.xz", folder, lambda n, name: n % (3693 // SAMPLE) == 1)


@pytest.fixture(scope="session")
def all_games(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All 3,693 real games of the current release."""
    return unpack_games("alfworld_train_seen.tar.xz", tmp_path_factory.mktemp("all"), lambda n, name: True)


@pytest.fixture(scope="session")
def older_games(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All 187 games of the 2021 release, which words placing and arriving differently."""
    return unpack_games("alfworld_2021_valid_seen.tar.xz", tmp_path_factory.mktemp("older"), lambda n, name: True)


@pytest.fixture(params=["alfworld_train_seen", "alfworld_2021_valid_seen"])
def valid_seen_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the split valid_seen of a release."""
    files = unpack_games(f"{request.param}.tar.xz", tmp_path, lambda n, name: "/valid_seen/" in name)
    return files[0].parents[3]


def webshop_archive(name: str) -> Path:
    """A file beside the project; skips the test where it is not there."""
    path = ARCHIVES / name
    if not path.is_file():
        pytest.skip(f"the archive {name} of WebShop is not there")
    return path


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the original's small data set."""
    path = webshop_archive("webshop_1k.tar.xz")
    folder = tmp_path_factory.mktemp("webshop")
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    return folder / "webshop_1k"


@pytest.fixture(scope="session")
def original() -> dict[str, Any]:
    """Recordings of the original on the small set: prices, goals, sessions."""
    return json.loads(lzma.decompress(webshop_archive("webshop_1k_original.json.xz").read_bytes()))


@pytest.fixture(scope="session")
def catalogue(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The small set's catalogue."""
    return Catalogue.load(small_set, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Catalogue]:
    """Makes a catalogue of raw products, with attributes and instructions by people if given."""

    def make(
        products: list[Any], attributes: dict[str, Any] | None = None, people: dict[str, Any] | None = None
    ) -> Catalogue:
        folder = write_set(tmp_path_factory.mktemp("set"), products, attributes or {}, people or {})
        return Catalogue.load(folder, tmp_path_factory.mktemp("cache"))

    return make
