"""Trains a language model in ALFWorld, with D2Skill and with GRPO; prints one JSON object.

A Qwen2 with random weights, its tokenizer made from the environment's text, imitates the expert once for each seed.
With --size pretrained it is the model of --model, such as the folder that `d2skill models fetch smollm2` makes, and an
adapter trains.
From there each arm trains by the trainer itself: D2Skill until its share of --minutes is over, and then GRPO
(rollout.with_skills 0) until it has taken as many environment steps or time is over. Both are validated along the way
on the same valid_seen games, which take no part in training. Nothing is downloaded.

On two cores: a smoke run, in which next to nothing is learnt, and one that learns; without ALFWorld's games, with
--env houses in the place of --data:

    python benchmarks/language_model.py --size tiny --minutes 3 --data FOLDER
    python benchmarks/language_model.py --size tiny --minutes 60 --data FOLDER -- --warm-start.tasks 3000

Where a GPU is to be had for minutes only and has no data: all games take 6 MB, a call with the same --out goes on
where the last one ended, and GRPO takes as many steps as D2Skill has taken there:

    python benchmarks/language_model.py --data FOLDER --pack games.tar.xz
    python benchmarks/language_model.py --size 60m --minutes 9 --data games.tar.xz --out runs/60m --arms d2skill
    python benchmarks/language_model.py --size 60m --minutes 9 --data games.tar.xz --out runs/60m --arms grpo
    python benchmarks/language_model.py --size pretrained --model smollm2 --minutes 12 --data games.tar.xz --out runs/lm

What follows -- are flags of `d2skill train`, which go over the settings of the size; give the same ones to each call
with the same --out. The report goes to --out as well, each run's metrics and what was measured to ARM.jsonl there.

Shares are of the seconds of training iterations without validation; `acting` holds tokenizing. The first iteration of
each start is not counted. The peak of memory is that of an arm on a GPU, else that of the process so far.

Utilisation is 6 N operations for each token that was trained on, and attention over the keys that it really sees, in
all seconds of the update: those of tokenizing, of the reference policy and of the optimiser too. Padding is not
counted, what prompts have in common once, as it is computed once, and N leaves the embeddings out. `with_reference`
adds 2 N for each token of the reference. The peak is --peak-tflops, that of the table below, or what a matrix product
reaches here; `peak_source` says which.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tarfile
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from math import inf
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np
import torch
import transformers

from d2skill.components import Components, restore
from d2skill.config import Config
from d2skill.config.cli_flags import parse_settings
from d2skill.envs import make_environment
from d2skill.envs.alfworld.environment import AlfworldEnvironment
from d2skill.evaluation import evaluate_panel
from d2skill.iteration_metrics import peak_memory_mb
from d2skill.policies.causal_lm import forward
from d2skill.reflectors import ContrastReflector
from d2skill.rollout import Rollouts
from d2skill.runs import checkpoint
from d2skill.runs.tasks import RunTasks, select_panel
from d2skill.trainer import Trainer
from d2skill.types import Decision
from d2skill.utils.rng import derive, generator
from d2skill.warm_start import demonstrate

ARMS = ("d2skill", "grpo")
HELD_OUT = 24
"""Training games kept from imitation, on whose decisions its accuracy is measured."""
ARCHIVE_LIMIT = 64 * 2**20
PEAKS = (
    ("B200", 2250, 75),
    ("H200", 989, 67),
    ("H100 PCIe", 756, 51),
    ("H100", 989, 67),
    ("A100", 312, 19.5),
    ("L40S", 362, 91.6),
    ("RTX 4090", 165, 82.6),
    ("L4", 121, 30.3),
    ("A10G", 70, 35),
)
"""Dense TFLOP/s in bfloat16 and float32 by part of a device's name, as published."""
ITERATION = ("time/rollout", "time/probe", "time/update", "time/learn")


@dataclass(frozen=True)
class Size:
    """A model, and what it is trained with: `games` are demonstrated, `rates` are of imitation and of the update."""

    hidden: int
    layers: int
    heads: int
    games: int
    epochs: int
    rates: tuple[float, float]
    steps: int = 30
    history: int = 20
    tasks: int = 16
    group: int = 8
    skills: int = 2
    panel: int = 96
    every: int = 5


