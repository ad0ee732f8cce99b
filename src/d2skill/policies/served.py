"""A policy behind an OpenAI-compatible server (vLLM, SGLang, Ollama, a cloud): it acts and does not learn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from d2skill.config import ServedConfig
from d2skill.endpoints import Chat, check, connect, each, estimate
from d2skill.errors import EndpointFault, RunError
from d2skill.policies.batching import decide
from d2skill.prompts import parse_action, render
from d2skill.types import Decision, Prompt, Row
from d2skill.utils.atomic_files import read_json, write_json

_FILE = "endpoint.json"
_FLAG = "--policy.served.endpoint"
_CLOSING = "</action>"
_MISSES = 3
"""Answers in a row that cannot be had, at least, before a server is taken to be gone"""
_log = logging.getLogger(__name__)


class ServedSlots:
    """Implements `Slots` by requests that are on their way at the same time.

    There are twice as many places as requests, so that the server is busy while answers are played. The threads hold
    up neither an interrupt nor the end of the program.
    """

    def __init__(self, chat: Chat, settings: ServedConfig, temperature: float) -> None:
        self.capacity = 2 * settings.endpoint.concurrency
        self._chat, self._settings, self._temperature = chat, settings, temperature
        self._asked: SimpleQueue[tuple[int, Prompt, int] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[int, Decision | BaseException]] = SimpleQueue()
        self._threads: list[Thread] = []
        self._held: set[int] = set()
        self._waiting = self._answered = self._in_a_row = 0
        self._faults: list[EndpointFault] = []
        self._over = False

    def submit(self, episode: int, prompt: Prompt, seed: int) -> None:
        """See Slots."""
        self._held.add(episode)
        self._waiting += 1
        if len(self._threads) < min(self._waiting, self._settings.endpoint.concurrency):
            self._threads.append(Thread(target=self._work, name="endpoint", daemon=True))
            self._threads[-1].start()
        self._asked.put((episode, prompt, seed))

    def collect(self) -> list[tuple[int, Decision]]:
        """See Slots; raises `RunError` if none can be had any more."""
        found: list[tuple[int, Decision]] = []
        while self._waiting and not (found and self._answers.empty()):
            episode, answer = self._answers.get()
            self._waiting -= 1
            self._answered += 1
            if isinstance(answer, EndpointFault):
                self._miss(answer)
                answer = Decision("", "", (), ())
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self._in_a_row = 0
            found.append((episode, answer))
        return found

    def release(self, episode: int) -> None:
        """See Slots."""
        self._held.discard(episode)

    def close(self) -> None:
        """See Slots; says how many answers could not be had."""
        self._over = True
        for _ in self._threads:
            self._asked.put(None)
        if self._faults:
            missed = len(self._faults), self._answered, self._faults[0]
            _log.warning("%d of %d answers could not be had, first: %s", *missed)

    def _miss(self, fault: EndpointFault) -> None:
        self._faults.append(fault)
        self._in_a_row += 1
        if self._in_a_row >= max(_MISSES, len(self._held)):
            raise RunError(
                f"{self._settings.endpoint.model} answers none of {self._in_a_row} prompts any more ({fault}): "
                "see to the server, then go on by `d2skill resume`"
            )

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None and not self._over:
            episode, prompt, seed = asked
            try:
                self._answers.put((episode, self._decide(prompt, seed)))
            except BaseException as error:
                self._answers.put((episode, error))

    def _decide(self, prompt: Prompt, seed: int) -> Decision:
        sampling = {"temperature": self._temperature, "seed": seed % 2**31, "stop": [_CLOSING]}
        text = self._chat.ask(render(prompt), tokens=self._settings.answer_tokens, sampling=sampling).text
        if "<action>" in text.rpartition(_CLOSING)[2]:
            text += _CLOSING  # where it stopped
        return Decision(text, parse_action(text), (), ())


class ServedPolicy:
    """Implements `Policy` by asking a model; answers think and then act, as free ones of a language model do.

    What a server answers to the same seed is its own affair, so runs with it repeat as far as the server does. An
    answer that cannot be had, after all retries, is an empty one, and counts as an inadmissible action.
    """

    def __init__(self, settings: ServedConfig) -> None:
        """Raises `ConfigError` if the server cannot be reached or does not know the model."""
        self._settings = settings
        client = connect(settings.endpoint, _FLAG)
        check(client, settings.endpoint, _FLAG)
        self._chat = Chat(client, settings.endpoint)

    def count_tokens(self, text: str) -> int:
        """Returns about how many tokens a text is; rather too many."""
        return estimate(text)

    def slots(self, temperature: float) -> ServedSlots:
        """See SupportsSlots."""
        return ServedSlots(self._chat, self._settings, temperature)

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """Asks for one answer to each prompt, some at a time; raises `RunError` if none at all can be had."""
        with closing(self.slots(temperature)) as slots:
            return decide(slots, prompts, seeds)

    def generate_chat(self, chats: Sequence[Sequence[dict[str, str]]], tokens: int) -> list[str]:
        """See SupportsChat; an answer that cannot be had is an empty one."""

        def ask(messages: Sequence[dict[str, str]]) -> str:
            try:
                return self._chat.ask(messages, tokens=tokens, sampling={"temperature": 0.0}).text
            except EndpointFault:
                return ""

        return each(ask, chats, self._settings.endpoint.concurrency)

    def update(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        """Learns nothing."""
        return {}

    def imitate(self, demonstrations: Sequence[tuple[Prompt, str]], seed: int) -> dict[str, float]:
        """Learns nothing."""
        return {}

    def freeze_reference(self) -> None:
        """Does nothing: there is no reference without an update."""

    def save(self, folder: Path) -> None:
        """Writes which model it is."""
        write_json(folder / _FILE, {"model": self._settings.endpoint.model, "url": self._settings.endpoint.url})

    def load(self, folder: Path) -> None:
        """Raises `RunError` if `save` was called for another model."""
        saved = read_json(folder / _FILE)
        if saved.get("model") != self._settings.endpoint.model:
            raise RunError(
                f"{folder} is of the model {saved.get('model')}, not of {self._settings.endpoint.model}: "
                "a run goes on with the model that it began with"
            )
