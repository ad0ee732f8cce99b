"""Cleaned products on disk: one line of JSON each, found by number, and small tables of what all of them are asked for.

The folder of a data set holds `products.jsonl`, the instructions that goals are made of, `synthetic.jsonl` and
`people.jsonl`, and tables: where the lines begin, the asins sorted with the number of each, prices, categories and
queries as codes, how many goals each instruction makes and what they weigh. What was drawn with a seed and took long is
kept there too. All of it is mapped into memory, not read.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from d2skill.envs.text_search.index_files import read_arrays, write_arrays
from d2skill.envs.webshop.lazy_sequence import Numbers, shuffled
from d2skill.envs.webshop.product import Product, clean, is_sold
from d2skill.envs.webshop.source_files import Sources, read_object, stream
from d2skill.errors import DataError

VERSION = 2
"""Part of a cache's name: another way to clean or to keep products makes another cache."""

Kind = Literal["category", "query"]
_KINDS: tuple[Kind, ...] = ("category", "query")
Teller = Literal["synthetic", "people"]
SYNTHETIC: Teller = "synthetic"
PEOPLE: Teller = "people"
_TELLERS = (SYNTHETIC, PEOPLE)
_OF_TELLER = ("starts", "products", "ends", "weights")
_NAMES = (
    "starts",
    "bounds",
    "asins",
    "numbers",
    *_KINDS,
    *(f"{one}_{name}" for one in _TELLERS for name in _OF_TELLER),
)
_META, _TABLES, _ARRAY = "meta.json", "tables", "array"
_MOST_CHOICES = 1 << 40  # of the options of one product: more are counted as so many
_MANY = 1 << 16  # what is drawn of fewer things is drawn anew in no time


def write(sources: Sources, folder: Path) -> None:
    """Cleans the products of a data set into an existing folder, reading them one by one.

    Raises `DataError` for a broken file, and where there is no product.
    """
    attributes = read_object(sources.attributes)
    people = read_object(sources.people)
    bounds = array("d")
    codes: dict[Kind, array[int]] = {kind: array("l") for kind in _KINDS}
    kinds: dict[Kind, dict[str, int]] = {kind: {} for kind in _KINDS}
    asins: dict[str, None] = {}
    with (
        _Writer(folder / "products.jsonl") as products,
        _Told(folder / f"{SYNTHETIC}.jsonl") as synthetic,
        _Told(folder / f"{PEOPLE}.jsonl") as by_people,
    ):
        for raw in stream(sources.products):
            asin = raw.get("asin") if isinstance(raw, dict) else None
            if not is_sold(asin) or asin in asins:
                continue
            known = attributes.get(asin, {})
            product = clean(raw, known.get("attributes"))
            text, wanted = known.get("instruction"), known.get("instruction_attributes")
            if text is not None and wanted:
                synthetic.tell(len(asins), prod(map(len, product.options.values())), text, wanted)
            for told in people.get(asin) or ():
                if wanted := told["instruction_attributes"]:
                    by_people.tell(len(asins), 1, told["instruction"], wanted, told["instruction_options"])
            products.add(product.row())
            bounds.extend((product.pricing[0], product.pricing[-1] if len(product.pricing) > 1 else float("nan")))
            for kind, names in kinds.items():
                codes[kind].append(names.setdefault(getattr(product, kind), len(names)))
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
        **{f"{SYNTHETIC}_{name}": table for name, table in synthetic.tables(synthetic.weights()).items()},
        **{f"{PEOPLE}_{name}": table for name, table in by_people.tables(np.ones(len(by_people.products))).items()},
    }
    write_arrays(folder / _TABLES, tables)
    meta = {"version": VERSION, "kinds": {kind: list(names) for kind, names in kinds.items()}}
    (folder / _META).write_text(json.dumps(meta))


class _Writer:
    """Writes values as lines of JSON and notes where they begin."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.starts = array("q", [0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, value: Any) -> None:
        """Writes a value."""
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
        self._file.write(line)
        self.starts.append(self.starts[-1] + len(line))


class _Told(_Writer):
    """Writes instructions and counts what their goals and weights need."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.products, self._goals = array("l"), array("q")
        self._attributes, self._sizes = array("l"), array("l")
        self._codes: dict[str, int] = {}

    def tell(self, product: int, goals: int, text: Any, attributes: Any, *more: Any) -> None:
        """Writes an instruction of which so many goals are made."""
        self.add((text, attributes, *more))
        self.products.append(product)
        self._goals.append(min(goals, _MOST_CHOICES))
        self._attributes.extend([self._codes.setdefault(one, len(self._codes)) for one in attributes])
        self._sizes.append(len(attributes))

    def weights(self) -> npt.NDArray[np.float64]:
        """Returns the weight of each instruction's goals: the mean of 1 / goals with it, over its attributes."""
        attributes, sizes = np.array(self._attributes, np.int64), np.array(self._sizes, np.int64)
        owners = np.repeat(np.arange(len(sizes)), sizes)
        having = np.bincount(attributes, np.array(self._goals, np.float64)[owners])
        parts = 1 / np.maximum(having, 1)  # none has an attribute whose products have options without values
        return np.bincount(owners, parts[attributes], len(sizes)) / sizes  # adds up in order, as the original does

    def tables(self, weights: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any]]:
        """Returns the tables of `Instructions`, and where the lines begin."""
        return {
            "starts": np.array(self.starts, np.int64),
            "products": np.array(self.products, np.int32),
            "ends": np.cumsum([0, *self._goals], dtype=np.int64),
            "weights": weights,
        }


