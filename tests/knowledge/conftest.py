"""Real ALFWorld games, where their archive is beside the project."""

import tarfile
from pathlib import Path

import pytest

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "alfworld_2021_valid_seen.tar.xz"


@pytest.fixture(scope="session")
def real_games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 187 real games of the split valid_seen."""
    if not ARCHIVE.is_file():
        pytest.skip(f"the archive {ARCHIVE.name} of real games is not there")
    folder = tmp_path_factory.mktemp("games")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.rglob("valid_seen")).parent


@pytest.fixture(scope="session")
def webshop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of WebShop's small data set."""
    archive = ARCHIVE.with_name("webshop_1k.tar.xz")
    if not archive.is_file():
        pytest.skip(f"the archive {archive.name} of WebShop is not there")
    folder = tmp_path_factory.mktemp("webshop")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "webshop_1k"
