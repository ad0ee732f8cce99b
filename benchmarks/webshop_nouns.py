"""Compares WebShop's type term with the nouns of a spaCy model and with ours; prints one JSON object.

For each product with goals, one goal of it, its text as the search, and the first 20 results as purchases; the right
product apart. Needs spaCy and a model of it, which is named as Python imports it.

    python benchmarks/webshop_nouns.py --data FOLDER --model en_core_web_sm
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

from d2skill.envs.webshop import Catalogue, make_goals, plain_nouns
from d2skill.envs.webshop.reward import SPACY_MODELS, spacy_noun_finder, type_parts

RESULTS = 20


def compared(pairs, nouns) -> dict[str, float]:
    """Returns what becomes of the type term over purchases, each of a product for a goal."""
    terms = [[type_parts(*pair, each)["r_type"] for each in (nouns, plain_nouns)] for pair in pairs]
    return {
        "purchases": len(terms),
        "another_term": sum(one != other for one, other in terms),
        "share": round(fmean(one != other for one, other in terms), 4),
        "mean_change": round(fmean(abs(one - other) for one, other in terms), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the original's files")
    parser.add_argument("--model", default=SPACY_MODELS[1], help="module of the spaCy model")
    given = parser.parse_args()
    try:
        nouns = spacy_noun_finder(given.model)
    except (ImportError, OSError) as error:
        raise SystemExit(f"spaCy or its model {given.model} is missing ({error}): install both") from None
    catalogue = Catalogue.load(given.data)
    goals = {goal.asin: goal for goal in make_goals(catalogue).goals}.values()
    found = [(catalogue.find(asin), goal) for goal in goals for asin, _ in catalogue.search(goal.text)[:RESULTS]]
    right = [(product, goal) for product, goal in found if product.asin == goal.asin]
    print(
        json.dumps({"model": given.model, "right": compared(right, nouns), "results": compared(found, nouns)}, indent=2)
    )


if __name__ == "__main__":
    main()
