"""How fast a training iteration is, against TRL's GRPOTrainer on the same episodes; prints one JSON object.

Both sides load the same folder in float32: that of a real model (--model), whose prompts are made long by --before
steps of each member that were played at random and are told in the task; or a small Qwen2 that is made here and, unless
it is --untrained, taught a little by the houses' expert, so that most answers end by themselves. With --lora both train
an adapter of that rank on all linear layers. In every turn each side plays the same tasks of the generated houses with
as many members each, and takes one optimiser step of Adam on all of it. Episodes have a fixed number of steps: one that
is won goes on, and nothing happens any more. An answer is any text, sampled from the whole vocabulary at temperature 1;
it ends at </action>, at the end of the turn, or at --answer tokens.

Ours is `Trainer._iterate` as it runs in training, writing the episodes down included; with_skills is 0, so it is plain
GRPO, and skills are no factor. TRL has no episodes of several steps of its own that need no tool calls; both ways that
it offers for them go through its `rollout_func`, with all else its own (generation, padding, loss, optimiser):

- rows: every step is a sample of its own, with the prompt that we would give. The same training problem as ours.
- conversation: an episode is one growing conversation, trained as one sequence in which only answers count. Each turn
  shows the observation and the admissible actions. So TRL's tool loop (environment_factory) plays and learns, and as
  there, the conversation is read anew for every answer. It sees all past steps, and their admissible actions too.

The headline is ours with every past step in the prompt against the way of TRL that gives the smaller ratio; both
see as much. "Two past steps", as in the paper, is ours against rows of TRL with the same prompts.

Tokens/s are the tokens that the model wrote, over the seconds of the iteration, play and update. A ratio is the median
of the ratios in the turns; the same by processor time is less disturbed by what else the machine does. "read" are the
tokens of prompts as they were put to the model, "trained" those of the rows or conversations, both without padding.
"by_count" has, for our episodes, the prompt tokens that our slots computed in play against those that a server with an
automatic prefix cache would (blocks of 16 tokens, nothing ever dropped, and every sequence that was begun before is
there), and the tokens that the update computed against those of its rows.
Loading, construction, the first iteration of each side and TRL's collection of garbage before it are not counted, nor
is the search for TRL's fastest batch sizes in play and update, which the other sides of TRL take over. TRL computes no
log-probabilities before the update (with one step per batch its ratio is 1), logs and saves nothing, and keeps all
layers. Logits are those of answers alone on both sides: TRL does so on a GPU, and is told to do so on a processor too.

With --more, also both with a KL term to a frozen reference, and ours with answer "choice": that is compared by
decisions per second, as a choice writes other tokens and TRL has no counterpart.

    OMP_NUM_THREADS=1 python benchmarks/trainer.py --model SMOLLM2 --lora 16 --before 25 --tasks 1 --members 2 \
        --steps 4 --answer 16 --batches 1 --repetitions 2
    OMP_NUM_THREADS=1 python benchmarks/trainer.py
    OMP_NUM_THREADS=1 python benchmarks/trainer.py --small
    OMP_NUM_THREADS=1 python benchmarks/trainer.py --untrained --more
    OMP_NUM_THREADS=1 python benchmarks/trainer.py --tasks 8 --hidden-size 256 --layers 6 --heads 8
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time
from unittest.mock import patch

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

try:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer import utils as trl_utils
except ImportError as error:
    raise SystemExit(f"{error.name} is missing, which this compares with: pip install trl") from None

from d2skill.components import Components
from d2skill.config import Config, toml_files
from d2skill.episode import Episode
from d2skill.policies.answers import parse_action
from d2skill.policies.causal_lm import forward, generation
from d2skill.prompts import render
from d2skill.trainer import Trainer
from d2skill.types import Decision, Observation
from d2skill.utils.rng import generator
from d2skill.warm_start import warm_start

CLOSING = "</action>"
MARK = "@@"
KL = 0.01
BATCHES = {"rows": (8, 16, 32), "conversation": (1, 4, 8)}
"""What is tried for TRL's per_device_train_batch_size; the fastest is taken."""
BLOCK = 16
"""Tokens in a block of a server's prefix cache."""
TOGETHER = 8
"""What is tried for the prompts that TRL generates answers to together, besides all; the faster is taken."""


