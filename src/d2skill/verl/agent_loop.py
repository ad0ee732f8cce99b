"""Agent loop of verl's workers: each session of a row plays an `Episode`, with one output for each environment step.

A worker process has one environment, and all episodes that wait for skills in one turn of its event loop ask the bank
actor in one call. The environment's own work takes microseconds, so it is done in the event loop.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from dataclasses import replace
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
from d2skill.policies.answers import closing_tags, parse_action
from d2skill.policies.causal_lm.chat_template import ChatTokenizer
from d2skill.policies.causal_lm.loading import end_tokens
from d2skill.prompts import ANY_TEXT, free_forms, tag_names
from d2skill.rollout import half_of, start_session
from d2skill.runs.folder import RunFolder
from d2skill.types import Arm, Decision, Retrieved
from d2skill.verl.bank_actor import Query, find_bank_actor
from d2skill.verl.rows import ServerAnswer, StepRow, episode_rows


class Retriever:
    """Batches the queries of many episodes into calls of the bank actor.

    While a call is under way, further queries gather for the next: the actor answers one call after the other.
    """

    def __init__(self, bank_actor: Any) -> None:
        self._bank_actor = bank_actor
        self._waiting: list[tuple[Query, asyncio.Future[tuple[Retrieved, ...]]]] = []
        self._calls: asyncio.Task[None] | None = None

    async def retrieve(self, query: Query) -> tuple[Retrieved, ...]:
        """Returns the skills for a query; raises the errors of the bank actor."""
        future: asyncio.Future[tuple[Retrieved, ...]] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        if self._calls is None or self._calls.done():
            self._calls = asyncio.create_task(self._call())
        return await future

    async def _call(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                answers = await self._bank_actor.retrieve.remote([query for query, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), retrieved in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(retrieved)


class WorkerContext:
    """Settings, environment, bank actor and tokenizer that all sessions of a run share in one process.

    Settings of verl are read here, once: to look one of them up can take longer than a step.
    """

    def __init__(self, run: Path, verl: Any, tokenizer: Any) -> None:
        self.config: Config = RunFolder.open(run).config()
        self.environment = make_environment(self.config.env)
        model, rollout = verl.actor_rollout_ref.model, verl.actor_rollout_ref.rollout
        ends = _end_tokens(model.path, tokenizer)
        self.chat = ChatTokenizer(tokenizer, self.config.policy.lm, ends, rollout.prompt_length)
        self.answer_tokens = int(rollout.response_length)
        self.stops = rollout.get("name") == "vllm"  # others have no tokenizer to find the text in
        self.skills = Retriever(find_bank_actor(run))


_CONTEXTS: dict[str, WorkerContext] = {}
"""The contexts of this process, by run folder."""


class SkillAgentLoop(AgentLoopBase):  # type: ignore[misc]
    """Plays a session of a row, with skills or without.

    In training the sessions below rollout.with_skills have skills, the last of them also those on trial. In validation
    the row names the arm. `run` is the run folder.
    """

    def __init__(self, *args: Any, run: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if run not in _CONTEXTS:
            _CONTEXTS[run] = WorkerContext(Path(run), self.config, self.tokenizer)
        self._context = _CONTEXTS[run]

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> list[AgentLoopOutput]:
        """Returns the outputs of an episode, one a step; an episode that never began has one, which is masked.

        Raises the errors of the server and the bank actor; a fault of the environment is recorded on the episode.
        """
        context, config = self._context, self._context.config
        index, row = int(kwargs["session_id"]), kwargs["extra_info"]
        arm, trial = session_arm(config, index, row["arm"])
        session, fault = start_session(context.environment, row["task"])
        episode = Episode(
            session,
            fault=fault,
            arm=arm,
            index=index,
            max_steps=config.env.max_steps,
            settings=config.prompt,
            count_tokens=context.chat.count_tokens,
        )
        answers = await self._play(episode, trial, sampling_params)
        rows = episode_rows(
            episode.trajectory(),
            answers,
            config.reward,
            filler=context.chat.end_token,
            log_probs=bool(sampling_params.get("logprobs")),
            weights=max(0, int(kwargs["global_steps"]) - 1),
        )
        return [_output(row, 2 * step) for step, row in enumerate(rows, start=1)]

    async def _play(self, episode: Episode, trial: bool, sampling_params: dict[str, Any]) -> list[ServerAnswer]:
        """Plays an episode to its end; returns the server's answers."""
        chat, skills = self._context.chat, self._context.skills
        has_skills, request_id = episode.arm == "skills", uuid4().hex
        consolidated = self._context.config.bank.skills == "consolidated"
        if has_skills and consolidated:
            advice = await skills.retrieve(("advice", *episode.start, trial))
            by_kind = {kind: [one for one in advice if one.skill.granularity == kind] for kind in ("task", "step")}
            episode.advise(by_kind["task"], by_kind["step"])
        elif has_skills:
            episode.task_skills = await skills.retrieve(("task", episode.task.text, trial))
        asks = has_skills and not consolidated
        answers: list[ServerAnswer] = []
        while not episode.done:
            prompt = episode.prompt(await skills.retrieve(("step", *episode.query, trial)) if asks else ())
            forms = free_forms(prompt)
            # An answer in <action> tags goes on to the end of its turn, as it always did here.
            closings = closing_tags(forms) if tag_names(forms) != ("action",) or forms == ANY_TEXT else ()
            given = sampling_params | ({"stop": list(closings)} if closings and self._context.stops else {})
            answer = _cut(await self._answer(request_id, chat.prompt_ids(prompt), given), closings, chat)
            answers.append(answer)
            text = chat.decode(answer.tokens)
            episode.act(prompt, Decision(text, parse_action(text, forms), (), ()))
        return answers

    async def _answer(self, request_id: str, prompt: tuple[int, ...], sampling_params: dict[str, Any]) -> ServerAnswer:
        """Returns the server's answer; it knows the session, and what it has read of it, by the request id."""
        started = perf_counter()
        output = await self.server_manager.generate(
            request_id=request_id, prompt_ids=list(prompt), sampling_params=dict(sampling_params)
        )
        seconds, most = perf_counter() - started, self._context.answer_tokens
        log_probs = tuple(output.log_probs[:most]) if output.log_probs else None
        # An episode holds all of its prompts until it ends: as numbers of four bytes, not as objects of thirty.
        return ServerAnswer(array("i", prompt), tuple(output.token_ids[:most]), log_probs, seconds, output.extra_fields)


