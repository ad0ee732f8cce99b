"""Product store: cleaned products on disk, one line of JSON each, with tables that are mapped into memory.

The folder of a data set holds `products.jsonl`, the instructions that goals are made of, `synthetic.jsonl` and
`people.jsonl`, and tables: where the lines begin, the asins sorted with the number of each, prices, categories and
queries as codes, how many goals each instruction makes and their weights. Arrays that are drawn with a seed and take
long are cached there too. Products are numbered in the order of the source file.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from d2skill.envs.text_search import read_arrays, write_arrays
from d2skill.envs.webshop.lazy_sequence import Numbers, shuffled
from d2skill.envs.webshop.product import Product, clean_product, is_asin
from d2skill.envs.webshop.source_files import SourceFiles, read_object, stream_array
from d2skill.errors import DataError
from d2skill.utils.foreign_files import read_json

VERSION = 2
"""Part of a cache's name: another way to clean or to store products makes another cache."""

Group = Literal["category", "query"]
_GROUPS: tuple[Group, ...] = ("category", "query")
Author = Literal["synthetic", "people"]
_AUTHORS: tuple[Author, ...] = ("synthetic", "people")
_INSTRUCTION_TABLES = ("starts", "products", "ends", "weights")
_TABLE_NAMES = (
    *("starts", "bounds", "asins", "numbers"),
    *_GROUPS,
    *(f"{author}_{name}" for author in _AUTHORS for name in _INSTRUCTION_TABLES),
)
_META, _TABLES, _ARRAY = "meta.json", "tables", "array"
_MOST_CHOICES = 1 << 40  # of the options of one product: a larger number counts as this
_CACHED_SIZE = 1 << 16  # items of an array from which it is worth caching


def write_store(sources: SourceFiles, folder: Path) -> None:
    """Cleans the products of a data set into an existing folder, reading them one by one.

    Raises `DataError` for a broken file, and for one without a product.
    """
    attributes = read_object(sources.attributes)
    people = read_object(sources.people)
    bounds = array("d")
    codes: dict[Group, array[int]] = {group: array("l") for group in _GROUPS}
    code_of: dict[Group, dict[str, int]] = {group: {} for group in _GROUPS}
    asins: dict[str, None] = {}
    with (
        closing(_LineWriter(folder / "products.jsonl")) as products,
        closing(_InstructionWriter(folder / "synthetic.jsonl")) as synthetic,
        closing(_InstructionWriter(folder / "people.jsonl")) as by_people,
    ):
        for raw in stream_array(sources.products):
            asin = raw.get("asin") if isinstance(raw, dict) else None
            if not is_asin(asin) or asin in asins:
                continue
            known = attributes.get(asin, {})
            product = clean_product(raw, known.get("attributes"))
            text, wanted = known.get("instruction"), known.get("instruction_attributes")
            if text is not None and wanted:
                choices = prod(map(len, product.options.values()))
                synthetic.add_instruction(len(asins), choices, (text, wanted))
            for entry in people.get(asin) or ():
                if wanted := entry["instruction_attributes"]:
                    line = (entry["instruction"], wanted, entry["instruction_options"])
                    by_people.add_instruction(len(asins), 1, line)
            products.add(product.row())
            bounds.extend((product.pricing[0], product.pricing[-1] if len(product.pricing) > 1 else float("nan")))
            for group in _GROUPS:
                codes[group].append(code_of[group].setdefault(getattr(product, group), len(code_of[group])))
            asins[asin] = None
    if not asins:
        raise DataError(f"{sources.products} holds no product")
    encoded = np.array([asin.encode() for asin in asins])
    order = np.argsort(encoded, kind="stable")
    tables = {
        "starts": np.array(products.starts, np.int64),
        "bounds": np.array(bounds, np.float64).reshape(-1, 2),
        "asins": encoded[order],
        "numbers": order.astype(np.int32),
        "category": np.array(codes["category"], np.int32),
        "query": np.array(codes["query"], np.int32),
        **{f"synthetic_{name}": table for name, table in synthetic.tables(synthetic.weights()).items()},
        **{f"people_{name}": table for name, table in by_people.tables(np.ones(len(by_people.products))).items()},
    }
    write_arrays(folder / _TABLES, tables)
    meta = {"version": VERSION, "kinds": {group: list(code_of[group]) for group in _GROUPS}}
    (folder / _META).write_text(json.dumps(meta))


