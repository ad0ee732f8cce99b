"""Small WebShop data sets, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def raw(asin: str, **fields: Any) -> dict[str, Any]:
    """Returns a raw record of a product."""
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
    """Returns options as raw records hold them."""
    return {name: None if given is None else [{"value": value} for value in given] for name, given in values.items()}


def write_set(folder: Path, products: list[Any], attributes: dict[str, Any], people: dict[str, Any]) -> Path:
    """Writes a data set under the file names of the original's small one."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"items_shuffle_1000": products, "items_ins_v2_1000": attributes, "items_human_ins": people}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
