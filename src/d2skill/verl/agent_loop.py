"""Episodes in verl's loop workers: each session of a row plays our `Episode`, one output for each environment step.

A worker process has one environment, and all episodes that wait for skills in one turn of its event loop ask the keeper
in one call. The environment's own work takes microseconds, so it is done in the event loop.
"""

from __future__ import annotations

import asyncio
from array import array
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any, Literal
from uuid import uuid4

from transformers import AutoConfig, GenerationConfig
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

from d2skill.config import Config
from d2skill.envs import make_environment
from d2skill.episode import Episode
from d2skill.policies.causal_lm.chat_template import Chat
from d2skill.policies.causal_lm.loading import end_tokens
from d2skill.prompts import parse_action
from d2skill.rollout import half_of, start_session
from d2skill.runs.folder import RunFolder
from d2skill.types import Arm, Decision, Retrieved
from d2skill.verl.bank_actor import Query, find_bank_actor
from d2skill.verl.rows import Answer, SessionRow, session_rows


class Retriever:
    """Asks a keeper for the skills of many episodes at a time.

    While a call is on its way, further queries gather for the next: the keeper answers one call after the other anyhow.
    """

    def __init__(self, keeper: Any) -> None:
        self._keeper = keeper
        self._asked: list[tuple[Query, asyncio.Future[tuple[Retrieved, ...]]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def retrieve(self, query: Query) -> tuple[Retrieved, ...]:
        """Returns the skills for a query; raises what the keeper raises."""
        found: asyncio.Future[tuple[Retrieved, ...]] = asyncio.get_running_loop().create_future()
        self._asked.append((query, found))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await found

    async def _ask(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            waiting = [future for _, future in asked]
            try:
                answers = await self._keeper.retrieve.remote([query for query, _ in asked])
            except Exception as error:
                for future in waiting:
                    if not future.done():
                        future.set_exception(error)
                continue
            for future, retrieved in zip(waiting, answers, strict=True):
                if not future.done():
                    future.set_result(retrieved)


class Room:
    """What all sessions of a run share in one process: settings, environment, skills and the words of the model.

    What they need of verl's settings is read here, once: to look one of them up can take longer than a step.
    """

    def __init__(self, run: Path, verl: Any, tokenizer: Any) -> None:
        self.config: Config = RunFolder.open(run).config()
        self.environment = make_environment(self.config.env)
        model, rollout = verl.actor_rollout_ref.model, verl.actor_rollout_ref.rollout
        ends = _end_tokens(model.path, tokenizer)
        self.chat = Chat(tokenizer, self.config.policy.lm, ends, rollout.prompt_length)
        self.answer_tokens = int(rollout.response_length)
        self.skills = Retriever(find_bank_actor(run))


_ROOMS: dict[str, Room] = {}
"""The rooms of this process, by run folder."""


class SkillLoop(AgentLoopBase):  # type: ignore[misc]
    """Plays a session of a row, with skills or without.

    In training the sessions below rollout.with_skills have skills, the last of them on trial those on trial, too. In
    validation the row says which arm it is. `run` is the run folder.
    """

    def __init__(self, *args: Any, run: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if run not in _ROOMS:
            _ROOMS[run] = Room(Path(run), self.config, self.tokenizer)
        self._room = _ROOMS[run]

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> list[AgentLoopOutput]:
        """Returns the outputs of an episode, one a step; an episode that never began has one, which is masked.

        Raises what the server and the keeper raise; a fault of the environment is recorded on the episode.
        """
        room, config = self._room, self._room.config
        index, row = int(kwargs["session_id"]), kwargs["extra_info"]
        arm, trial = arm_of(config, index, row["arm"])
        session, fault = start_session(room.environment, row["task"])
        episode = Episode(
            session,
            fault=fault,
            arm=arm,
            index=index,
            max_steps=config.env.max_steps,
            settings=config.prompt,
            count_tokens=room.chat.count,
        )
        answers = await self._play(episode, trial, sampling_params)
        rows = session_rows(
            episode.trajectory(),
            answers,
            config.reward,
            filler=room.chat.end,
            log_probs=bool(sampling_params.get("logprobs")),
            weights=max(0, int(kwargs["global_steps"]) - 1),
        )
        return [_output(row, 2 * step) for step, row in enumerate(rows, start=1)]

    async def _play(self, episode: Episode, trial: bool, sampling_params: dict[str, Any]) -> list[Answer]:
        """Plays an episode to its end; returns the server's answers."""
        chat, skills = self._room.chat, self._room.skills
        shown, name = episode.arm == "skills", uuid4().hex
        if shown:
            episode.task_skills = await skills.retrieve(("task", episode.task.text, trial))
        answers: list[Answer] = []
        while not episode.done:
            prompt = episode.prompt(await skills.retrieve(("step", *episode.query, trial)) if shown else ())
            answer = await self._answer(name, chat.prompt_ids(prompt), sampling_params)
            answers.append(answer)
            text = chat.text(answer.tokens)
            episode.act(prompt, Decision(text, parse_action(text), (), ()))
        return answers

    async def _answer(self, name: str, prompt: tuple[int, ...], sampling_params: dict[str, Any]) -> Answer:
        """Returns what the server answers; it knows the session by its `name`, and what it has read of it."""
        started = perf_counter()
        output = await self.server_manager.generate(
            request_id=name, prompt_ids=list(prompt), sampling_params=dict(sampling_params)
        )
        seconds = perf_counter() - started
        most = self._room.answer_tokens
        log_probs = tuple(output.log_probs[:most]) if output.log_probs else None
        # An episode holds all of its prompts until it ends: as numbers of four bytes, not as objects of thirty.
        read, written = array("i", prompt), tuple(output.token_ids[:most])
        return Answer(read, written, log_probs, seconds, output.extra_fields)


def arm_of(config: Config, session: int, arm: Arm | Literal[""]) -> tuple[Arm, bool]:
    """Returns the arm of a session, which is `arm` if its row says one, and whether skills on trial are shown to it."""
    skilled = config.rollout.with_skills
    return (arm, False) if arm else half_of(session, skilled, config.bank.on_trial(skilled))


def _output(row: SessionRow, turns: int) -> AgentLoopOutput:
    return AgentLoopOutput(
        prompt_ids=row.prompt,
        response_ids=row.response,
        response_mask=row.mask,
        response_logprobs=row.log_probs,
        reward_score=row.reward,
        num_turns=turns,
        metrics=AgentLoopMetrics(generate_sequences=row.seconds),
        extra_fields=row.extra,
    )


def _end_tokens(model: str, tokenizer: Any) -> list[int]:
    """Returns the tokens that end a text of a model, of which only the settings are read."""
    config = AutoConfig.from_pretrained(model)
    try:
        generation = GenerationConfig.from_pretrained(model)
    except OSError:
        generation = config
    return end_tokens(SimpleNamespace(generation_config=generation, config=config), tokenizer)
