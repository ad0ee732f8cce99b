"""Policy behind an OpenAI-compatible server (vLLM, SGLang, Ollama, a cloud service): it acts and does not learn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from d2skill.config import ServedConfig
from d2skill.endpoints import ChatClient, check, connect, estimate_tokens, map_concurrently
from d2skill.errors import EndpointFault, RunError
from d2skill.policies.batching import decide_all
from d2skill.prompts import parse_action, render
from d2skill.types import Decision, Prompt, Row
from d2skill.utils.atomic_files import read_json, write_json

_FILE = "endpoint.json"
_FLAG = "--policy.served.endpoint"
_CLOSING = "</action>"
_MIN_FAILURES = 3
"""Least number of consecutive failed requests after which a server is taken to be gone"""
_log = logging.getLogger(__name__)


class ServedSlots:
    """Implements `Slots` by concurrent requests to a server.

    There are twice as many slots as concurrent requests, so that the server is busy while answers are played. Requests
    run in daemon threads, which delay neither an interrupt nor the end of the program.
    """

    def __init__(self, chat: ChatClient, settings: ServedConfig, temperature: float) -> None:
        self.capacity = 2 * settings.endpoint.concurrency
        self._chat, self._settings, self._temperature = chat, settings, temperature
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
            raise RunError(
                f"{self._settings.endpoint.model} has not answered the last {self._consecutive_failures} prompts "
                f"({fault}): check the server, then go on by `d2skill resume`"
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
        sampling = {"temperature": self._temperature, "seed": seed % 2**31, "stop": [_CLOSING]}
        text = self._chat.complete(render(prompt), tokens=self._settings.answer_tokens, sampling=sampling).text
        if "<action>" in text.rpartition(_CLOSING)[2]:
            text += _CLOSING  # a server leaves out the text at which it stops
        return Decision(text, parse_action(text), (), ())


class ServedPolicy:
    """Implements `Policy` by requests to a server; answers are free text with the action in <action> tags.

    A run repeats only as far as the server answers the same to the same seed. A request that fails, after all
    retries, gives an empty answer, which counts as an inadmissible action.
    """

    def __init__(self, settings: ServedConfig) -> None:
        """Raises `ConfigError` if the server cannot be reached or does not know the model."""
        self._settings = settings
        client = connect(settings.endpoint, _FLAG)
        check(client, settings.endpoint, _FLAG)
        self._chat = ChatClient(client, settings.endpoint)

    def count_tokens(self, text: str) -> int:
        """Returns an estimate of the tokens of a text, rather too high."""
        return estimate_tokens(text)

    def slots(self, temperature: float) -> ServedSlots:
        """See SupportsSlots."""
        return ServedSlots(self._chat, self._settings, temperature)

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