SIZES = {
    "tiny": Size(96, 3, 4, 80, 2, (2e-3, 1e-4), steps=12, history=4, tasks=4, group=4, skills=1, panel=16, every=3),
    "20m": Size(512, 6, 8, 1500, 4, (6e-4, 3e-5)),
    "60m": Size(768, 8, 12, 1500, 4, (4e-4, 2e-5)),
    "150m": Size(1024, 11, 16, 1500, 4, (3e-4, 1e-5)),
    "pretrained": Size(0, 0, 0, 60, 2, (2e-4, 2e-5), steps=25, history=4, panel=64),
}
ADAPTER_RANK = 16


def settings(given: argparse.Namespace, seed: int, data: Path | None) -> Config:
    """Returns what all arms of a seed have in common."""
    size, gpu = SIZES[given.size], torch.cuda.is_available()
    flags = {
        "seed": seed,
        "env.max-steps": size.steps,
        "policy": "causal-lm",
        "policy.lm.dtype": "bfloat16" if gpu else "float32",
        "policy.lm.generate-batch": (256 if size.hidden else 128) if gpu else 64,
        "policy.lm.microbatch-tokens": 65536 if gpu else 8192,
        "prompt.history": size.history,
        # over any prompt of so much history: nothing is cut, and no tokens are counted to find that out
        "prompt.max-tokens": 16384,
        "warm-start.tasks": size.games,
        "warm-start.epochs": size.epochs,
        "warm-start.learning-rate": size.rates[0],
        "optim.learning-rate": size.rates[1],
        "rollout.tasks": size.tasks,
        "rollout.group-size": size.group,
        "rollout.with-skills": size.group // 2,
        "retrieval.k-task": size.skills,
        "retrieval.k-step": size.skills,
        "validation.tasks": size.panel,
        "validation.every": size.every,
        "train.iterations": 100_000,
        "train.checkpoint-every": 100_000,
        "train.keep-rollouts": "false",
    }
    if size.hidden:
        shape = {"hidden-size": size.hidden, "layers": size.layers, "heads": size.heads}
        flags |= {f"policy.lm.{name}": value for name, value in shape.items()}
    else:
        flags |= {"policy.lm.model": given.model, "policy.lm.lora-rank": ADAPTER_RANK, "policy.lm.attention": "sdpa"}
        flags |= {"prompt.max-tokens": 2048} | ({} if gpu else {"policy.lm.microbatch-tokens": 2048})
    if data is not None:
        flags |= {"env": "alfworld", "data": data}
    base = [] if data is not None else ["--config", "alfworld-like"]
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return parse_settings([*base, *words, *given.flags], "language_model.py").resolved()


def changed(config: Config, **sections: dict) -> Config:
    """Returns settings with some changed, by section."""
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=new) for name, new in sections.items()}
    )


class OutOfTime(Exception):
    """Ends imitation."""