class Lasting:
    """A session that goes on for a number of steps, whatever happens."""

    def __init__(self, session, steps: int, told: str = "") -> None:
        self._session, self._left = session, steps
        self.task = replace(session.task, text=session.task.text + told)
        self.observation = replace(session.observation, done=False, success=False)
        self._won = False

    def step(self, action: str) -> Observation:
        self._left -= 1
        text = "Nothing happens." if self._session.observation.done else self._session.step(action).text
        seen = self._session.observation
        self._won |= seen.success
        actions = seen.actions or self.observation.actions
        over = self._left == 0
        self.observation = Observation(text, actions, done=over, success=over and self._won)
        return self.observation


class Houses:
    """An environment in which a run finds as many tasks as it plays in an iteration: those of the present turn."""

    def __init__(self, environment, split: str, tasks: int, steps: int, before: int) -> None:
        self.turn, self.steps, self.started = 0, steps, 0
        self._before = before
        self.slots = [f"slot/{i}" for i in range(tasks)]
        self._environment, self._split = environment, split
        self._all = environment.task_ids(split)

    def task_ids(self, split: str):
        return self.slots if split == self._split else self._environment.task_ids(split)

    def start(self, task_id: str) -> Lasting:
        place = self.turn * len(self.slots) + self.slots.index(task_id)
        session, told = self._environment.start(self._all[place % len(self._all)]), ""
        rng = generator("before", self.turn, self.started)  # each member has come another way
        self.started += 1
        for _ in range(self._before):
            action = str(rng.choice(session.observation.actions))
            told += f"\n{session.observation.text}\n> {action}"
            session.step(action)
        return Lasting(session, self.steps, f"\n\nBefore:{told}" if told else "")


class Tokens:
    """Counts with the tokenizer that both sides load."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.closing = self.tokenizer.convert_tokens_to_ids(CLOSING)
        self.end = self.tokenizer.eos_token_id

    def chat(self, messages) -> list[int]:
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def next_turn(self, answer: list[int], content: str) -> list[int]:
        """Returns what comes between an answer and the next, as TRL makes it for a tool's result."""
        turns = [("user", "q"), ("assistant", MARK), ("user", content)]
        messages = [{"role": role, "content": text} for role, text in turns]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(text.partition(MARK)[2], add_special_tokens=False).input_ids
        return ids[1:] if answer[-1] == self.end else ids

    def text(self, answer: list[int]) -> str:
        return self.tokenizer.decode([token for token in answer if token != self.end])


def settings(given, **changed) -> Config:
    """Returns the settings of our side; the keys of `changed` are group__name."""
    tree = toml_files.load("laptop-lm").model_dump()
    tree["env"]["max_steps"] = given.steps
    tree["rollout"] |= {"tasks": given.tasks, "group_size": given.members, "with_skills": 0, "temperature": 1.0}
    tree["prompt"] |= {"history": given.steps, "max_tokens": 4096 if given.model else 16384}
    tree["optim"] |= {"minibatch_rows": given.tasks * given.members * given.steps, "learning_rate": 1e-6, "kl": 0.0}
    tree["warm_start"] |= {"tasks": given.demonstrations, "epochs": 2, "advised": 0.0}
    tree["policy"]["lm"] |= {"device": "cpu", "answer": "free", "max_new_tokens": given.answer}
    tree["policy"]["lm"] |= {"hidden_size": given.hidden_size, "layers": given.layers, "heads": given.heads}
    tree["policy"]["lm"] |= {"lora_rank": given.lora, "microbatch_tokens": given.microbatch}
    if given.model:
        tree["env"]["houses"] |= {"receptacles": 24}
    for name, value in changed.items():
        *path, last = name.split("__")
        node = tree
        for part in path:
            node = node[part]
        node[last] = value
    return Config.model_validate(tree)


def make_model(given, folder: Path) -> tuple[Components, str, dict[str, float]]:
    """Makes the model of both sides; returns parts with the houses, its folder, and what teaching it came to."""
    config = settings(given, policy__lm__lora_rank=0)
    parts = Components.make(config)
    if given.model:
        return parts, given.model, {}
    ids = parts.environment.task_ids(config.env.train_split)
    metrics = {}
    if not given.untrained:
        longer = settings(given, env__max_steps=20, prompt__history=10)
        metrics = warm_start(longer, parts.environment, parts.policy, parts.reflector, ids)
    folder.mkdir()
    parts.policy.save(folder)
    return parts, str(folder / "model"), metrics


