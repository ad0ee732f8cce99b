"""The small set of WebShop and what the original says of it, from archives beside the project; small shops by hand."""

from __future__ import annotations

import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d2skill.envs.webshop import Catalogue

ARCHIVES = Path(__file__).parents[4] / "shared" / "data"


def archive(name: str) -> Path:
    """A file beside the project; skips the test where it is not there."""
    path = ARCHIVES / name
    if not path.is_file():
        pytest.skip(f"the archive {name} of WebShop is not there")
    return path


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the original's small data set."""
    path = archive("webshop_1k.tar.xz")
    folder = tmp_path_factory.mktemp("webshop")
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    return folder / "webshop_1k"


@pytest.fixture(scope="session")
def original() -> dict[str, Any]:
    """What the original made of the small set: prices, goals, sessions."""
    return json.loads(lzma.decompress(archive("webshop_1k_original.json.xz").read_bytes()))


@pytest.fixture(scope="session")
def catalogue(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The small set's catalogue."""
    return Catalogue.load(small_set, tmp_path_factory.mktemp("cache"))


def raw(asin: str, **fields: Any) -> dict[str, Any]:
    """A product as its file holds it."""
    return {
        "asin": asin,
        "name": f"Lamp {asin}",
        "full_description": "A lamp.",
        "pricing": "$12.50",
        "images": [f"https://images.example/{asin}.jpg"],
        "product_category": "Home › Lights › Lamps",
        "average_rating": "",
        "small_description": ["Bright ", "Warm "],
        "customization_options": "",
        "category": "garden",
        "query": "Table Lamps ",
        "page": 1,
        **fields,
    }


def options(**values: list[str] | None) -> dict[str, list[dict[str, str]] | None]:
    """Options as the file of products holds them."""
    return {name: None if given is None else [{"value": value} for value in given] for name, given in values.items()}


def write_set(folder: Path, products: list[Any], attributes: dict[str, Any], people: dict[str, Any]) -> Path:
    """A data set under the names of the original's small one."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"items_shuffle_1000": products, "items_ins_v2_1000": attributes, "items_human_ins": people}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Catalogue]:
    """Makes a catalogue of raw products, with attributes and instructions by people if given."""

    def make(
        products: list[Any], attributes: dict[str, Any] | None = None, people: dict[str, Any] | None = None
    ) -> Catalogue:
        folder = write_set(tmp_path_factory.mktemp("set"), products, attributes or {}, people or {})
        return Catalogue.load(folder, tmp_path_factory.mktemp("cache"))

    return make
