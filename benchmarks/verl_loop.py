"""How fast verl's loop workers play our episodes, against the local engine on the same; prints one JSON object.

Both sides play the same members of the same tasks of the generated houses, half of them with skills from the same bank,
all at once. Answers come at once, too: a scripted one of the admissible actions, as tokens. So what is measured is all
but the model: environment, retrieval, prompts, tokens, records.

- local: `Rollouts.groups` with a policy that makes tokens of prompts, and text of answers, as the loop has to.
- loop: `SkillAgentLoop.run` of all sessions in one worker of verl, with the bank in its own Ray actor.
- worker: the same through verl's `AgentLoopWorkerTQ.generate_sequences`, until all rows are in its transfer queue.

Each turn plays other tasks, after one that is not counted; a ratio is the median of those of the turns. Each side has
a process of its own. Memory is how far it grew when it first played all episodes, after a turn of two; per episode.
`loop` lets the rows of an episode go when it is over, `worker` when they are in the transfer queue, and what `loop`
has grown by serves `worker` as well, so the sum of both is what counts. `local_bare` is the local engine with a policy
that makes no tokens.

Needs an environment with verl (docs/cluster.md):

    OMP_NUM_THREADS=1 python benchmarks/verl_loop.py
    OMP_NUM_THREADS=1 python benchmarks/verl_loop.py --small
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import tempfile
import uuid
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from threading import Event, Thread
from time import perf_counter, process_time, sleep
from types import SimpleNamespace

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFER_QUEUE_ENABLE": "1"}
os.environ |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "VERL_LOGGING_LEVEL": "ERROR"}

try:
    import ray
    import transfer_queue as tq
    from hydra import compose, initialize_config_module
    from tensordict import NonTensorData, NonTensorStack, TensorDict
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ
    from verl.workers.rollout.replica import TokenOutput
except ImportError as error:
    raise SystemExit(f"{error.name} is missing: use an environment with verl (docs/cluster.md)") from None

from d2skill.bank import Draft, SkillBank
from d2skill.components import sample_texts
from d2skill.config import Config
from d2skill.config.verl import row_tokens
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.policies.answers import parse_action
from d2skill.policies.causal_lm.chat_template import ChatTokenizer
from d2skill.policies.causal_lm.tiny_model import make_tiny_model
from d2skill.rollout import Rollouts
from d2skill.runs.folder import RunFolder
from d2skill.types import Decision, SkillText
from d2skill.utils.rng import derive
from d2skill.verl import agent_loop
from d2skill.verl.bank_actor import start_bank_actor, stop_bank_actor
from d2skill.verl.data import write_agent_loop
from d2skill.verl.overrides import overrides

STORAGE = "transfer_queue.backend.SimpleStorage.num_data_storage_units"


def settings(given, model: Path) -> Config:
    lm = {"model": str(model), "answer": "free", "hidden_size": 16, "layers": 1, "heads": 2}
    return Config.model_validate(
        {
            "engine": "verl",
            "env": {"kind": "houses", "max_steps": given.steps, "houses": {"games_per_plan": 400}},
            "policy": {"kind": "causal-lm", "lm": lm},
            "rollout": {"tasks": given.tasks, "group_size": given.members, "with_skills": given.members // 2},
            "warm_start": {"tasks": 0},
            "bank": {"probe": 0, "task_capacity": 10**4, "step_capacity": 10**4},
            "verl": {"gpus": 1, "workers": 1, "options": [f"{STORAGE}=1"]},
        }
    ).resolved()


class Script:
    """Answers at once, with one of the last admissible actions of a prompt; the same one to the same prompt."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer = tokenizer

    def answer(self, prompt_ids) -> list[int]:
        tail = self._tokenizer.decode(prompt_ids[-80:]).partition("<|im_end|>")[0].splitlines()[1:]
        action = tail[sum(prompt_ids[-300:]) % len(tail)]
        text = f"<think> I go on. </think><action>{action}</action><|im_end|>"
        return self._tokenizer(text, add_special_tokens=False).input_ids


