"""Cleaned products on disk: one line of JSON each, found by number, and small tables of what all of them are asked for.

The folder of a data set holds `products.jsonl` and where its lines begin, the asins sorted with the number of each,
prices, categories and queries as codes, and the instructions, which only goals need. All of it is mapped into memory,
not read, but for the tables, which take some 40 bytes a product.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from d2skill.envs.webshop.products import Product, clean, is_sold
from d2skill.envs.webshop.sources import Sources, read_object, stream
from d2skill.errors import DataError

VERSION = 1
"""Part of a cache's name: another way to clean or to keep products makes another cache."""

Kind = Literal["category", "query"]
_KINDS: tuple[Kind, ...] = ("category", "query")
_META = "meta.json"


def write(sources: Sources, folder: Path) -> None:
    """Cleans the products of a data set into an existing folder, reading them one by one."""
    attributes = read_object(sources.attributes)
    people = read_object(sources.people)
    starts, bounds = array("q", [0]), array("d")
    codes: dict[Kind, array[int]] = {kind: array("l") for kind in _KINDS}
    kinds: dict[Kind, dict[str, int]] = {kind: {} for kind in _KINDS}
    asins: dict[str, None] = {}
    with (folder / "products.jsonl").open("wb") as products, (folder / "instructions.jsonl").open("w") as instructions:
        for raw in stream(sources.products):
            asin = raw.get("asin") if isinstance(raw, dict) else None
            if not is_sold(asin) or asin in asins:
                continue
            known = attributes.get(asin, {})
            product = clean(raw, known.get("attributes"))
            told = _instructions(known, people.get(asin))
            if any(told):
                instructions.write(json.dumps([len(asins), *told]) + "\n")
            line = json.dumps(product.row(), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
            products.write(line + b"\n")
            starts.append(starts[-1] + len(line) + 1)
            bounds.extend((product.pricing[0], product.pricing[-1] if len(product.pricing) > 1 else float("nan")))
            for kind, names in kinds.items():
                codes[kind].append(names.setdefault(getattr(product, kind), len(names)))
            asins[asin] = None
    if not asins:
        raise DataError(f"{sources.products} holds no product")
    encoded = np.array([asin.encode() for asin in asins])
    order = np.argsort(encoded, kind="stable")
    np.savez(
        folder / "tables.npz",
        starts=np.array(starts, np.int64),
        bounds=np.array(bounds, np.float64).reshape(-1, 2),
        asins=encoded[order],
        numbers=order.astype(np.int32),
        category=np.array(codes["category"], np.int32),
        query=np.array(codes["query"], np.int32),
    )
    meta = {
        "version": VERSION,
        "products": len(asins),
        "instructions": (folder / "instructions.jsonl").stat().st_size,
        "kinds": {kind: list(names) for kind, names in kinds.items()},
    }
    (folder / _META).write_text(json.dumps(meta))


def _instructions(known: Mapping[str, Any], people: Any) -> tuple[list[Any] | None, list[list[Any]]]:
    """Returns the synthetic instruction with its attributes, and those by people with attributes and options.

    An instruction without attributes makes no goal.
    """
    text, wanted = known.get("instruction"), known.get("instruction_attributes")
    by_people = [
        [told["instruction"], told["instruction_attributes"], told["instruction_options"]]
        for told in people or ()
        if told["instruction_attributes"]
    ]
    return [text, wanted] if text is not None and wanted else None, by_people


class Storage:
    """The products of a folder that `write` filled."""

    def __init__(self, folder: Path) -> None:
        """Opens a folder. Raises `ValueError` or `OSError` for one that is damaged."""
        meta = json.loads((folder / _META).read_bytes())
        if meta["version"] != VERSION:
            raise ValueError("it is of another version")
        with np.load(folder / "tables.npz", allow_pickle=False) as tables:
            self._starts: npt.NDArray[np.int64] = tables["starts"]
            self.bounds: npt.NDArray[np.float64] = tables["bounds"]
            self._sorted: npt.NDArray[np.bytes_] = tables["asins"]
            self._numbers: npt.NDArray[np.int32] = tables["numbers"]
            self._codes: dict[Kind, npt.NDArray[np.int32]] = {kind: tables[kind] for kind in _KINDS}
        self._lines = _mapped(folder / "products.jsonl")
        self._told = _mapped(folder / "instructions.jsonl")
        sizes = [len(self._lines), len(self._told), len(self._starts) - 1]
        if sizes != [self._starts[-1], meta["instructions"], meta["products"]]:
            raise ValueError("it is not complete")
        self._names: dict[Kind, list[str]] = meta["kinds"]

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
        line = self._lines[self._starts[number] : self._starts[number + 1]]
        return Product.from_row(json.loads(line.decode("utf-8", "surrogatepass")))

    def of_kind(self, kind: Kind, name: str) -> list[int]:
        """Returns the numbers of all products of a category or a query."""
        try:
            code = self._names[kind].index(name)
        except ValueError:
            return []
        return [int(number) for number in np.flatnonzero(self._codes[kind] == code)]

    def instructions(self) -> Iterator[tuple[int, list[Any] | None, list[list[Any]]]]:
        """Yields the products that have instructions: number, synthetic one or None, those by people."""
        at = 0
        while at < len(self._told):
            end = self._told.find(b"\n", at)
            number, synthetic, people = json.loads(self._told[at:end])
            yield number, synthetic, people
            at = end + 1


def _mapped(path: Path) -> mmap | bytes:
    """Returns the content of a file, which stays there when the file is moved or removed."""
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ) if path.stat().st_size else b""
