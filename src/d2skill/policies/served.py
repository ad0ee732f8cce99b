"""Policy behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, Ollama, a cloud service): it does not learn."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from d2skill.config import ServedConfig
from d2skill.endpoints import (
    ChatClient,
    PromptTooLong,
    Reply,
    Room,
    check,
    connect,
    estimate_tokens,
    map_concurrently,
    one_line,
)
from d2skill.errors import EndpointFault, RunError
from d2skill.policies.answers import closing_tags, parse_action
from d2skill.policies.batching import decide_all
from d2skill.prompts import free_forms, render
from d2skill.types import Decision, Prompt, Row
from d2skill.utils.atomic_files import read_json, write_json
from d2skill.utils.foreign_files import parse_json
from d2skill.utils.foreign_text import logger
from d2skill.utils.text import storable

_FILE = "endpoint.json"
_FLAG = "--policy.served.endpoint"
_MOST_STOPS = 4  # that OpenAI's own service takes
_JSON = 'Answer in JSON, with the action in place of the dots: {"action": "..."}'
_MIN_FAILURES = 3
"""Least number of consecutive failed requests after which a server is taken to be gone"""
_log = logger(__name__)


class AnswerWatch:
    """Watch over a server's answers: logs one sentence for each thing that it does not do as asked, once."""

    def __init__(self, settings: ServedConfig) -> None:
        self._settings = settings
        self._logged: set[str] = set()
        self._lock = Lock()

    def see(self, reply: Reply, actions: int, kept: bool) -> None:
        """Looks at an answer; `actions` is the number of those that the server was to keep to, and `kept` if it did."""
        model, flag = self._settings.endpoint.model, "policy.served"
        if reply.finish_reason != "stop":
            self._log_once(
                "length",
                f"{model} did not end an answer within {flag}.answer_tokens {self._settings.answer_tokens}: a model "
                f"that thinks needs more, or {flag}.endpoint.thinking false",
            )
        elif actions and "json_schema" in reply.left_out:
            self._log_once(
                "schema",
                f"{model} refuses a JSON schema of {actions} actions, so that nothing holds its answers to them: a "
                f"server with structured output does, and {flag}.answer free asks in words",
            )
        elif actions and not kept:
            self._log_once(
                "enum",
                f'{model} was given the admissible actions as a JSON schema and answered "{one_line(reply.text)}": its '
                f"server does not keep to it; one with structured output does, and {flag}.answer free asks in words",
            )
        if reply.reasoning and self._settings.endpoint.thinking is False:
            self._log_once(
                "thinking",
                f"{model} thinks, though {flag}.endpoint.thinking is false: its server or template has no such switch; "
                f"see what it has for {flag}.endpoint.extra, such as reasoning_effort",
            )
        for name, effect in (("seed", "a run does not repeat"), ("temperature", "it samples with its own")):
            if name in reply.left_out:
                self._log_once(name, f"{model} refuses a {name} and is asked without: {effect}")

    def _log_once(self, kind: str, sentence: str) -> None:
        with self._lock:
            is_new = kind not in self._logged
            self._logged.add(kind)
        if is_new:
            _log.warning("%s", sentence)


