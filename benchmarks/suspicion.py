"""Shares of published skills that suspicion holds back and of injections that it finds; prints one JSON object.

    python benchmarks/suspicion.py FOLDER INJECTIONS

FOLDER has SKILL.md files anywhere below it, those of one author in one of its folders. INJECTIONS is a list of texts: a
CSV file with a column "prompt", a JSON list of strings, or a text a line. Each stands as the principle of a skill.
"""

import argparse
import csv
import json
from collections import Counter
from pathlib import Path

from d2skill.bank.formats import import_record
from d2skill.bank.formats.contents import BankContents
from d2skill.bank.formats.importing import whole_sentences
from d2skill.bank.safety import LIMITS, clean, suspicion
from d2skill.types import SkillText


def fitted(text: SkillText) -> SkillText:
    """Returns a text as an import stores it."""
    return clean(SkillText(*(whole_sentences(getattr(text, name), limit) for name, limit in LIMITS.items())))


def read_injections(path: Path) -> list[str]:
    """Returns the texts of a file."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [row["prompt"] for row in csv.DictReader(file)]
    text = path.read_text("utf-8")
    return json.loads(text) if path.suffix == ".json" else text.splitlines()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("injections", type=Path)
    given = parser.parse_args()
    held: Counter[str] = Counter()
    skills, faults, authors = 0, [], [folder for folder in sorted(given.folder.iterdir()) if folder.is_dir()]
    for author in authors:
        contents = BankContents.of_record(import_record(author, faults))
        skills += len(contents.skills)
        held.update(filter(None, (suspicion(fitted(skill.text)) for skill in contents.skills)))
    texts = read_injections(given.injections)
    found = [why for text in texts if (why := suspicion(fitted(SkillText("Look first", text, "something is sought"))))]
    published = {"skills": skills, "authors": len(authors), "unreadable": len(faults), "held": held.total()}
    published["share_held"] = round(held.total() / skills, 4)
    print(
        json.dumps(
            {
                "published": published | {"reasons": dict(held)},
                "injections": {"texts": len(texts), "found": len(found), "reasons": dict(Counter(found))},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
