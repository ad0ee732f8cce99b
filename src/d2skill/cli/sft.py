"""`d2skill sft`: supervised fine-tuning of a language model on trajectories or chats."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from d2skill.cli.output import JSON, Output, json_alone
from d2skill.components import sample_texts
from d2skill.config import Config
from d2skill.config.cli_flags import parse_with
from d2skill.envs import make_environment
from d2skill.errors import ConfigError
from d2skill.planning.memory_report import fit_to_memory
from d2skill.policies import make_policy
from d2skill.runs.trajectories import content
from d2skill.utils.foreign_files import parse_json
from d2skill.utils.rng import derive
from d2skill.utils.terminal import Terminal
from d2skill.utils.text import counted, short, storable
from d2skill.warm_start import Demonstration, demonstrated_again

if TYPE_CHECKING:
    from d2skill.policies.causal_lm.policy import CausalLMPolicy

_DESCRIPTION = """Fine-tune a language model on trajectories that were won, or on chats, before training.

FILE has saved trajectories (trajectories.jsonl.gz of a run, rollouts of an iteration, what play --save wrote), which
are played again in the environment of the settings, or JSON lines of chats, of which every answer is learned:
{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}. --out is the folder for the
model; train with it by --policy.lm.model.

  d2skill sft RUN/trajectories.jsonl.gz --policy.lm.model Qwen/Qwen3-4B --env alfworld --data FOLDER --out models/start
  d2skill sft chats.jsonl --policy.lm.model models/base --policy.lm.lora-rank 16 --out models/start"""
_ROLES = ("system", "user", "assistant")


def sft(arguments: list[str]) -> None:
    """Fine-tune a language model on trajectories that were won, or on chats."""
    first = next((at for at, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    files = [Path(name) for name in arguments[:first]]
    flags, config = parse_with(arguments[first:], "d2skill sft FILE [FILE ...]", _DESCRIPTION, [JSON])
    with json_alone(flags.json):
        output = _fine_tune(files, config)
    output.print(flags.json)


def _fine_tune(files: Sequence[Path], config: Config) -> Output:
    if not files:
        raise ConfigError("no FILE to learn from: d2skill sft FILE [FILE ...] --out FOLDER [settings]")
    out = config.out
    if out is None:
        raise ConfigError("where is the model to go? name a folder with --out")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise ConfigError(f"{out} is there already: choose another --out")
    played = [file for file in files if not _is_of_chats(file)]
    chats = [chat for file in files if file not in played for chat in _chats(file)]
    with _new_folder(out):
        return _fine_tune_into(out, played, chats, config)


def _fine_tune_into(out: Path, played: Sequence[Path], chats: Sequence[Any], config: Config) -> Output:
    config = fit_to_memory(config.model_copy(update={"policy": config.policy.model_copy(update={"kind": "causal-lm"})}))
    environment = make_environment(config.env) if played or config.policy.lm.model == "tiny" else None
    policy: Any = make_policy(config, lambda: sample_texts(environment, config.env.train_split) if environment else [])
    demonstrations: list[Demonstration] = []
    if environment:
        for file in played:
            demonstrations += demonstrated_again(config, environment, policy, file)
    metrics = _learn(policy, demonstrations, chats, derive(config.seed, "imitate"))
    policy.fine_tuning.save(out, policy.chat.tokenizer)
    model = out / ("adapter" if config.policy.lm.lora_rank else "model")
    record = {"model": str(model), "decisions": len(demonstrations), "chats": len(chats), **metrics}

    def show() -> None:
        counts = (len(demonstrations), "decision"), (len(chats), "chat")
        learned = [counted(count, noun) for count, noun in counts if count]
        parts = [
            f"Learned from {' and '.join(learned)}: {metrics['warm_start/loss']:.3f} nats a token in the last epoch"
        ]
        if "warm_start/accuracy" in metrics:
            parts.append(f"{metrics['warm_start/accuracy']:.0%} of a sample repeated when greedy")
        Terminal().print(f"{', '.join(parts)}.\nThe model is in {model}. Next:", soft_wrap=True)
        rank = ("--policy.lm.lora-rank", config.policy.lm.lora_rank) if config.policy.lm.lora_rank else ()
        words = ("--policy", "causal-lm", "--policy.lm.model", model, *rank, "--warm-start.tasks", 0)
        Terminal().print(f"  {shlex.join(['d2skill', 'train', *map(str, words)])}", soft_wrap=True)

    return Output(record, show)


def _learn(
    policy: CausalLMPolicy, demonstrations: Sequence[Demonstration], chats: Sequence[Any], seed: int
) -> dict[str, float]:
    """Fine-tunes on both with a bar of progress; returns the metrics of the last."""
    metrics: dict[str, float] = {}
    if demonstrations:
        with _progress(policy, "trajectories"):
            metrics |= policy.imitate(demonstrations, seed)
    if chats:
        with _progress(policy, "chats"):
            metrics |= policy.imitate_chats(chats, seed)
    return metrics


@contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """Makes a folder, before any work, and removes it again if nothing comes of that."""
    there = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out} cannot be made ({error.strerror}): choose another --out") from error
    try:
        yield
    except BaseException:
        if not there:
            with suppress(OSError):  # what is in it already stays
                out.rmdir()
        raise


@contextmanager
def _progress(policy: CausalLMPolicy, name: str) -> Iterator[None]:
    """Shows a bar of the optimiser steps of a policy meanwhile."""
    before, behind = TextColumn("learning from {task.description}"), TextColumn("{task.completed}/{task.total} steps")
    console = Terminal(stderr=True)
    with Progress(before, BarColumn(), behind, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task(name, total=None)
        policy.on_imitation_step = lambda step, steps: progress.update(bar, completed=step, total=steps)
        try:
            yield
        finally:
            policy.on_imitation_step = None


def _is_of_chats(file: Path) -> bool:
    first = next((line for line in content(file).splitlines() if line.strip()), b"")
    return first.lstrip().startswith(b"{") and b'"messages"' in first.partition(b":")[0]


def _chats(file: Path) -> list[list[dict[str, str]]]:
    """Returns the chats of a file. Raises `ConfigError` that names the line of one that is none."""
    chats = []
    for number, line in enumerate(content(file).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            given = parse_json(line)["messages"]
            right = all(one["role"] in _ROLES and isinstance(one["content"], str) for one in given)
            messages = [{"role": one["role"], "content": storable(one["content"])} for one in given]
        except (ValueError, KeyError, TypeError):
            right, messages = False, []
        if not right or not any(one["role"] == "assistant" for one in messages[1:]):
            raise ConfigError(
                f"{file}, line {number}: {short(line.decode(errors='replace'))} is no chat with an answer: write "
                '{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}'
            )
        chats.append(messages)
    return chats
