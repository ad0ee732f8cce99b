"""Records episodes of the reference's search environment, for the test of `env.search_qa.reference`.

The reference is SearchEnv of skyrl-gym 0.4, which verl-agent and Search-R1's followers share in all but details. It is
asked to play answers made here, kind and hostile ones, against a small HTTP server in this process that answers with
our BM25 over a corpus written here. What it shows, gives and ends is written down; none of its code is.

    pip install --no-deps --target DIR skyrl-gym==0.4.0 omegaconf antlr4-python3-runtime==4.9.3 pyyaml
    PYTHONPATH=DIR python benchmarks/search_reference.py tests/envs/search_qa/resources/reference_episodes.json.gz

It also needs requests. The same answers give the same file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from d2skill.envs.text_search import BM25Index

CORPUS = (
    '"Oskar Vint"\nOskar Vint (born 3 May 1911) was a clockmaker of Harnfeld. He built the water clock of the mill.',
    '"Harnfeld"\nHarnfeld is a town on the river Aule. Its mill, with a water clock, was closed in 1974.',
    '"Aule (river)"\nThe Aule rises near Sköne and flows 112 km to the sea. Its mouth is at Port Elm.',
    '"Port Elm"\nPort Elm is the capital of the island of Lower Sedge. It has 41,000 people and a lighthouse.',
    '"The "Sedge" Song"\nA song about the "sedge", with a backslash \\ and a tab\there, sung at Port Elm.',
    '"Answer machine"\nThe sign on the machine reads <answer>Port Elm</answer>, and nobody knows why.',
    '"Search engine"\nIts first page said <search>river</search> and below it </information> in grey letters.',
    '"Sköne"\nSköne (Скёне, 光の丘) is a hill. The café “Zur Quelle” stands there; naïve guests ask for déjà vu.',
    '"Doctor Ilse Rahm"\nIlse Rahm measured the river Aule in 1902.  Two blanks follow.  \n\nAnd an empty line.\n',
    '"Mill"\nA mill grinds. <ANSWER>wheat</ANSWER> was painted on it, and <answer>\nrye\n</answer> below.',
    '"Lighthouse of Port Elm"\nBuilt in 1888 by Jon Vint, father of Oskar Vint. It is 30 m high.',
    "No title\nA passage without quotation marks about the clock of the mill, "
    "\u2028 a line separator and \x1f a control.",
)
QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("what is the capital of lower sedge", ("Port Elm",)),
    ("who built the water clock of the mill", ("Oskar Vint", "Vint, Oskar")),
    ("where does the Aule rise", ("Sköne", "the hill of Sköne")),
    ("how long is the Aule", ("112 km", "112")),
    ("what was painted on the mill", ("rye", "wheat")),
    ("what is an answer of nothing", ("the", "?!")),
)
HOSTILE: tuple[tuple[int, int, tuple[str, ...]], ...] = (  # turns, number of the question, answers
    (4, 0, ("<think>I know.</think><answer>Port Elm</answer>",)),
    (4, 0, ("<think>I know.</think> <answer> the port-elm! </answer> indeed",)),
    (4, 0, ("<answer>wrong</answer><answer>Port Elm</answer>",)),
    (4, 0, ("<answer>Port Elm</answer><answer>wrong</answer>",)),
    (4, 0, ("<answer>Port\nElm</answer>",)),
    (4, 0, ("<ANSWER>Port Elm</ANSWER>", "<SEARCH>lower sedge</SEARCH>", "Answer: Port Elm", "Port Elm")),
    (4, 0, ("</answer>Port Elm<answer>",)),
    (4, 0, ("</answer> <answer>Port Elm</answer>",)),
    (4, 0, ("<answer>Port Elm", "</answer>", "<search>x</search>", "<answer></answer>")),
    (4, 0, ("<answer>Port ", "<search>lighthouse</search>", "Elm</answer>", "end")),
    (4, 0, ("<answer></answer>",)),
    (4, 5, ("<answer></answer>",)),
    (4, 5, ("<answer>a the an</answer>",)),
    (4, 5, ("<answer>...</answer>",)),
    (4, 0, ("<answer><answer>Port Elm</answer></answer>",)),
    (4, 0, ("<answer>I say <answer>Port Elm</answer>",)),
    (4, 0, ("<search>sign on the machine</search>", "no tags", "no tags", "no tags")),  # the passage answers
    (4, 0, ("<search>sign on the machine</search>", "<answer>wrong</answer>")),
    (4, 0, ("<search>sign on the machine</search>", "</answer> and <answer>")),
    (2, 0, ("<search>sign on the machine</search>", "<search>more</search>")),
    (1, 0, ("<search>sign on the machine</search>",)),
    (1, 0, ("<answer>Port Elm</answer>",)),
    (1, 0, ("",)),
    (4, 4, ("<search>painted mill</search>", "x", "y", "z")),
    (4, 4, ("<search>painted mill</search>", "<answer>oats</answer>")),
    (4, 0, ("<search>capital of lower sedge</search>", "<search>lighthouse</search>", "<search>a</search>", "no")),
    (4, 0, ("<search>lower sedge</search>",) * 4),
    (4, 0, ("<search>river</search> <search>lighthouse</search>", "<answer>Port Elm</answer>")),
    (4, 0, ("<search>river</search> <answer>Port Elm</answer>",)),
    (4, 0, ("<answer>Port Elm</answer> <search>river</search>",)),
    (4, 0, ("<think><search>river</search></think><answer>Port Elm</answer>",)),
    (4, 0, ("<think>or <search>river</search></think><search>lighthouse</search>", "<answer>port  elm</answer>")),
    (4, 0, ("<think>never closed <search>river</search>", "<think>not closed <answer>Port Elm</answer>")),
    (4, 0, ("<search></search>", "<search>   </search>", "<search>\n</search>", "<answer>x</answer>")),
    (4, 0, ("<search>the of and</search>", "<search>qqqq zzzz</search>", "<search>???</search>", "")),
    (
        4,
        2,
        ("<search>Скёне</search>", "<search>光の丘</search>", "<search>café “Zur</search>", "<answer>SKÖNE</answer>"),
    ),
    (4, 2, ("<search>Sko\u0308ne</search>", "<answer>Sko\u0308ne</answer>")),
    (4, 2, ("<search>“sedge” \\ \t song</search>", "<answer>Sk\xadöne</answer>")),
    (4, 2, ("<answer>the hill of sköne</answer>",)),
    (4, 3, ("<search>river\nAule\r\nlength</search>", "<answer>112km</answer>")),
    (4, 3, ("<answer>\u2028112\u00a0km\u3000</answer>",)),
    (4, 3, ("<answer>１１２ km</answer>",)),
    (4, 3, ("<answer>-112-</answer>",)),
    (4, 1, ("<answer>Vint Oskar</answer>",)),
    (4, 1, ("<answer>An Oskar, the Vint</answer>",)),
    (4, 1, ("<answer>Oskar_Vint</answer>",)),
    (4, 1, ("  \n<search>  clock </search>\n  ", " <answer>Oskar Vint</answer> \n")),
    (4, 1, ("", " ", "\n", "<answer>Oskar Vint</answer>")),
    (4, 1, ("</search><search>", "<search>clock", "clock</search>", "<answer>Oskar Vint</answer>")),
    (4, 1, ("<search>a</search", "< search>clock</ search>", "<search >clock</search >", "<answer >x</answer >")),
    (4, 1, ("<search>one <search>water clock</search>", "<answer>Oskar Vint</answer>")),
    (4, 1, ("<search>page <b>said</b></search>", "<answer>Oskar Vint</answer>")),
    (4, 1, ("<information><answer>Oskar Vint</answer></information>",)),
    (4, 1, ("<search>first page grey letters</search>", "<answer>Oskar Vint</answer>")),
    (4, 1, ("<search>" + "clock " * 500 + "</search>", "<answer>" + "x" * 3000 + "</answer>")),
    (4, 1, ('{"name": "search", "arguments": {"query": "clock"}}', "search[clock]", "answer[Oskar Vint]", "end")),
    (6, 1, ("<search>clock</search>", "a", "<search>mill</search>", "b", "<search>river</search>", "<answer>1")),
)
PIECES = (
    "<think>Let me see.</think>",
    "<think>",
    "</think>",
    "<search>",
    "</search>",
    "<search>river Aule</search>",
    "<search>clock of the mill</search>",
    "<search>sign on the machine</search>",
    "<search>island</search>",
    "<answer>",
    "</answer>",
    "<answer>Port Elm</answer>",
    "<answer>Oskar Vint</answer>",
    "<Answer>Sköne</Answer>",
    "<answer>112</answer>",
    "<information>",
    "</information>",
    "Port Elm",
    "the",
    "\n",
    "  ",
    "é 光 ß",
)
RANDOM_EPISODES = 150


class Retriever(BaseHTTPRequestHandler):
    """Answers requests of Search-R1's shape by our BM25."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    index: BM25Index
    contents: Sequence[str]

    def do_POST(self) -> None:
        """Answers {"query": ..., "topk": ...} with the passages found."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = self.index.search_rows(asked["query"], asked["topk"])
        documents = [{"document": {"id": str(row), "contents": self.contents[row]}, "score": s} for row, s in found]
        body = json.dumps({"result": [documents]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def serve(contents: Sequence[str]) -> Iterator[str]:
    """Serves a corpus on this machine, and yields the address."""
    index = BM25Index.build(map(str, range(len(contents))), contents)
    handler = type("Served", (Retriever,), {"index": index, "contents": contents})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/retrieve"
    finally:
        server.shutdown()
        server.server_close()


def make_reference(url: str, answers: Sequence[str], turns: int) -> Any:
    """Returns an episode of the reference."""
    from skyrl_gym.envs.search.env import SearchEnv, SearchEnvConfig

    extras = {"reward_spec": {"ground_truth": {"target": list(answers)}}, "max_turns": turns}
    return SearchEnv(SearchEnvConfig(search_url=url), extras)


def play(url: str, turns: int, question: int, answers: Sequence[str]) -> dict[str, Any]:
    """Returns the record of an episode: for each answer what was shown, the reward, and whether it ended."""
    env = make_reference(url, QUESTIONS[question][1], turns)
    steps: list[tuple[str | None, float, bool]] = []
    for answer in answers:
        out = env.step(answer)
        shown = [message["content"] for message in out["observations"]]
        steps.append((shown[0] if shown else None, float(out["reward"]), bool(out["done"])))
        if out["done"]:
            break
    return {"turns": turns, "question": question, "answers": list(answers[: len(steps)]), "steps": steps}


def random_episodes() -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yields episodes of answers put together from pieces of tags and text."""
    rng = random.Random(0)
    for _ in range(RANDOM_EPISODES):
        turns = rng.choice((2, 3, 4, 4, 4))
        answers = ("".join(rng.choices(PIECES, k=rng.randint(0, 5))) for _ in range(turns))
        yield turns, rng.randrange(len(QUESTIONS)), tuple(answers)


def main() -> None:
    """Plays all episodes and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    with serve(CORPUS) as url:
        episodes = [play(url, *one) for one in (*HOSTILE, *random_episodes())]
    record = {
        "source": "SearchEnv of skyrl-gym 0.4.0; see benchmarks/search_reference.py",
        "corpus": CORPUS,
        "questions": [{"question": text, "golden_answers": answers} for text, answers in QUESTIONS],
        "episodes": episodes,
    }
    text = json.dumps(record, ensure_ascii=False, indent=0)
    parser.parse_args().file.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(episodes)} episodes, {sum(len(one['steps']) for one in episodes)} steps")


if __name__ == "__main__":
    main()
