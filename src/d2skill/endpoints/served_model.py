"""Comparison of what a server says about its model with what a run assumes: the model's name and its context.

A server that says nothing is believed. What may be right is logged as a warning, what cannot be is a `ConfigError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from d2skill.endpoints.chat_client import one_line
from d2skill.endpoints.time_limit import time_limit
from d2skill.errors import ConfigError
from d2skill.utils.foreign_text import logger

if TYPE_CHECKING:
    from openai import OpenAI

_log = logger(__name__)
_SECONDS = 5.0  # for a question that a server need not answer
_OLLAMA = "library"
_LLAMA_CPP = "llamacpp"
_LM_STUDIO = "organization_owner"
_LEAST_PROMPT = 500  # tokens, for a prompt that says enough
_OLLAMA_CONTEXT = 4096  # without a setting, on a machine without a large GPU


@dataclass(frozen=True, slots=True)
class Room:
    """Tokens that a run wants for a prompt and its answer, and the names of the settings that say so."""

    prompt: int
    answer: int
    prompt_setting: str
    answer_setting: str


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One model of a server's list: its names, the server's kind ("owned_by"), and its context if the list says it."""

    names: tuple[str, ...]
    owner: str
    context: int | None


def list_models(client: OpenAI) -> list[ListedModel]:
    """Returns the models that the server lists; none if it has no such route or another format."""
    import openai

    try:
        listed = json.loads(client.models.with_raw_response.list().http_response.text)["data"]
        return [_listed(model) for model in listed if isinstance(model["id"], str)]
    except (openai.NotFoundError, openai.BadRequestError, ValueError, KeyError, TypeError, RecursionError):
        return []
    except openai.APIStatusError as error:
        if error.status_code in (405, 501):
            return []
        raise


def compare_name(url: str, flag: str, wanted: str, answered: str, listed: Sequence[ListedModel]) -> None:
    """Compares the name of a model that is not listed with the name by which the server has answered.

    Args:
        url: Base URL of the server.
        flag: Name of the endpoint's settings on the command line.
        wanted: Name that the settings have.
        answered: Name in the server's answer, "" if it had none.
        listed: Models in the server's list.

    Raises `ConfigError` for llama.cpp, which answers to every name, if the names have nothing in common.
    """
    if not answered or answered.startswith(wanted):
        return
    plain, other = (re.sub(r"[\W_]", "", name.rpartition("/")[2].lower()) for name in (wanted, answered))
    fix = f"set {flag}.model {one_line(answered)}"
    if any(model.owner == _LLAMA_CPP for model in listed) and plain not in other and other not in plain:
        raise ConfigError(
            f'{url} has no model "{wanted}": llama.cpp answers to every name with its own model, '
            f"{one_line(answered)}; {fix}, or serve the other one"
        )
    _log.warning('%s lists no model "%s" and answers with %s: if that is another one, %s', url, wanted, answered, fix)


def compare_context(client: OpenAI, url: str, model: str, listed: Sequence[ListedModel], room: Room) -> None:
    """Compares the context that a server has for a model with the room that a run wants.

    Args:
        client: Client of the server.
        url: Base URL of the server.
        model: Name of the model.
        listed: Models in the server's list.
        room: Tokens of the longest prompt and answer.

    Raises `ConfigError` if even the answer alone does not fit.
    """
    entry = next((one for one in listed if model in one.names), listed[0] if len(listed) == 1 else None)
    if entry is None:
        return
    context = _asked_context(client, url.rstrip("/").removesuffix("/v1"), model, entry) or entry.context
    if context is None:
        if entry.owner == _OLLAMA and room.prompt + room.answer > _OLLAMA_CONTEXT:
            _log.warning(
                "%s is Ollama, which cuts prompts to its context without saying so, on most machines to %d tokens, and "
                "this run may send %d: start it with OLLAMA_CONTEXT_LENGTH=%d",
                *(url, _OLLAMA_CONTEXT, room.prompt + room.answer, room.prompt + room.answer),
            )
        return
    if context <= room.answer:
        raise ConfigError(
            f"{url} has a context of {context:,} tokens for {model}, and {room.answer_setting} alone is "
            f"{room.answer:,}: serve it with a longer context, or set {room.answer_setting} lower"
        )
    if context < room.prompt + room.answer:
        left = context - room.answer
        _log.warning(
            "%s has a context of %s tokens for %s, but %s is %s and %s %s: longer prompts are %s; serve it with a "
            "longer context%s",
            *(url, f"{context:,}", model, room.prompt_setting, f"{room.prompt:,}", room.answer_setting),
            *(f"{room.answer:,}", "cut without a word" if entry.owner == _OLLAMA else "refused"),
            f", or set {room.prompt_setting} to {left}" if left >= _LEAST_PROMPT else "",
        )


def _listed(model: Mapping[str, Any]) -> ListedModel:
    """Returns an entry of a list of models: vLLM, SGLang, llama.cpp and some cloud services say the context there."""
    aliases, meta = model.get("aliases"), model.get("meta")
    sources = [meta if isinstance(meta, dict) else {}, model]
    fields = ("n_ctx", "max_model_len", "context_length", "context_window", "max_context_length")
    contexts = [_whole(source.get(name)) for source in sources for name in fields]
    names = (model["id"], *(name for name in (aliases if isinstance(aliases, list) else []) if isinstance(name, str)))
    return ListedModel(names, str(model.get("owned_by", "")), next(filter(None, contexts), None))


def _asked_context(client: OpenAI, root: str, model: str, entry: ListedModel) -> int | None:
    """Returns the context from a route of the server's own; None if it does not say."""
    if entry.owner == _LLAMA_CPP and entry.context is None:
        return _whole(_dig(_ask(client, f"{root}/props"), "default_generation_settings", "n_ctx"))
    if entry.owner == _LM_STUDIO:
        models = _dig(_ask(client, f"{root}/api/v0/models"), "data")
        return _context_in(models, "id", model, "loaded_context_length")
    if entry.owner == _OLLAMA:
        loaded = _context_in(_dig(_ask(client, f"{root}/api/ps"), "models"), "name", model, "context_length")
        if loaded is None:
            parameters = _dig(_ask(client, f"{root}/api/show", {"model": model}), "parameters")
            found = re.search(
                r"^num_ctx\s+(\d{1,9})\b", parameters if isinstance(parameters, str) else "", re.MULTILINE
            )
            loaded = _whole(int(found[1])) if found else None
        return loaded
    return None


def _ask(client: OpenAI, url: str, body: Mapping[str, Any] | None = None) -> Any:
    """Returns the JSON at a URL of the server, None if there is none."""
    import openai

    short = client.with_options(max_retries=0, timeout=_SECONDS)
    try:
        with time_limit(_SECONDS):
            return short.get(url, cast_to=object) if body is None else short.post(url, body=body, cast_to=object)
    except (openai.OpenAIError, OSError, ValueError, RecursionError):
        return None


def _context_in(models: Any, key: str, model: str, field: str) -> int | None:
    """Returns a field of the entry of a list whose key is the model, or the model in its latest version."""
    entries = models if isinstance(models, list) else []
    return next((_whole(_dig(one, field)) for one in entries if _dig(one, key) in (model, f"{model}:latest")), None)


def _dig(value: Any, *names: str) -> Any:
    """Returns a nested value of a JSON object, None if it is not there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value < 10**9 else None