class Meter:
    """Seconds, rows and arithmetic of a policy's learning, by method, since they were last taken.

    The hook is a plain function, so that the copy of the model that becomes the reference counts here as well.
    """

    COUNTED = ("update", "imitate")

    def __init__(self, policy) -> None:
        self.until = inf
        config = policy.model.config
        self.parameters = sum(weight.numel() for weight in policy.model.parameters())
        self._body = self.parameters - policy.model.get_input_embeddings().weight.numel()
        self._attention = 4 * config.num_hidden_layers * config.hidden_size
        self._sums: dict[str, float] = defaultdict(float)
        self._work: dict[tuple[str, bool], list] = {}
        self._asked = ""
        self._real = None
        forward.pack_sequences = self._noted(forward.pack_sequences)
        for name in self.COUNTED:
            setattr(policy, name, self._timed(name, getattr(policy, name)))
        policy.model.register_forward_pre_hook(
            lambda _module, _args, given: self._count(**given) if self._asked else None,
            with_kwargs=True,
        )

    def _noted(self, packed):
        def asked(*given):
            batch = packed(*given)
            self._real = torch.from_numpy(batch.owner >= 0)
            return batch

        return asked

    def _timed(self, name, method):
        def asked(rows, *others):
            self._asked, started = name, perf_counter()
            try:
                return method(rows, *others)
            finally:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                self._sums[f"{name}/seconds"] += perf_counter() - started
                self._sums[f"{name}/rows"] += len(rows)
                self._asked = ""

        return asked

    def _count(self, input_ids, attention_mask=None, position_ids=None, **_given) -> None:
        """Adds the tokens of a forward pass, and the keys that they attend to; they stay on the device till taken."""
        if self._asked == "imitate" and perf_counter() > self.until:
            raise OutOfTime
        width = input_ids.shape[1]
        real = torch.ones_like(input_ids)
        if attention_mask is not None:
            packs = attention_mask.dim() == 4
            real = self._real.to(input_ids.device) if packs else attention_mask[:, -width:]
        if position_ids is None:
            position_ids = torch.arange(width, device=input_ids.device)
        sums = torch.stack([real.sum(), ((position_ids + 1) * real).sum()]).double()
        counted = self._work.setdefault((self._asked, torch.is_grad_enabled()), [0.0, 0])
        counted[0] = counted[0] + sums
        counted[1] += input_ids.numel()

    def take(self) -> dict[str, float]:
        """Returns what was measured since the last time."""
        taken, self._sums = dict(self._sums), defaultdict(float)
        work, self._work = self._work, {}
        for (name, trained), (sums, computed) in work.items():
            tokens, keys = sums.tolist()
            flops = (2 * self._body * tokens + self._attention * keys) * (3 if trained else 1)
            own = f"{name}/" if trained else f"{name}/reference_"
            taken |= {f"{own}tokens": tokens, f"{own}tokens_with_padding": float(computed), f"{own}flops": flops}
        return taken


class Watch:
    """Keeps what a run reports and what the meter saw, and ends the run in time: its next iteration is then its last.

    `until` is the moment by which its last validation should be over.
    """

    def __init__(self, file: Path, after: int, meter: Meter, reflected: list[float], until: float) -> None:
        self.file, self._meter, self._reflected, self._until = file, meter, reflected, until
        kept = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
        self.lines = [line for line in kept if line["iteration"] <= after]
        file.write_text("".join(json.dumps(line) + "\n" for line in self.lines), "utf-8")
        self.first = len(self.lines) + (after < 0)
        self.trainer: Any = None

    def log(self, metrics: dict) -> None:
        """See Tracker."""
        line = metrics | {f"meter/{name}": value for name, value in self._meter.take().items()}
        line["meter/reflection_seconds"] = sum(self._reflected)
        line["meter/start"] = len(self.lines) in (0, self.first)
        self._reflected.clear()
        self.lines.append(line)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        told = {name: value for name, value in line.items() if name.startswith("validation/") and "steps" not in name}
        say(f"  iteration {line['iteration']}, {line['env_steps']} steps, {seconds_of(line):.1f} s {told or ''}")
        self.limit()

    def limit(self) -> None:
        """Makes the next iteration the last if there is no time for one more and a validation."""
        looks = [line["time/validate"] for line in self.lines if "time/validate" in line]
        if self.lines and perf_counter() + 2 * seconds_of(self.lines[-1]) + looks[-1] > self._until:
            self.trainer.config = changed(self.trainer.config, train={"iterations": self.lines[-1]["iteration"] + 1})


class Random:
    """A policy that takes any admissible action."""

    def count_tokens(self, text: str) -> int:
        return len(text)

    def act(self, prompts, seeds, temperature) -> list[Decision]:
        picks = [p.actions[generator(seed).integers(len(p.actions))] for p, seed in zip(prompts, seeds, strict=True)]
        return [Decision(action, action, (), ()) for action in picks]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def seconds_of(line: dict) -> float:
    return sum(line.get(part, 0.0) for part in ITERATION)