class ServedSlots:
    """Implements `Slots` by concurrent requests to a server.

    There are twice as many slots as concurrent requests, so that the server is busy while answers are played. Requests
    run in daemon threads, which delay neither an interrupt nor the end of the program.
    """

    def __init__(self, chat: ChatClient, settings: ServedConfig, temperature: float, watch: AnswerWatch) -> None:
        """Makes slots without requests.

        Args:
            chat: Client of the model.
            settings: Settings of the policy.
            temperature: Sampling temperature.
            watch: Watch over the answers.
        """
        self.capacity = 2 * settings.endpoint.concurrency
        self._chat, self._settings, self._temperature, self._watch = chat, settings, temperature, watch
        self._requests: SimpleQueue[tuple[int, Prompt, int] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[int, Decision | BaseException]] = SimpleQueue()
        self._threads: list[Thread] = []
        self._running: set[int] = set()
        self._pending = self._finished = self._consecutive_failures = 0
        self._faults: list[EndpointFault] = []
        self._closed = False

    def submit(self, episode: int, prompt: Prompt, seed: int) -> None:
        """See Slots."""
        self._running.add(episode)
        self._pending += 1
        if len(self._threads) < min(self._pending, self._settings.endpoint.concurrency):
            self._threads.append(Thread(target=self._serve_requests, name="endpoint", daemon=True))
            self._threads[-1].start()
        self._requests.put((episode, prompt, seed))

    def collect(self) -> list[tuple[int, Decision]]:
        """See Slots. Raises `RunError` if the server is taken to be gone."""
        decisions: list[tuple[int, Decision]] = []
        while self._pending and not (decisions and self._results.empty()):
            episode, result = self._results.get()
            self._pending -= 1
            self._finished += 1
            if isinstance(result, EndpointFault):
                self._count_failure(result)
                result = Decision("", "", (), ())
            elif isinstance(result, BaseException):
                raise result
            else:
                self._consecutive_failures = 0
            decisions.append((episode, result))
        return decisions

    def release(self, episode: int) -> None:
        """See Slots."""
        self._running.discard(episode)

    def close(self) -> None:
        """See Slots. Logs how many requests failed."""
        self._closed = True
        for _ in self._threads:
            self._requests.put(None)
        if self._faults:
            counts = len(self._faults), self._finished, self._faults[0]
            _log.warning("%d of %d requests failed, the first with: %s", *counts)

    def _count_failure(self, fault: EndpointFault) -> None:
        self._faults.append(fault)
        self._consecutive_failures += 1
        if self._consecutive_failures >= max(_MIN_FAILURES, len(self._running)):
            fix = "check the server, then go on by `d2skill resume`"
            if isinstance(fault, PromptTooLong):
                fix = "serve it with a longer context, then `d2skill resume`, or begin with a lower prompt.max_tokens"
            raise RunError(
                f"{self._settings.endpoint.model} has not answered the last {self._consecutive_failures} prompts "
                f"({fault}): {fix}"
            )

    def _serve_requests(self) -> None:
        """Sends queued requests until the slots are closed; runs in a thread."""
        while (request := self._requests.get()) is not None and not self._closed:
            episode, prompt, seed = request
            try:
                self._results.put((episode, self._decide(prompt, seed)))
            except BaseException as error:
                self._results.put((episode, error))

    def _decide(self, prompt: Prompt, seed: int) -> Decision:
        sampling: dict[str, Any] = {"temperature": self._temperature, "seed": seed % 2**31}
        if self._settings.answer == "choice" and prompt.actions and not prompt.forms:
            return self._choose(prompt, sampling)
        forms = free_forms(prompt)
        stops = closing_tags(forms)[:_MOST_STOPS]
        sampling["stop"] = list(stops)
        reply = self._chat.complete(render(prompt), tokens=self._settings.answer_tokens, sampling=sampling)
        self._watch.see(reply, 0, True)
        text = _closed(reply.text, stops)
        return Decision(_with_reasoning(reply, text), parse_action(text, forms), reply.token_ids, reply.log_probs)

    def _choose(self, prompt: Prompt, sampling: Mapping[str, Any]) -> Decision:
        """Asks for one of the admissible actions, which a JSON schema lists.

        What the server answers is checked: not every server that takes a schema keeps to it.
        """
        actions = {storable(action): action for action in prompt.actions}
        properties = {"action": {"type": "string", "enum": list(actions)}}
        schema = {"type": "object", "properties": properties, "required": ["action"], "additionalProperties": False}
        messages = render(prompt, "choice")
        messages[-1]["content"] += f"\n\n{_JSON}"
        reply = self._chat.complete(
            messages, tokens=self._settings.answer_tokens, schema=schema, sampling={**sampling, "logprobs": True}
        )
        thought, end, answer = reply.text.rpartition("</think>")
        named = _named_action(answer, actions)
        self._watch.see(reply, len(actions), named in actions)
        text = f"{thought}{end}{actions.get(named, answer)}"
        return Decision(_with_reasoning(reply, text), actions.get(named, named), reply.token_ids, reply.log_probs)