class Lines:
    """The values of a file of JSON lines, by number."""

    def __init__(self, path: Path, starts: npt.NDArray[np.int64]) -> None:
        """Opens a file. Raises `OSError` for one that is missing, `ValueError` for one that ends elsewhere."""
        self._starts = starts
        self._content = _mapped(path)
        if len(self._content) != starts[-1]:
            raise ValueError(f"{path.name} is not complete")

    def __getitem__(self, number: int) -> Any:
        line = self._content[self._starts[number] : self._starts[number + 1]]
        return json.loads(line.decode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Instructions:
    """What goals are made of, in the order of the products: synthetic instructions, or those by people."""

    lines: Lines
    """Each one's text and attributes; of those by people the options too."""
    products: npt.NDArray[np.int32]
    """The number of each one's product."""
    ends: npt.NDArray[np.int64]
    """How many goals are made of those before each, and at last of all: one for each choice of the product's options,
    and one of each by people."""
    weights: npt.NDArray[np.float64]
    """How often the original draws each goal of one, relative to others."""

    @property
    def goals(self) -> int:
        """How many goals there are."""
        return int(self.ends[-1])


class Storage:
    """The products of a folder that `write` filled."""

    def __init__(self, folder: Path) -> None:
        """Opens a folder. Raises `ValueError`, `OSError` or `DataError` for one that is damaged."""
        self._folder = folder
        meta = json.loads((folder / _META).read_bytes())
        if meta["version"] != VERSION:
            raise ValueError("it is of another version")
        tables = read_arrays(folder / _TABLES, _NAMES)
        self.bounds: npt.NDArray[np.float64] = tables["bounds"]
        self._sorted: npt.NDArray[np.bytes_] = tables["asins"]
        self._numbers: npt.NDArray[np.int32] = tables["numbers"]
        self._codes: dict[Kind, npt.NDArray[np.int32]] = {kind: tables[kind] for kind in _KINDS}
        self._names: dict[Kind, list[str]] = meta["kinds"]
        self._lines = Lines(folder / "products.jsonl", tables["starts"])
        self._told = {
            teller: Instructions(
                Lines(folder / f"{teller}.jsonl", tables[f"{teller}_starts"]),
                *(tables[f"{teller}_{name}"] for name in _OF_TELLER[1:]),
            )
            for teller in _TELLERS
        }

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, asin: str) -> int | None:
        """Returns the number of a product, counted in the order of the file, None where there is no such product."""
        try:
            name = np.bytes_(asin.encode())
        except UnicodeEncodeError:
            return None
        at = int(np.searchsorted(self._sorted, name))
        if at == len(self._sorted) or self._sorted[at] != name:
            return None
        return int(self._numbers[at])

    def asins(self) -> list[str]:
        """Returns all asins in the order of the file."""
        names = np.empty_like(self._sorted)
        names[self._numbers] = self._sorted
        return [name.decode() for name in names.tolist()]

    def product(self, number: int) -> Product:
        """Returns a product by its number."""
        return Product.from_row(self._lines[number])

    def of_kind(self, kind: Kind, name: str) -> list[int]:
        """Returns the numbers of all products of a category or a query."""
        try:
            code = self._names[kind].index(name)
        except ValueError:
            return []
        return [int(number) for number in np.flatnonzero(self._codes[kind] == code)]

    def instructions(self, teller: Teller) -> Instructions:
        """Returns the synthetic instructions, or those by people."""
        return self._told[teller]

    def shuffled(self, count: int, seed: int) -> Numbers:
        """Returns what `sequences.shuffled` does, from the cache if it is there."""
        return self.kept(f"shuffled-{count}-{seed}", count, lambda: shuffled(count, seed))

    def kept(self, name: str, count: int, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Returns an array of so many items that depends on nothing but the products and its name.

        If they are many, it is kept beside the products, where that is possible.
        """
        if count < _MANY or not self._folder.is_dir():
            return make()
        with suppress(DataError):
            return read_arrays(self._folder / name, [_ARRAY])[_ARRAY]
        made = make()
        with suppress(OSError):
            write_arrays(self._folder / name, {_ARRAY: made})
        return made


def _mapped(path: Path) -> mmap | bytes:
    """Returns the content of a file, which stays there when the file is moved or removed."""
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ) if path.stat().st_size else b""