class Server:
    """Stands for verl's client of its servers, in the worker."""

    def __init__(self, tokenizer) -> None:
        self._script = Script(tokenizer)

    async def generate(self, request_id, *, prompt_ids, sampling_params):
        tokens = self._script.answer(prompt_ids)
        told = {"global_steps": 0, "min_global_steps": 0, "max_global_steps": 0}
        return TokenOutput(token_ids=tokens, log_probs=[0.0] * len(tokens), extra_fields=told)


class Policy:
    """Decides by the script, with the tokens that a language model needs or, if it is `bare`, without."""

    def __init__(self, chat: ChatTokenizer, bare: bool = False) -> None:
        self._chat, self._script, self._bare = chat, Script(chat.tokenizer), bare

    def count_tokens(self, text: str) -> int:
        return self._chat.count_tokens(text)

    def act(self, prompts, seeds, temperature):
        return [self._bare_decision(prompt) if self._bare else self._decision(prompt) for prompt in prompts]

    def _decision(self, prompt) -> Decision:
        text = self._chat.decode(self._script.answer(self._chat.prompt_ids(prompt)))
        return Decision(text, parse_action(text), (), ())

    def _bare_decision(self, prompt) -> Decision:
        action = prompt.actions[len(prompt.observation) % len(prompt.actions)]
        return Decision(action, action, (), ())


class Growth:
    """How far this process grows, in MB; looks every few milliseconds."""

    def __enter__(self):
        gc.collect()
        self._before, self.mb, self._done = self._resident(), 0.0, Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._look()

    def _look(self) -> None:
        self.mb = max(self.mb, self._resident() - self._before)

    @staticmethod
    def _resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Counted:
    """A handle of the bank actor that notes how much each call asks."""

    def __init__(self, actor) -> None:
        self.sizes: Counter[int] = Counter()
        self._actor = actor
        self.retrieve = SimpleNamespace(remote=self._retrieve)

    def _retrieve(self, queries):
        self.sizes[len(queries)] += 1
        return self._actor.retrieve.remote(queries)


class Worker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's worker, that can also play sessions of rows without the transfer queue, and tells what that took."""

    def __init__(self, config, run: str) -> None:
        logging.disable(logging.WARNING)
        own = agent_loop.find_bank_actor
        agent_loop.find_bank_actor = lambda path: self._count(own(path))
        super().__init__(config, None)
        self.llm_client = Server(self.tokenizer)
        self._run = run

    def _count(self, actor) -> Counted:
        self.counted = Counted(actor)
        return self.counted

    async def play(self, rows, members: int) -> dict[str, float]:
        with Growth() as growth:
            started, busy = perf_counter(), process_time()
            steps = await asyncio.gather(*(self._session(row, member) for row in rows for member in range(members)))
            seconds, cpu = perf_counter() - started, process_time() - busy
        return {"steps": sum(steps), "seconds": seconds, "cpu": cpu, "mb": growth.mb}

    async def _session(self, row, member: int) -> int:
        sampling = {"temperature": 1.0, "logprobs": True}
        return len(await self._made().run(sampling, session_id=member, extra_info=row, global_steps=1))

    async def watch(self) -> None:
        self._growth = Growth()
        self._growth.__enter__()
        self._busy = process_time()

    async def taken(self) -> dict[str, float]:
        cpu = process_time() - self._busy
        self._growth.__exit__()
        return {"cpu": cpu, "mb": self._growth.mb}

    async def sizes(self) -> dict[int, int]:
        return dict(self.counted.sizes)

    def _made(self):
        wrapped = SimpleNamespace(config=self.config), SimpleNamespace(config=self.config.data)
        return agent_loop.SkillAgentLoop(
            wrapped[0], self.llm_client, self.tokenizer, None, None, wrapped[1], self.hf_model_type, run=self._run
        )