class Ours:
    """Our trainer."""

    def __init__(self, given, houses: Houses, model: str, folder: Path, tokens: Tokens, **changed) -> None:
        self._config = settings(given, policy__lm__model=model, **changed)
        self._answer = self._config.policy.lm.answer
        parts = Components.make(self._config)
        folder.mkdir()
        self._trainer = Trainer(self._config, folder, replace(parts, environment=houses))
        self._houses, self._tokens = houses, tokens
        parts.policy.freeze_reference()

    def iterate(self, turn: int) -> dict[str, float]:
        self._houses.turn, self._houses.started = turn, 0
        with computed() as counts:
            figures = self._iterate(turn)
        return figures | {"computed_in_play": counts["play"], "computed_in_update": counts["update"]}

    def _iterate(self, turn: int) -> dict[str, float]:
        started, busy = perf_counter(), process_time()
        groups, metrics = self._trainer._iterate(turn)
        seconds, cpu = perf_counter() - started, process_time() - busy
        turns = [turn for group in groups for one in group.trajectories for turn in one.turns]
        prompts = [self._tokens.chat(render(turn.prompt, self._answer)) for turn in turns]
        read = sum(map(len, prompts))
        episodes = [len(one.turns) for group in groups for one in group.trajectories]
        written = sum(len(turn.decision.tokens) for turn in turns)
        return {
            "seconds": seconds,
            "cpu": cpu,
            "play": metrics["time/rollout"],
            "update": metrics["time/update"],
            "written": written,
            "read": read,
            "trained": read + written,
            "server_would_compute": served([prompts[i] for i in by_step(episodes)]),
            "steps": len(turns),
            "admissible": sum(turn.admissible for turn in turns),
        }


@contextmanager
def computed():
    """Counts the tokens that go through our model: in passes of play (prompts and answers), and of the update."""
    padded, packed, counts = generation.left_padded, forward.pack_sequences, {"play": 0, "update": 0}

    def count_play(chunks, device):
        counts["play"] += sum(map(len, chunks))
        return padded(chunks, device)

    def count_prefix(chunks, device):
        counts["update"] += torch.is_grad_enabled() * sum(map(len, chunks))
        return padded(chunks, device)

    def count_packed(sequences, *given):
        counts["update"] += torch.is_grad_enabled() * sum(map(len, sequences))
        return packed(sequences, *given)

    with (
        patch.object(generation, "left_padded", count_play),
        patch.multiple(forward, left_padded=count_prefix, pack_sequences=count_packed),
    ):
        yield counts


def by_step(lengths: list[int]) -> list[int]:
    """Returns the indices of the steps of episodes that lie end to end, in the order of play."""
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    return [a + step for step in range(max(lengths)) for a, n in zip(starts, lengths, strict=True) if step < n]


def served(prompts: list[list[int]]) -> int:
    """Returns the prompt tokens that a server computes whose cache holds the blocks of all prompts before."""
    known, count = set(), 0
    for prompt in prompts:
        blocks = [tuple(prompt[: end + BLOCK]) for end in range(0, len(prompt) - BLOCK, BLOCK)]
        hit = next((i for i, block in enumerate(blocks) if block not in known), len(blocks))
        count += len(prompt) - BLOCK * hit
        known.update(blocks)
    return count


class Stopwatch(TrainerCallback):
    """Seconds from when TRL starts training to when its step is done."""

    def on_train_begin(self, *_, **__) -> None:
        self._started, self._busy = perf_counter(), process_time()

    def on_step_end(self, *_, **__) -> None:
        self.seconds, self.cpu = perf_counter() - self._started, process_time() - self._busy


def adapter(lm) -> LoraConfig:
    """Returns our adapter in terms of peft, which TRL takes."""
    return LoraConfig(
        task_type="CAUSAL_LM", r=lm.lora_rank, lora_alpha=lm.lora_alpha, lora_dropout=0.0, target_modules="all-linear"
    )