def imitate(config: Config, folder: Path, until: float) -> dict:
    """Lets a new model imitate the expert, leaves it in `folder`, and returns figures; once for all arms of a seed."""
    record = folder / "imitation.json"
    if record.exists():
        return json.loads(record.read_text("utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    started = perf_counter()
    parts = Components.make(config)
    ids = RunTasks.choose(parts.environment, config).training.task_ids
    order = generator(config.seed, "held-out").permutation(len(ids)).tolist()
    some = min(HELD_OUT, len(ids) // 4)
    held_out, others = ([ids[i] for i in part] for part in (order[:some], order[some:]))
    made = perf_counter()
    rows = demonstrate(config, parts.environment, ContrastReflector(), parts.policy, others)
    tests = demonstrate(config, parts.environment, ContrastReflector(), parts.policy, held_out)
    demonstrated = perf_counter()
    say(f"  {len(rows)} decisions to imitate; {demonstrated - started:.0f} s so far")

    meter = Meter(parts.policy)
    meter.until = until
    try:
        told = parts.policy.imitate(rows, derive(config.seed, "imitate"))
    except OutOfTime:
        told = {"stopped_early": True}
    measured = meter.take()
    greedy = parts.policy.act([prompt for prompt, _ in tests], [0] * len(tests), 0.0)
    hits = [decision.action == action for decision, (_, action) in zip(greedy, tests, strict=True)]
    result = {
        "games": min(config.warm_start.tasks, len(others)),
        "decisions": len(rows),
        "prompt_tokens": round(fmean(len(parts.policy.chat.prompt_ids(prompt)) for prompt, _ in rows[::10])),
        "parameters": meter.parameters,
        "vocabulary": len(parts.policy.chat.tokenizer),
        "accuracy_held_out": round(fmean(hits), 3),
        "accuracy_held_out_n": len(hits),
        "accuracy_held_out_by_chance": round(fmean(1 / len(prompt.actions) for prompt, _ in tests), 3),
        **{name.rpartition("/")[2]: value for name, value in told.items()},
        "seconds": {
            "environment_and_model": round(made - started, 1),
            "demonstrations": round(demonstrated - made, 1),
            "imitation": round(measured["imitate/seconds"], 1),
        },
        "tokens": measured.get("imitate/tokens", 0.0),
        "flops": measured.get("imitate/flops", 0.0),
    }
    parts.policy.save(folder)
    record.write_text(json.dumps(result), "utf-8")
    return result


def train(arm: str, config: Config, folder: Path, until: float, env_steps: int | None) -> dict:
    """Begins a run or goes on with it, until it has taken so many environment steps or time is over."""
    if env_steps is not None:
        config = changed(config, train={"max_env_steps": env_steps})
    if arm == "grpo":
        config = changed(config, rollout={"with_skills": 0})
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    started = perf_counter()
    begun = bool(checkpoint.folders(folder))
    if begun:
        parts, progress = restore(config, checkpoint.latest(folder))
    else:
        parts = Components.make(config)
    meter, reflected = Meter(parts.policy), []
    reflect = parts.reflector.reflect

    def timed(*pair):
        since = perf_counter()
        try:
            return reflect(*pair)
        finally:
            reflected.append(perf_counter() - since)

    parts.reflector.reflect = timed
    watch = Watch(folder.with_suffix(".jsonl"), progress.iteration if begun else -1, meter, reflected, until)
    trainer = watch.trainer = Trainer(config, folder, parts, [watch])
    watch.limit()
    done = begun and env_steps is not None and progress.env_steps >= env_steps
    if done:
        summary = json.loads(trainer.run.summary.read_text("utf-8"))
    else:
        summary = trainer.resume(progress) if begun else trainer.start()
    report = {"parameters": meter.parameters, **figures(watch.lines), "validation": summary["validation"]}
    report |= {name: summary[name] for name in ("bank", "iterations", "env_steps")}
    report["seconds_of_this_call"] = round(perf_counter() - started, 1)
    report |= memory()
    return report | {"curve": curve(watch.lines), "metrics": watch.lines}


def figures(lines: list[dict]) -> dict:
    """Returns speed, shares and arithmetic of a run's iterations but for the first of each start."""
    steps = np.diff([line["env_steps"] for line in lines], prepend=0).tolist()
    pairs = [(line, n) for line, n in zip(lines, steps, strict=True) if line["iteration"]]
    pairs = [(line, n) for line, n in pairs if not line["meter/start"]] or pairs

    def total(name: str) -> float:
        return sum(line.get(name, 0.0) for line, _ in pairs)

    seconds = sum(seconds_of(line) for line, _ in pairs)
    parts = {
        "environment": total("time/environment"),
        "retrieval": total("time/retrieval"),
        "acting": total("time/policy"),
        "probe": total("time/probe"),
        "update": total("time/update"),
        "reflection": total("meter/reflection_seconds"),
        "bank": total("time/learn") - total("meter/reflection_seconds"),
    }
    shares = {name: round(value / seconds, 4) for name, value in parts.items()}
    update = total("meter/update/seconds") or inf
    trained = total("meter/update/flops")
    played = sum(n for _, n in pairs)
    return {
        "iterations_counted": len(pairs),
        "iterations_per_minute": round(60 * len(pairs) / seconds, 2),
        "env_steps_per_second": round(played / seconds, 2),
        "decisions_per_second_of_acting": round(played / parts["acting"], 1),
        "rows_per_second_of_update": round(total("meter/update/rows") / update, 1),
        "shares": shares | {"rest": round(1 - sum(parts.values()) / seconds, 4)},
        "environment_under_5_percent": shares["environment"] < 0.05,
        "update": {
            "seconds": round(total("meter/update/seconds"), 2),
            "tokens": total("meter/update/tokens"),
            "padding": round(1 - total("meter/update/tokens") / (total("meter/update/tokens_with_padding") or inf), 3),
            "tflops": round(trained / update / 1e12, 4),
            "tflops_with_reference": round((trained + total("meter/update/reference_flops")) / update / 1e12, 4),
        },
        "seconds": {
            "iterations": round(sum(map(seconds_of, lines)), 1),
            "validation": round(sum(line.get("time/validate", 0.0) for line in lines), 1),
        },
    }


def curve(lines: list[dict]) -> list[dict]:
    """Returns success on the panel over environment steps."""
    arms = {"without_skills": "validation/without_skills", "with_skills": "validation/with_skills"}
    return [
        {"iteration": line["iteration"], "env_steps": line["env_steps"]}
        | {arm: round(line[name], 4) for arm, name in arms.items() if name in line}
        for line in lines
        if arms["without_skills"] in line
    ]


def memory() -> dict[str, float]:
    if torch.cuda.is_available():
        return {"peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20)}
    return {"peak_process_memory_mb": round(peak_memory_mb())}


def compare(ours: dict, grpo: dict) -> dict:
    """Returns success of D2Skill and of GRPO: at the end, and on average up to as many environment steps."""
    common = min(ours["env_steps"], grpo["env_steps"])

    def average(points: list[dict], arm: str) -> float:
        steps = np.linspace(0, common, 201)
        return float(np.interp(steps, [p["env_steps"] for p in points], [p[arm] for p in points]).mean())

    columns = {
        "d2skill": (ours, "with_skills"),
        "d2skill_without_its_bank": (ours, "without_skills"),
        "grpo": (grpo, "without_skills"),
    }
    last = {name: report["curve"][-1][arm] for name, (report, arm) in columns.items()}
    mean = {name: average(report["curve"], arm) for name, (report, arm) in columns.items()}
    return {
        "env_steps": {"d2skill": ours["env_steps"], "grpo": grpo["env_steps"]},
        "grpo_took_as_many": grpo["env_steps"] >= ours["env_steps"],
        "success_at_the_end": last,
        "difference_at_the_end": round(last["d2skill"] - last["grpo"], 4),
        "mean_success_up_to_common_steps": {name: round(value, 4) for name, value in mean.items()},
    }


def one_seed(given: argparse.Namespace, config: Config, root: Path, until: float) -> dict:
    """Imitates, and trains the arms one after the other."""
    say(f"seed {config.seed}: imitation")
    warm = imitate(config, root / "imitation", perf_counter() + given.imitation_share * (until - perf_counter()))
    say(f"  accuracy on games held out: {warm['accuracy_held_out']}")
    imitated = root / "imitation" / ("adapter" if config.policy.lm.lora_rank else "model")
    config = changed(config, policy={"lm": config.policy.lm.model_copy(update={"model": str(imitated)})})
    config = changed(config, warm_start={"tasks": 0})
    report: dict = {"seed": config.seed, "imitation": warm}
    steps = given.env_steps
    for place, arm in enumerate(given.arms):
        say(f"seed {config.seed}: {arm}")
        # GRPO, which comes second, has less to read and play, and needs less time for as many steps
        share = 0.5 if place + 1 < len(given.arms) else 1.0
        summary = root / "d2skill/summary.json"
        if arm == "grpo" and given.env_steps is None and summary.exists():
            steps = json.loads(summary.read_text("utf-8"))["env_steps"]
        now = perf_counter()
        report[arm] = train(arm, config, root / arm, now + share * (until - now), steps)
        (root / f"{arm}.json").write_text(json.dumps(report[arm]), "utf-8")
    done = {
        arm: json.loads((root / f"{arm}.json").read_text("utf-8")) for arm in ARMS if (root / f"{arm}.json").exists()
    }
    if len(done) == len(ARMS):
        report["comparison"] = compare(done["d2skill"], done["grpo"])
    return report


def matmul_tflops(dtype: torch.dtype) -> float:
    """Returns what a large matrix product reaches here, the best of some."""
    gpu = torch.cuda.is_available()
    n = 8192 if gpu else 1024
    one = torch.randn(n, n, device="cuda" if gpu else "cpu", dtype=dtype)
    best = inf
    for _ in range(40):
        started = perf_counter()
        one @ one
        if gpu:
            torch.cuda.synchronize()
        best = min(best, perf_counter() - started)
    return 2 * n**3 / best / 1e12


def device(config: Config, peak: float | None) -> dict:
    """Returns what there is to compute with, and its peak in TFLOP/s."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    half = config.policy.lm.dtype == "bfloat16"
    measured = matmul_tflops(getattr(torch, config.policy.lm.dtype))
    listed = next(((part, bf16, fp32) for part, bf16, fp32 in PEAKS if part in name), None)
    if peak is not None:
        source = "--peak-tflops"
    elif listed and name != "cpu":
        peak, source = listed[1 if half else 2], f"published for {listed[0]}"
    else:
        peak, source = measured, "a matrix product here"
    return {
        "name": name,
        "dtype": config.policy.lm.dtype,
        "threads": torch.get_num_threads(),
        "peak_tflops": round(peak, 4),
        "peak_source": source,
        "matrix_product_tflops": round(measured, 4),
    }


def chance(config: Config) -> float:
    """Returns the success of random actions on the panel."""
    environment = make_environment(config.env)
    rollouts = Rollouts(
        environment, Random(), Components.make(scorer(config)).bank, config.prompt, config.env.max_steps
    )
    panel = select_panel(environment, config.env.validation_split, config.validation.tasks)
    result = evaluate_panel(rollouts, panel, arms=("none",), temperature=1.0, seed=config.seed)
    return round(result.without_skills.success, 4)


def scorer(config: Config) -> Config:
    return changed(config, policy={"kind": "scorer"})


def pack(data: Path, file: Path, games: int | None, panel: int, seed: int) -> dict:
    """Writes an archive of some training games and the panel; all of the training games without a number."""
    environment = AlfworldEnvironment(data)
    ids = environment.task_ids("train")
    chosen = ids if games is None else [ids[i] for i in generator(seed, "pack").permutation(len(ids))[:games]]
    root = data / "json_2.1.1" if (data / "json_2.1.1").is_dir() else data
    names = sorted(chosen) + select_panel(environment, "valid_seen", panel)

    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    # games are much alike, which xz sees over megabytes and gzip does not
    with tarfile.open(file, "w:xz" if file.suffix == ".xz" else "w:gz") as archive:
        for name in names:
            inside = f"{name}/game.tw-pddl"
            archive.add(root / inside, f"json_2.1.1/{inside}", filter=anonymous)
    size = file.stat().st_size
    if size > ARCHIVE_LIMIT:
        file.unlink()
        raise SystemExit(f"{len(names)} games take {size / 2**20:.0f} MiB, over 64: use .tar.xz, or fewer --games")
    return {"file": str(file), "bytes": size, "train": len(chosen), "panel": len(names) - len(chosen)}


@contextmanager
def unpacked(data: Path | None):
    """Gives a folder of games, which is gone afterwards if `data` is an archive."""
    if data is None or data.is_dir():
        yield data
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(data) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--model", type=Path, help="folder of the weights of --size pretrained")
    parser.add_argument("--env", choices=("alfworld", "houses"), default="alfworld")
    parser.add_argument(
        "--data", type=Path, help="folder with ALFWorld's games, or an archive of it (.tar.gz, .tar.xz)"
    )
    parser.add_argument("--arms", default=",".join(ARMS), help="d2skill,grpo or one of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="they share the minutes")
    parser.add_argument("--minutes", type=float, default=8.5, help="wall time of this call")
    parser.add_argument(
        "--imitation-share", type=float, default=0.4, help="of a seed's time, after which it is stopped"
    )
    parser.add_argument("--env-steps", type=int, help="environment steps of each arm, instead of the time of the first")
    parser.add_argument("--peak-tflops", type=float, help="peak of the device in the precision used")
    parser.add_argument("--out", type=Path, help="folder to keep runs in, and to go on with those in it")
    parser.add_argument("--pack", type=Path, help="only write an archive of games for --data elsewhere")
    parser.add_argument("--games", type=int, help="training games in it; without a number, all")
    parser.add_argument("--panel-games", type=int, default=140, help="valid_seen games in it")
    parser.add_argument("flags", nargs="*", help="flags of `d2skill train`, after --")
    given = parser.parse_args()
    given.arms = given.arms.split(",")
    if not set(given.arms) <= set(ARMS):
        parser.error(f"--arms are {', '.join(ARMS)}")
    given.arms.sort()
    if (given.model is None) != (given.size != "pretrained"):
        parser.error("--size pretrained and --model FOLDER go together")
    if (given.env == "alfworld" or given.pack) and given.data is None:
        parser.error("ALFWorld needs --data; without its games, use --env houses")
    return given


def main() -> None:
    started, given = perf_counter(), arguments()
    with unpacked(given.data if given.env == "alfworld" else None) as data:
        if given.pack:
            print(json.dumps(pack(data, given.pack, given.games, given.panel_games, given.seeds[0])))
            return
        with tempfile.TemporaryDirectory() as temporary:
            report = measure(given, data, given.out or Path(temporary), started + 60 * given.minutes)
    report["wall_seconds"] = round(perf_counter() - started, 1)
    text = json.dumps(report, indent=2)
    if given.out:
        (given.out / "report.json").write_text(text, "utf-8")
    print(text)


def measure(given: argparse.Namespace, data: Path | None, root: Path, until: float) -> dict:
    config = settings(given, given.seeds[0], data)
    report: dict = {
        "size": given.size,
        "minutes": given.minutes,
        "versions": {
            "d2skill": version("d2skill"),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "device": device(config, given.peak_tflops),
        "settings": config.model_dump(mode="json"),
        "success_of_random_actions": chance(config),
        "seeds": [],
    }
    peak = report["device"]["peak_tflops"]
    for place, seed in enumerate(given.seeds):
        now = perf_counter()
        end = now + (until - now) / (len(given.seeds) - place)
        one = one_seed(given, settings(given, seed, data), root / f"seed-{seed}", end)
        warm = one["imitation"]
        warm["utilisation"] = round(warm["flops"] / warm["seconds"]["imitation"] / 1e12 / peak, 4)
        for arm in given.arms:
            update = one[arm]["update"]
            update["utilisation"] = round(update["tflops"] / peak, 4)
            update["utilisation_with_reference"] = round(update["tflops_with_reference"] / peak, 4)
        report["seeds"].append(one)
    if len(given.seeds) > 1 and all("comparison" in one for one in report["seeds"]):
        report["mean_difference"] = fmean(one["comparison"]["difference_at_the_end"] for one in report["seeds"])
    return report


if __name__ == "__main__":
    main()