def session_arm(config: Config, session: int, arm: Arm | Literal[""]) -> tuple[Arm, bool]:
    """Returns the arm of a session, `arm` if its row names one, and whether skills on trial are shown to it."""
    skilled = config.rollout.with_skills
    return (arm, False) if arm else half_of(session, skilled, config.bank.on_trial(skilled))


def _cut(answer: ServerAnswer, closings: Sequence[str], chat: ChatTokenizer) -> ServerAnswer:
    """Returns an answer without what a server wrote behind the first of some closing tags."""
    whole = chat.decode(answer.tokens)
    if not any(tag in whole for tag in closings):
        return answer
    least, most = 1, len(answer.tokens)  # the shortest beginning with a closing tag, by halves
    while least < most:
        middle = (least + most) // 2
        text = chat.decode(answer.tokens[:middle])
        least, most = (least, middle) if any(tag in text for tag in closings) else (middle + 1, most)
    log_probs = answer.log_probs and answer.log_probs[:least]
    return replace(answer, tokens=answer.tokens[:least], log_probs=log_probs)


def _output(row: StepRow, turns: int) -> AgentLoopOutput:
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
    config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    try:
        generation = GenerationConfig.from_pretrained(model, trust_remote_code=False)
    except OSError:
        generation = config
    return end_tokens(SimpleNamespace(generation_config=generation, config=config), tokenizer)