def _closed(text: str, stops: Sequence[str]) -> str:
    """Returns a text with its last open tag closed, for a server leaves out the text at which it stops."""
    opened = {text.rfind(stop.replace("/", "")): stop for stop in stops}
    last = max(opened)
    return text if last < 0 or opened[last] in text[last:] else text + opened[last]


def _with_reasoning(reply: Reply, text: str) -> str:
    """Returns a text after the reasoning that the server sent apart from it, if any, as a thought."""
    return f"<think>{reply.reasoning}</think>{text}" if reply.reasoning else text


def _named_action(answer: str, actions: Container[str]) -> str:
    """Returns the action that an answer names in a JSON object or in tags, or is if it is one of `actions`; else ""."""
    for text in (answer, answer[answer.find("{") : answer.rfind("}") + 1]):
        try:
            action = parse_json(text)["action"]
        except (ValueError, LookupError, TypeError):
            continue
        if isinstance(action, str):
            return storable(action)
    alone = answer.strip()
    return alone if alone in actions else parse_action(answer)


class ServedPolicy:
    """Implements `Policy` by requests to a server.

    Answers are free text with the action in tags, or JSON that the server holds to the admissible actions. A
    state without listed actions gets free text in any case. Reasoning is kept in the text of the decision and not
    searched for an action. Log-probabilities, if the server sends them, are those that the model gave the tokens
    before anything was ruled out; an unknown token id is -1.

    A run repeats only as far as the server answers the same to the same seed. A request that fails, after all
    retries, gives an empty answer, which counts as an inadmissible action.
    """

    def __init__(self, settings: ServedConfig, prompt_tokens: int = 0) -> None:
        """Connects to the server and compares what it says with the settings; prompts have `prompt_tokens` at most.

        Raises `ConfigError` if the server cannot be reached or does not know the model.
        """
        self._settings = settings
        client = connect(settings.endpoint, _FLAG)
        room = Room(prompt_tokens, settings.answer_tokens, "prompt.max_tokens", "policy.served.answer_tokens")
        check(client, settings.endpoint, _FLAG, room=room)
        self._chat = ChatClient(client, settings.endpoint)
        self._watch = AnswerWatch(settings)

    def count_tokens(self, text: str) -> int:
        """Returns an estimate of the tokens of a text, rather too high."""
        return estimate_tokens(text)

    def slots(self, temperature: float) -> ServedSlots:
        """See SupportsSlots."""
        return ServedSlots(self._chat, self._settings, temperature, self._watch)

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """See Policy. Raises `RunError` if the server is taken to be gone."""
        with closing(self.slots(temperature)) as slots:
            return decide_all(slots, prompts, seeds)

    def generate_chat(self, chats: Sequence[Sequence[dict[str, str]]], tokens: int) -> list[str]:
        """See SupportsChat. A request that fails gives an empty answer."""

        def ask(messages: Sequence[dict[str, str]]) -> str:
            try:
                return self._chat.complete(messages, tokens=tokens, sampling={"temperature": 0.0}).text
            except EndpointFault:
                return ""

        return map_concurrently(ask, chats, self._settings.endpoint.concurrency)

    def update(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        """Does nothing: a served model does not learn."""
        return {}

    def imitate(self, demonstrations: Sequence[tuple[Prompt, str]], seed: int) -> dict[str, float]:
        """Does nothing: a served model does not learn."""
        return {}

    def freeze_reference(self) -> None:
        """Does nothing: there is no reference policy without an update."""

    def save(self, folder: Path) -> None:
        """Writes the names of model and server."""
        write_json(folder / _FILE, {"model": self._settings.endpoint.model, "url": self._settings.endpoint.url})

    def load(self, folder: Path) -> None:
        """Raises `RunError` if `save` was called for another model."""
        saved = read_json(folder / _FILE)
        if saved.get("model") != self._settings.endpoint.model:
            raise RunError(
                f"{folder} is of the model {saved.get('model')}, not of {self._settings.endpoint.model}: "
                "a run goes on with the model that it began with"
            )