class Theirs:
    """TRL's trainer, with episodes as `rows` or as a `conversation`."""

    def __init__(
        self,
        given,
        houses: Houses,
        model: str,
        folder: Path,
        tokens: Tokens,
        way: str,
        batch: int,
        together: int,
        **more,
    ) -> None:
        config = settings(given, **more)
        self.way, self.batch, self.together = way, batch, together
        self._houses, self._tokens = houses, tokens
        self._members, self._prompt = given.members, config.prompt
        each = given.members * (given.steps if way == "rows" else 1)
        samples = given.tasks * each
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        loaded.generation_config.eos_token_id = [tokens.end, tokens.closing]
        self._watch, self._figures = Stopwatch(), {}
        self._trainer = GRPOTrainer(
            model=loaded,
            processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
            peft_config=adapter(config.policy.lm) if given.lora else None,
            reward_funcs=lambda gained, **_: gained,
            rollout_func=self._play,
            train_dataset=Dataset.from_dict({"prompt": houses.slots}),
            callbacks=[self._watch],
            args=GRPOConfig(
                output_dir=str(folder),
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=samples // batch,
                num_generations=each,
                max_completion_length=given.answer,
                max_steps=1,
                beta=config.optim.kl,
                learning_rate=config.optim.learning_rate,
                max_grad_norm=config.optim.max_grad_norm,
                temperature=1.0,
                shuffle_dataset=False,
                bf16=False,
                gradient_checkpointing=False,
                use_cpu=True,
                dataloader_pin_memory=False,
                report_to="none",
                logging_strategy="no",
                save_strategy="no",
                disable_tqdm=True,
            ),
        )
        self._trainer.remove_callback(PrinterCallback)

    def iterate(self, turn: int) -> dict[str, float]:
        self._houses.turn, self._houses.started = turn, 0
        self._trainer.train()
        seconds, play = self._watch.seconds, self._figures["play"]
        return {"seconds": seconds, "cpu": self._watch.cpu, "update": seconds - play} | self._figures

    def _generate(self, prompts: list[list[int]]) -> list[list[int]]:
        """Returns an answer to each, generated as TRL generates in each round of its tool loop."""
        answers = []
        for start in range(0, len(prompts), self.together):
            answers += self._trainer._generate_single_turn(prompts[start : start + self.together], None, {}, 1)[0]
        return answers

    def _play(self, asked, _trainer) -> dict:
        started = perf_counter()
        slots = asked[:: len(asked) // len(self._houses.slots)]
        sessions = [self._houses.start(slot) for slot in slots for _ in range(self._members)]
        play = self._play_rows if self.way == "rows" else self._play_conversations
        prompts, answers, masks, invalid = play(sessions)
        won = [10.0 * session.observation.success - wrong for session, wrong in zip(sessions, invalid, strict=True)]
        each = len(prompts) // len(sessions)
        output = {
            "prompt_ids": prompts,
            "completion_ids": answers,
            "logprobs": None,
            "gained": [value for value in won for _ in range(each)],
        }
        if masks:
            output["env_mask"] = masks
        steps = len(sessions) * self._houses.steps
        trained = sum(map(len, prompts)) + sum(map(len, answers))
        self._figures |= {"steps": steps, "trained": trained, "admissible": steps - sum(invalid)}
        self._figures["play"] = perf_counter() - started
        return output

    def _play_rows(self, sessions):
        episodes = [
            Episode(
                session,
                arm="none",
                index=0,
                max_steps=self._houses.steps,
                settings=self._prompt,
                count_tokens=lambda text: len(self._tokens.tokenizer(text).input_ids),
            )
            for session in sessions
        ]
        prompts, answers = [[] for _ in sessions], [[] for _ in sessions]
        for _ in range(self._houses.steps):
            seen = [episode.prompt() for episode in episodes]
            read = [self._tokens.chat(render(prompt)) for prompt in seen]
            for i, answer in enumerate(self._generate(read)):
                text = self._tokens.text(answer)
                episodes[i].act(seen[i], Decision(text, parse_action(text), tuple(answer), ()))
                prompts[i].append(read[i])
                answers[i].append(answer)
        invalid = [episode.trajectory().invalid_actions for episode in episodes]
        prompts, answers = list(chain(*prompts)), list(chain(*answers))
        self._figures = {"read": sum(map(len, prompts)), "written": sum(map(len, answers))}
        return prompts, answers, None, invalid

    def _play_conversations(self, sessions):
        prompts = [self._tokens.chat(self._first(session)) for session in sessions]
        sequences, masks = [[] for _ in sessions], [[] for _ in sessions]
        invalid = [0] * len(sessions)
        read = 0
        for step in range(self._houses.steps):
            whole = [prompt + sequence for prompt, sequence in zip(prompts, sequences, strict=True)]
            read += sum(map(len, whole))
            for i, answer in enumerate(self._generate(whole)):
                action = parse_action(self._tokens.text(answer))
                invalid[i] += action not in sessions[i].observation.actions
                seen = sessions[i].step(action)
                following = []
                if step + 1 < self._houses.steps:
                    following = self._tokens.next_turn(answer, _shown(seen))
                sequences[i] += answer + following
                masks[i] += [1] * len(answer) + [0] * len(following)
        self._figures = {"read": read, "written": sum(map(sum, masks))}
        return prompts, sequences, masks, invalid

    def _first(self, session) -> list[dict[str, str]]:
        episode = Episode(
            session, arm="none", index=0, max_steps=1, settings=self._prompt, count_tokens=lambda text: len(text)
        )
        return render(episode.prompt())


def _shown(seen: Observation) -> str:
    """Returns what a turn of a conversation shows, in the words of our prompts."""
    return f"Now:\n{seen.text}\n\nAdmissible actions:\n" + "\n".join(seen.actions)


def fastest(make, way: str, samples: int, episodes: int, batches) -> tuple[dict[str, int], dict[str, float]]:
    """Returns TRL's fastest batch sizes for a way, by processor time, and the seconds of an iteration with each."""
    if len(batches) == 1:
        return {"batch": batches[0], "together": episodes}, {}
    fitting = sorted({min(batch, samples) for batch in batches if samples % min(batch, samples) == 0})
    make(way, fitting[0], episodes).iterate(0)
    by_batch = {batch: make(way, batch, episodes).iterate(0)["cpu"] for batch in fitting}
    batch = min(by_batch, key=by_batch.__getitem__)
    by_size = {episodes: by_batch[batch]}
    if episodes > TOGETHER:
        by_size[TOGETHER] = make(way, batch, TOGETHER).iterate(0)["cpu"]
    together = min(by_size, key=by_size.__getitem__)
    tried = {f"learning from {batch} together": round(seconds, 2) for batch, seconds in by_batch.items()}
    tried |= {f"answering {size} together": round(seconds, 2) for size, seconds in by_size.items()}
    return {"batch": batch, "together": together}, tried


def summary(turns: list[dict[str, float]]) -> dict[str, object]:
    """Returns medians over the turns and the raw figures."""
    rates = [turn["written"] / turn["seconds"] for turn in turns]
    return {
        "tokens_per_second": round(median(rates), 1),
        "env_steps_per_second": round(median(turn["steps"] / turn["seconds"] for turn in turns), 1),
        "play_seconds": round(median(turn["play"] for turn in turns), 2),
        "update_seconds": round(median(turn["update"] for turn in turns), 2),
        "tokens_an_answer": round(median(turn["written"] / turn["steps"] for turn in turns), 1),
        "admissible": round(median(turn["admissible"] / turn["steps"] for turn in turns), 3),
        "turns": [{name: round(value, 3) for name, value in turn.items()} for turn in turns],
    }


def ratios(ours: list[dict[str, float]], theirs: list[dict[str, float]], of: str = "written") -> dict[str, object]:
    """Returns ours over theirs, turn by turn, their median, and the median by seconds of processor time."""
    every, cpu = (
        [a[of] / a[clock] / (b[of] / b[clock]) for a, b in zip(ours, theirs, strict=True)]
        for clock in ("seconds", "cpu")
    )
    turns = [round(ratio, 2) for ratio in every]
    return {"median": round(median(every), 2), "turns": turns, "median_by_processor_time": round(median(cpu), 2)}


def compare(given, folder: Path) -> dict[str, object]:
    parts, model, taught = make_model(given, folder / "made")
    config = settings(given)
    houses = Houses(parts.environment, config.env.train_split, given.tasks, given.steps, given.before)
    tokens = Tokens(model)
    numbered = (folder / str(i) for i in range(1000))

    def ours(**changed):
        return Ours(given, houses, model, next(numbered), tokens, **changed)

    def theirs(way: str, batch: int, together: int, **changed):
        return Theirs(given, houses, model, next(numbered), tokens, way, batch, together, **changed)

    episodes = given.tasks * given.members
    samples = {"rows": episodes * given.steps, "conversation": episodes}
    best, searched = {}, {}
    for way in samples:
        best[way], searched[way] = fastest(theirs, way, samples[way], episodes, given.batches or BATCHES[way])
    sides = {
        "ours": ours(),
        "trl_rows": theirs("rows", **best["rows"]),
        "trl_conversation": theirs("conversation", **best["conversation"]),
    }
    if not given.model:
        sides["ours_two_past_steps"] = ours(prompt__history=2)
        sides["trl_rows_two_past_steps"] = theirs("rows", **best["rows"], prompt__history=2)
    if given.more:
        sides |= {
            "ours_kl": ours(optim__kl=KL),
            "trl_rows_kl": theirs("rows", **best["rows"], optim__kl=KL),
            "trl_conversation_kl": theirs("conversation", **best["conversation"], optim__kl=KL),
            "ours_choice": ours(policy__lm__answer="choice"),
        }
    turns = {name: [] for name in sides}
    order = list(sides)
    for turn in range(bool(given.model), 1 + given.repetitions):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            figures = sides[name].iterate(turn)
            print(f"turn {turn}, {name}: {figures['cpu']:.1f} s of the processor", file=sys.stderr)
            if turn:
                turns[name].append(figures)
    report: dict[str, object] = {
        "versions": {name: version(name) for name in ("d2skill", "torch", "transformers", "trl", "accelerate")},
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "processor": platform.machine()},
        "settings": {name: value for name, value in vars(given).items() if name not in ("batches", "model")}
        | {
            "episodes": episodes,
            "model": Path(given.model).name if given.model else "made here",
            "weights": sum(weight.numel() for weight in parts.policy.model.parameters()),
            "vocabulary": len(tokens.tokenizer),
            "taught": {name: round(float(value), 3) for name, value in taught.items()},
        },
        "trl_tried_processor_seconds": searched,
        "trl_fastest": best,
    }
    headlines = [{"ours_over": name, **ratios(turns["ours"], turns[name])} for name in ("trl_rows", "trl_conversation")]
    report["headline"] = min(headlines, key=lambda headline: headline["median"])
    pairs = [
        ("ours", "trl_rows"),
        ("ours", "trl_conversation"),
        ("ours_two_past_steps", "trl_rows_two_past_steps"),
        ("ours_two_past_steps", "trl_conversation"),
        ("ours_kl", "trl_rows_kl"),
        ("ours_kl", "trl_conversation_kl"),
    ]
    report["ratios"] = {f"{a}/{b}": ratios(turns[a], turns[b]) for a, b in pairs if a in turns and b in turns}
    if "ours_choice" in turns:
        report["ratios_of_decisions"] = {
            f"ours_choice/{name}": ratios(turns["ours_choice"], turns[name], "steps")
            for name in ("trl_rows", "trl_conversation")
        }
    report["by_count"] = by_count(turns["ours"])
    report["sides"] = {name: summary(own) for name, own in turns.items()}
    return report