class Local:
    """The local engine, in a process of its own as well."""

    def __init__(self, run: RunFolder, tokenizer, bare: bool) -> None:
        logging.disable(logging.WARNING)
        config = run.config()
        chat = ChatTokenizer(tokenizer, config.policy.lm, [tokenizer.eos_token_id], row_tokens(config)[0])
        parts = config.bank, config.retrieval, config.credit
        bank = SkillBank.open(run.bank, make_embedder(config.embedder), *parts)
        environment = make_environment(config.env)
        self._rollouts = Rollouts(environment, Policy(chat, bare), bank, config.prompt, config.env.max_steps)

    def play(self, tasks, members: int) -> dict[str, float]:
        with Growth() as growth:
            started, busy = perf_counter(), process_time()
            groups = self._rollouts.groups(
                tasks, group_size=members, with_skills=(members + 1) // 2, temperature=1.0, seed=0
            )
            seconds, cpu = perf_counter() - started, process_time() - busy
        turns = sum(len(t.turns) for group in groups for t in group.trajectories)
        return {"steps": turns, "seconds": seconds, "cpu": cpu, "mb": growth.mb}


def row(task: str, index: int) -> dict[str, object]:
    return {"index": index, "task": task, "arm": "", "iteration": 0}


def through_verl(worker, tasks, members: int) -> dict[str, float]:
    """Plays tasks as verl's trainer lets them be played, until all rows are in the transfer queue."""
    uids = [uuid.uuid4().hex for _ in tasks]
    fields = {
        "uid": uids,
        "agent_name": ["d2skill"] * len(tasks),
        "raw_prompt": [[{"role": "user", "content": task}] for task in tasks],
        "extra_info": [row(task, i) for i, task in enumerate(tasks)],
        "data_source": ["train"] * len(tasks),
        "index": list(range(len(tasks))),
        "__rollout_n__": [members] * len(tasks),
    }
    batch = TensorDict(
        {name: NonTensorStack(*values) for name, values in fields.items()} | {"global_steps": NonTensorData(1)},
        batch_size=len(tasks),
    )
    tq.kv_batch_put(keys=uids, partition_id="train", tags=[{"is_prompt": True, "status": "pending"} for _ in uids])
    ray.get(worker.watch.remote())
    started = perf_counter()
    ray.get(worker.generate_sequences.remote(batch))
    while True:
        found = tq.kv_list("train")["train"]
        statuses = {found[uid].get("status") for uid in uids if uid in found}
        if statuses == {"finished"}:
            break
        if "failure" in statuses:
            raise SystemExit("a session failed in verl's worker")
        sleep(0.005)
    seconds = perf_counter() - started
    steps = [key for key in found if key not in uids]
    tq.kv_clear(keys=[*steps, *uids], partition_id="train")
    return {"steps": len(steps), "seconds": seconds, **ray.get(worker.taken.remote())}


