"""Tokens of prompts by a real tokenizer, with and without skills, which `d2skill plan` uses; prints one JSON object.

Games are played by the environment's expert, which wins soon, and by a player that draws among the admissible actions,
which never does: as few as it takes for about as many prompts of both. Each prompt is rendered as for a language model
that thinks and then acts, with the history of the paper's settings (two steps) or none, and wrapped as Qwen2.5's chat
template does it. The skills are those of --skills, as many as the settings show, drawn anew for each prompt.

`prompt` is the mean without history and skills, `turn` what a step of history adds, `skill` what a skill adds,
headings included, and `deviation` the standard deviation of a prompt with history and without skills: the entries of
the plan's table, src/d2skill/planning/resources/typical_lengths.toml.

The tokenizer is Qwen's own: the file qwen.tiktoken of the package dashscope has the 151,643 tokens that Qwen, Qwen2.5
and Qwen3 share, and tiktoken reads it. With --gguf MODEL.gguf the tokenizer in such a file is measured beside it.

    pip install dashscope tiktoken
    python benchmarks/prompt_lengths.py --alfworld FOLDER --webshop FOLDER --skills FOLDER [--gguf FILE]

--skills is a folder with `alfworld/*.json` and `webshop/*.json`, as SkillRL published them (MIT).
"""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tiktoken

from d2skill.config import toml_files
from d2skill.envs import make_environment
from d2skill.episode import Episode
from d2skill.prompts import render
from d2skill.types import Decision, Skill, SkillText
from d2skill.utils.rng import generator

# the pattern by which Qwen2.5 splits a text before merging, from its tokenizer.json
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
PRESETS = {"alfworld": "alfworld-paper", "webshop": "webshop-paper"}


def qwen() -> Callable[[str], int]:
    folder = Path(next(iter(find_spec("dashscope").submodule_search_locations)))
    pairs = (line.split() for line in (folder / "resources" / "qwen.tiktoken").read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    special = {"<|im_start|>": len(ranks) + 1, "<|im_end|>": len(ranks) + 2}
    encoding = tiktoken.Encoding("qwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)
    return lambda text: len(encoding.encode(text, allowed_special="all"))


def of_gguf(file: Path) -> Callable[[str], int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)


def read_skills(folder: Path) -> list[SkillText]:
    """Returns the skills anywhere in the JSON files of a folder."""

    def walk(node) -> Iterator[SkillText]:
        if isinstance(node, dict) and "principle" in node:
            yield SkillText(*(node.get(name, "") for name in ("title", "principle", "when_to_apply")))
        elif isinstance(node, dict | list):
            for each in node.values() if isinstance(node, dict) else node:
                yield from walk(each)

    return [text for file in sorted(folder.glob("*.json")) for text in walk(json.loads(file.read_text("utf-8")))]


def play(kind: str, data: Path, games: int, player: str) -> list[Episode]:
    """Returns episodes that were played to their end: wins, failures and all."""
    config = toml_files.load(PRESETS[kind])
    environment = make_environment(config.env.model_copy(update={"data": data}))
    ids, rng = environment.task_ids(config.env.train_split), generator("prompt-lengths", kind, player)
    episodes = []
    for i in rng.permutation(len(ids))[:games]:
        session = environment.start(ids[i])
        expert = environment.expert(session.task, (), int(i))
        steps = {"max_steps": config.env.max_steps, "settings": config.prompt, "count_tokens": len}
        episode = Episode(session, arm="none", index=0, **steps)
        while not episode.done:
            prompt, seen = episode.prompt(), session.observation
            choices = seen.actions or ("search[shirt]",)
            action = expert.act(seen) if player == "expert" else choices[int(rng.integers(len(choices)))]
            episode.act(prompt, Decision(action, action, (), ()))
        episodes.append(episode)
    return episodes


def summary(values: list[int]) -> dict:
    named = {"mean": np.mean(values), "p50": np.median(values), "p95": np.percentile(values, 95), "max": max(values)}
    return {name: round(float(value)) for name, value in named.items()}


def shown(texts: list[SkillText], count: int, granularity: str, rng) -> tuple[Skill, ...]:
    picks = rng.choice(len(texts), count, replace=False)
    return tuple(Skill(f"s{i}", granularity, texts[i], "") for i in picks)


def measure(kind: str, data: Path, skills: Path, games: int, counts: dict[str, Callable[[str], int]]) -> dict:
    settings, texts = toml_files.load(PRESETS[kind]), read_skills(skills / kind)
    rng, report, prompts = generator("prompt-lengths", kind), {"skill texts": len(texts)}, []
    task, step = (settings.retrieval.k_task, "task"), (settings.retrieval.k_step, "step")
    for player, share in (("expert", 1.0), ("random", 0.2)):
        episodes = play(kind, data, round(games * share), player)
        report[f"steps of {player}"] = summary([episode.step for episode in episodes])
        prompts += [turn.prompt for episode in episodes for turn in episode.trajectory().turns]
    cases = {
        "without history and skills": [replace(p, history=()) for p in prompts],
        "without skills": prompts,
        "with skills": [
            replace(p, task_skills=shown(texts, *task, rng), step_skills=shown(texts, *step, rng)) for p in prompts
        ],
    }
    for name, count in counts.items():
        length = cache(lambda prompt, count=count: count(TEMPLATE.format(render(prompt)[0]["content"])))
        tokens = {case: [length(prompt) for prompt in some] for case, some in cases.items()}
        bare, plain, full = (float(np.mean(tokens[case])) for case in cases)
        report[name] = {
            **{case: summary(values) for case, values in tokens.items()},
            "prompt": round(bare),
            "turn": round((plain - bare) / float(np.mean([len(p.history) for p in prompts]))),
            "skill": round((full - plain) / (task[0] + step[0])),
            "deviation": round(float(np.std(tokens["without skills"]))),
        }
    return report | {"prompts": len(prompts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alfworld", type=Path)
    parser.add_argument("--webshop", type=Path)
    parser.add_argument("--skills", type=Path, required=True)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--games", type=int, default=200)
    given = parser.parse_args()
    counts = {"qwen": qwen()} | ({given.gguf.stem: of_gguf(given.gguf)} if given.gguf else {})
    report = {"d2skill": version("d2skill"), "qwen": f"dashscope {version('dashscope')}"}
    for kind in PRESETS:
        if data := getattr(given, kind):
            report[kind] = measure(kind, data, given.skills, given.games, counts)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