class _LineWriter:
    """Writes values as lines of JSON and notes where each begins."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.close = self._file.close
        self.starts = array("q", [0])

    def add(self, value: Any) -> None:
        """Writes a value."""
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
        self._file.write(line)
        self.starts.append(self.starts[-1] + len(line))


class _InstructionWriter(_LineWriter):
    """Writes instructions and collects the tables of `Instructions`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.products, self._goals = array("l"), array("q")
        self._attributes, self._attribute_counts = array("l"), array("l")
        self._codes: dict[str, int] = {}

    def add_instruction(self, product: int, goals: int, line: tuple[Any, ...]) -> None:
        """Writes the line of an instruction (text, attributes, ...) that makes so many goals for a product."""
        self.add(line)
        self.products.append(product)
        self._goals.append(min(goals, _MOST_CHOICES))
        self._attributes.extend([self._codes.setdefault(attribute, len(self._codes)) for attribute in line[1]])
        self._attribute_counts.append(len(line[1]))

    def weights(self) -> npt.NDArray[np.float64]:
        """Returns the weight of each instruction's goals: the mean of 1 / goals with it, over its attributes."""
        attributes, counts = np.array(self._attributes, np.int64), np.array(self._attribute_counts, np.int64)
        owners = np.repeat(np.arange(len(counts)), counts)
        goals = np.bincount(attributes, np.array(self._goals, np.float64)[owners])
        parts = 1 / np.maximum(goals, 1)  # no goal has an attribute whose products all have options without values
        return np.bincount(owners, parts[attributes], len(counts)) / counts  # adds up in order, as the original does

    def tables(self, weights: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any]]:
        """Returns the arrays by the names of `_INSTRUCTION_TABLES`."""
        return {
            "starts": np.array(self.starts, np.int64),
            "products": np.array(self.products, np.int32),
            "ends": np.cumsum([0, *self._goals], dtype=np.int64),
            "weights": weights,
        }


class JsonLines:
    """A mapped file of JSON lines, whose values are read by number."""

    def __init__(self, path: Path, starts: npt.NDArray[np.int64]) -> None:
        """Opens a file. Raises `OSError` for one that is missing, `ValueError` for one of another length."""
        self._starts = starts
        with path.open("rb") as file:  # the content stays there when the file is moved or removed
            self._content = mmap(file.fileno(), 0, access=ACCESS_READ) if path.stat().st_size else b""
        if len(self._content) != starts[-1]:
            raise ValueError(f"{path.name} is not complete")

    def __getitem__(self, number: int) -> Any:
        line = self._content[self._starts[number] : self._starts[number + 1]]
        return json.loads(line.decode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions that goals are made of, in the order of the products: the synthetic ones, or those by people."""

    lines: JsonLines
    """Text and attributes of each; of those by people the options too."""
    products: npt.NDArray[np.int32]
    """The number of each one's product."""
    ends: npt.NDArray[np.int64]
    """The number of goals made of those before each, and at last of all: one for each choice of the product's options,
    and one of each by people."""
    weights: npt.NDArray[np.float64]
    """Relative frequency with which the original draws a goal of each product."""

    @property
    def goals(self) -> int:
        """The number of all goals."""
        return int(self.ends[-1])


class ProductStore:
    """The products in a folder that `write_store` filled."""

    def __init__(self, folder: Path) -> None:
        """Opens a folder. Raises `ValueError`, `OSError` or `DataError` for one that is damaged."""
        self._folder = folder
        meta = read_json(folder / _META)
        if meta["version"] != VERSION:
            raise ValueError("it is of another version")
        tables = read_arrays(folder / _TABLES, _TABLE_NAMES)
        self.price_bounds: npt.NDArray[np.float64] = tables["bounds"]
        """[products, 2]: the ends of each price range; the second is NaN for a single price."""
        self._sorted_asins: npt.NDArray[np.bytes_] = tables["asins"]
        self._numbers: npt.NDArray[np.int32] = tables["numbers"]
        self._codes: dict[Group, npt.NDArray[np.int32]] = {group: tables[group] for group in _GROUPS}
        self._names: dict[Group, list[str]] = meta["kinds"]
        self._products = JsonLines(folder / "products.jsonl", tables["starts"])
        self.instructions: dict[Author, Instructions] = {
            author: Instructions(
                JsonLines(folder / f"{author}.jsonl", tables[f"{author}_starts"]),
                *(tables[f"{author}_{name}"] for name in _INSTRUCTION_TABLES[1:]),
            )
            for author in _AUTHORS
        }

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, asin: str) -> int | None:
        """Returns the number of a product, None if there is no such product."""
        name = np.bytes_(asin.encode("utf-8", "surrogatepass"))
        place = int(np.searchsorted(self._sorted_asins, name))
        if place == len(self._sorted_asins) or self._sorted_asins[place] != name:
            return None
        return int(self._numbers[place])

    def asins(self) -> list[str]:
        """Returns all asins by the numbers of their products."""
        names = np.empty_like(self._sorted_asins)
        names[self._numbers] = self._sorted_asins
        return [name.decode() for name in names.tolist()]

    def product(self, number: int) -> Product:
        """Returns a product by its number."""
        return Product.from_row(self._products[number])

    def members(self, group: Group, name: str) -> list[int]:
        """Returns the numbers of all products of a category or a query."""
        try:
            code = self._names[group].index(name)
        except ValueError:
            return []
        return [int(number) for number in np.flatnonzero(self._codes[group] == code)]

    def shuffled(self, count: int, seed: int) -> Numbers:
        """Returns the result of `lazy_sequence.shuffled`, from the cache if it is there."""
        return self.cached(f"shuffled-{count}-{seed}", count, lambda: shuffled(count, seed))

    def cached(self, name: str, count: int, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Returns an array of `count` items that depends on nothing but the products and its name.

        A large one is kept beside the products, where that is possible.
        """
        if count < _CACHED_SIZE or not self._folder.is_dir():
            return make()
        with suppress(DataError):
            return read_arrays(self._folder / name, [_ARRAY])[_ARRAY]
        made = make()
        with suppress(OSError):
            write_arrays(self._folder / name, {_ARRAY: made})
        return made
