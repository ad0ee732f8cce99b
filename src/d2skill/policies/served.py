"""A policy behind an OpenAI-compatible server (vLLM, SGLang, Ollama, a cloud): it acts and does not learn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from d2skill.config import ServedConfig
from d2skill.endpoints import Chat, check, connect, each, estimate
from d2skill.errors import EndpointFault, RunError
from d2skill.files import read_json, write_json
from d2skill.prompts import parse_action, render
from d2skill.types import Decision, Prompt, Row

_FILE = "endpoint.json"
_FLAG = "--policy.served.endpoint"
_CLOSING = "</action>"
_log = logging.getLogger(__name__)


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

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """Asks for one answer to each prompt, some at a time; raises `RunError` if none at all can be had."""
        asked = list(zip(prompts, seeds, strict=True))
        faults: list[EndpointFault] = []

        def decide(question: tuple[Prompt, int]) -> Decision:
            prompt, seed = question
            sampling = {"temperature": temperature, "seed": seed % 2**31, "stop": [_CLOSING]}
            try:
                reply = self._chat.ask(render(prompt), tokens=self._settings.answer_tokens, sampling=sampling)
            except EndpointFault as fault:
                faults.append(fault)
                return Decision("", "", (), ())
            text = reply.text
            if "<action>" in text.rpartition(_CLOSING)[2]:
                text += _CLOSING  # where it stopped
            return Decision(text, parse_action(text), (), ())

        decisions = each(decide, asked, self._settings.endpoint.concurrency)
        if faults and len(faults) == len(asked):
            raise RunError(
                f"{self._settings.endpoint.model} answers none of {len(asked)} prompts any more ({faults[0]}): "
                "see to the server, then go on by `d2skill resume`"
            )
        if faults:
            _log.warning("%d of %d answers could not be had, first: %s", len(faults), len(asked), faults[0])
        return decisions

    def write(self, chats: Sequence[Sequence[dict[str, str]]], tokens: int) -> list[str]:
        """See Writes; an answer that cannot be had is an empty one."""

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