def by_count(turns: list[dict[str, float]]) -> dict[str, float]:
    """Returns tokens of an iteration of ours, on average, and what a server with a prefix cache would come to."""
    names = ("read", "written", "computed_in_play", "server_would_compute", "trained", "computed_in_update")
    found = {name: round(mean(turn[name] for turn in turns)) for name in names}
    play = found["computed_in_play"]
    return found | {
        "prompt_tokens_a_step": round(found["read"] / mean(turn["steps"] for turn in turns)),
        "server_over_ours_in_play": round((found["server_would_compute"] + found["written"]) / play, 3),
        "nothing_kept_over_ours_in_play": round((found["read"] + found["written"]) / play, 3),
        "rows_over_ours_in_update": round(found["trained"] / found["computed_in_update"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--answer", type=int, default=32, help="tokens of an answer, at most")
    parser.add_argument("--hidden-size", type=int, default=96)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--model", help="folder of a real model, in place of the small one")
    parser.add_argument("--lora", type=int, default=0, help="rank of an adapter, 0 to train all weights")
    parser.add_argument("--before", type=int, default=0, help="steps that were played before, told in the task")
    parser.add_argument("--microbatch", type=int, default=4096, help="our tokens in a forward pass, at most")
    parser.add_argument("--untrained", action="store_true", help="random weights: nearly all answers are cut off")
    parser.add_argument("--demonstrations", type=int, default=80, help="tasks that the model is taught")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="*", help="tried for TRL's per_device_train_batch_size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--more", action="store_true", help="also with a KL term, and ours with answers chosen")
    parser.add_argument("--small", action="store_true", help="a smoke test")
    given = parser.parse_args()
    if given.small:
        given.tasks, given.members, given.steps, given.answer, given.repetitions = 2, 2, 3, 12, 1
        given.demonstrations, given.batches = 8, [2]
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    trl_utils._use_triton = lambda _: True  # there it only says that logits of answers alone are computed
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(given, Path(folder)), indent=2))


if __name__ == "__main__":
    main()
