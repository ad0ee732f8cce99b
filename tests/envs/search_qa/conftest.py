"""Search QA's real data, from the archive beside the project, and a small corpus with questions made here."""

import json
import tarfile
from pathlib import Path

import pytest

ARCHIVE = Path(__file__).parents[4] / "shared" / "data" / "search_qa.tar.xz"
PLACES = ("Lima", "Oslo", "Cairo", "Quito", "Hanoi", "Accra", "Dakar", "Minsk", "Sofia", "Tunis")
PEOPLE = ("Ada Byron", "Alan Baker", "Grace Moss", "Emma Noth", "Kurt Wolf")


@pytest.fixture(scope="session")
def real_folder(tmp_path_factory):
    """The folder with 8,438 passages and 1,000 questions of each of three sets."""
    if not ARCHIVE.is_file():
        pytest.skip(f"the archive {ARCHIVE.name} of real questions is not there")
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    return folder / "search_qa"


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """A folder with a passage and a question for each of 50 painters, in two sets, and a panel of two questions."""
    folder = tmp_path_factory.mktemp("small")
    passages, questions = [], {"nq": [], "popqa": [], "bamboogle": []}
    for number in range(50):
        name = f"{PEOPLE[number % 5]} {'IVXLCDM'[number % 7]}{number}"
        place = f"{PLACES[number % 10]} {number}"
        text = f"{name} was a painter of the year {1800 + number}. {name} was born in {place}."
        passages.append({"id": str(number), "contents": f'"{name}"\n{text}'})
        one = {"id": f"test_{number}", "question": f"where was {name} born", "golden_answers": [place, "nowhere"]}
        questions["nq" if number < 30 else "popqa"].append(one)
        if number < 2:
            questions["bamboogle"].append({"question": f"who was born in {place}?", "golden_answers": [name]})
    for file, lines in (("corpus", passages), *questions.items()):
        (folder / f"{file}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


@pytest.fixture(scope="session", autouse=True)
def search_caches(tmp_path_factory):
    """Keeps indices of tests out of the user's caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2SKILL_CACHE", str(tmp_path_factory.mktemp("caches")))
        yield
