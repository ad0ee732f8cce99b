"""Reference mode against recorded episodes of the reference, byte for byte (benchmarks/search_reference.py)."""

import gzip
import json
from pathlib import Path

import pytest

from d2skill.config import SearchQAConfig
from d2skill.envs.search_qa.environment import SearchQAEnvironment

RECORD = json.loads(gzip.decompress((Path(__file__).parent / "resources/reference_episodes.json.gz").read_bytes()))
EPISODES = RECORD["episodes"]
TURNS = sorted({one["turns"] for one in EPISODES})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    corpus = [{"id": str(number), "contents": text} for number, text in enumerate(RECORD["corpus"])]
    questions = [{"id": f"q{number}"} | one for number, one in enumerate(RECORD["questions"])]
    for name, lines in (("corpus", corpus), ("nq", questions)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="\n")
    return folder


@pytest.mark.parametrize("turns", TURNS)
def test_it_shows_gives_and_ends_as_the_reference_does(data, turns):
    environment = SearchQAEnvironment(data, SearchQAConfig(reference=True, turns=turns, sets=("nq",)))
    for episode in (one for one in EPISODES if one["turns"] == turns):
        session = environment.start(f"nq/q{episode['question']}")
        for answer, (shown, reward, done) in zip(episode["answers"], episode["steps"], strict=True):
            action = session.observation.admissible(answer) or answer  # as an episode hands it on
            seen = session.step(action)
            told = (seen.text or None, float(seen.success), seen.score or 0.0, seen.done)
            assert told == (shown, reward, reward, done), (episode, answer)


def test_the_record_has_the_faults_of_the_reference():
    """A passage's answer that is paid, a last search that is dropped, and an answer without tags that shows nothing."""
    steps = [(answer, *step) for one in EPISODES for answer, step in zip(one["answers"], one["steps"], strict=True)]
    assert any(reward == 1.0 and "<answer>" not in answer for answer, _, reward, _ in steps)
    assert any(done and shown is None and "<search>" in answer for answer, shown, _, done in steps)
    assert any(shown == "\n<information></information>\n" for _, shown, _, _ in steps)