def fill(config: Config, run: RunFolder, skills: int) -> None:
    """Makes a bank with skills whose keys are things that the houses say, half of each kind."""
    environment = make_environment(config.env)
    bank = SkillBank(make_embedder(config.embedder), config.bank, config.retrieval, config.credit)
    bank.record(run.bank)
    drafts = []
    for i in range(skills // 2):
        session = environment.start(f"train/{i:04d}")
        text = session.task.text
        for granularity, seen in (("task", ""), ("step", session.observation.text)):
            note = SkillText(f"{text} {i}: search first", f"Look at place {i} before you go on.", f"you are to {text}")
            drafts.append(Draft(granularity, note, text, seen, f"train/{i:04d}"))
    bank.insert(drafts, 0)
    bank.close()


def ratio(over: list[float], under: list[float]) -> float:
    return round(median(a / b for a, b in zip(over, under, strict=True)), 2)


def measure(given, folder: Path) -> dict[str, object]:
    config = settings(given, folder / "model")
    environment = make_environment(config.env)
    model, tokenizer = make_tiny_model(config.policy.lm, sample_texts(environment, "train"), 0)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    run = RunFolder.create(folder / "run")
    run.begin(config, {})
    fill(config, run, given.skills)
    (run.path / "verl").mkdir()
    write_agent_loop(run.path)
    with initialize_config_module("verl.trainer.config", version_base=None):
        verl = compose("ppo_trainer", overrides=overrides(config, run.path, resume=None))
    tq.init(verl.transfer_queue)
    actor = start_bank_actor(run.path)
    worker = ray.remote(Worker).options(num_cpus=1).remote(verl, str(run.path))
    local, bare = (ray.remote(Local).options(num_cpus=1).remote(run, tokenizer, bare=own) for own in (False, True))
    ids = environment.task_ids("train")
    fresh = (f"train/{derive('benchmark', i) % len(ids):04d}" for i in range(10**6))

    def some(count: int) -> list[str]:
        return [next(fresh) for _ in range(count)]

    def rows(tasks) -> list[dict[str, object]]:
        return [row(task, i) for i, task in enumerate(tasks)]

    for tasks, members in ((some(1), 2), (some(given.tasks), given.members)):
        grown = {
            "local": ray.get(local.play.remote(tasks, members))["mb"],
            "loop": ray.get(worker.play.remote(rows(tasks), members))["mb"],
            "worker": through_verl(worker, tasks, members)["mb"],
        }
    episodes = given.tasks * given.members
    turns: dict[str, list[dict[str, float]]] = {"local": [], "local_bare": [], "loop": [], "worker": []}
    asked: Counter[int] = Counter()
    for turn in range(1 + given.repetitions):
        tasks = some(given.tasks)
        figures = {
            "local": ray.get(local.play.remote(tasks, given.members)),
            "local_bare": ray.get(bare.play.remote(tasks, given.members)),
        }
        before = Counter(ray.get(worker.sizes.remote()))
        figures["loop"] = ray.get(worker.play.remote(rows(tasks), given.members))
        asked += Counter(ray.get(worker.sizes.remote())) - before
        figures["worker"] = through_verl(worker, tasks, given.members)
        if turn:
            for name, own in figures.items():
                turns[name].append(own)
    stop_bank_actor(actor)
    rate = {name: [own["steps"] / own["seconds"] for own in of] for name, of in turns.items()}
    busy = {name: [1000 * own["cpu"] / own["steps"] for own in of] for name, of in turns.items()}
    return {
        "versions": {name: version(name) for name in ("d2skill", "verl", "ray", "transformers")},
        "machine": {"cores": os.cpu_count()},
        "settings": vars(given) | {"episodes": episodes},
        "steps_per_second": {name: round(median(own)) for name, own in rate.items()},
        "ratio_to_local": {name: ratio(rate[name], rate["local"]) for name in ("loop", "worker")},
        "processor_ms_per_step": {name: round(median(own), 3) for name, own in busy.items()},
        "ratio_to_local_by_processor_time": {name: ratio(busy["local"], busy[name]) for name in ("loop", "worker")},
        "memory_kb_per_episode": {name: round(1024 * mb / episodes) for name, mb in grown.items()},
        "retrieval": {
            "calls": sum(asked.values()),
            "queries_per_call_mean": round(mean(asked.elements()), 1),
            "queries_per_call_most": max(asked),
        },
        "turns": {name: [{k: round(v, 3) for k, v in own.items()} for own in of] for name, of in turns.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--skills", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a smoke test")
    given = parser.parse_args()
    if given.small:
        given.tasks, given.members, given.steps, given.skills, given.repetitions = 2, 2, 3, 10, 1
    logging.disable(logging.WARNING)
    ray.init(
        num_cpus=8, include_dashboard=False, object_store_memory=300_000_000, log_to_driver=False, logging_level="ERROR"
    )
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(given, Path(folder)), indent=2))
    ray.shutdown()


if __name__ == "__main__":
    main()
