"""Base class of all settings, and the settings of a model behind a server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from d2skill.config.parts import Table

_REQUEST_FIELDS = "model messages input stream n max_tokens max_completion_tokens".split()


class ShortFlag(str):
    """Another name for the flag of a setting, such as --env for --env.kind; stands in its `Annotated`."""


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EndpointConfig(Settings):
    """A model behind an OpenAI-compatible server, on this machine or elsewhere."""

    model: str = ""
    """Name of the model there"""
    url: str | None = None
    """Base URL of the server, such as http://localhost:8000/v1; without one, OpenAI's own"""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable with the key, which is never written anywhere; a local server needs none. If variable or
    host are from a file, such as the settings of a run, the key is sent only with a line like
    "models.example".MY_KEY = true in ~/.config/d2skill/keys.toml"""
    timeout: float = Field(60, gt=0, le=86_400)
    """Seconds that a request may take, with all its retries and their waits"""
    retries: int = Field(4, ge=0, le=100)
    """Times that a request is sent again when the server is busy, fails or hangs up, after longer and longer waits"""
    concurrency: int = Field(8, ge=1, le=256)
    """Requests at a time"""
    extra: Table = Field({})
    """More fields of each request, as the server has them, such as top_p or reasoning_effort; also one by one, as in
    --reflect.endpoint.extra.top_p 0.9"""
    thinking: bool | None = None
    """Thinking before the answer, sent as chat_template_kwargs.enable_thinking, which vLLM, SGLang and llama.cpp take;
    without a value the server decides"""

    @field_validator("key_env")
    @classmethod
    def _key_env_is_a_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):  # the value may be a key, so it is not quoted
            raise ValueError(
                "key_env is the name of an environment variable, such as OPENAI_API_KEY, not the key itself"
            )
        return name

    @model_validator(mode="after")
    def _extra_is_free(self) -> EndpointConfig:
        refuse_fields(self.extra, _REQUEST_FIELDS, "each request has its own")
        template = self.extra.get("chat_template_kwargs", {})
        if self.thinking is not None and not (isinstance(template, dict) and "enable_thinking" not in template):
            raise ValueError(
                "an endpoint has thinking and extra.chat_template_kwargs, which says the same: leave one out"
            )
        return self

    @property
    def request_fields(self) -> dict[str, Any]:
        """Additional fields of each request: `extra`, and the switch of `thinking`."""
        if self.thinking is None:
            return dict(self.extra)
        template: Any = self.extra.get("chat_template_kwargs", {})
        return self.extra | {"chat_template_kwargs": template | {"enable_thinking": self.thinking}}


def refuse_fields(extra: Mapping[str, Any], names: Iterable[str], reason: str) -> None:
    """Raises `ValueError` for the first of some names that a table of additional fields has."""
    if name := next((name for name in names if name in extra), ""):
        raise ValueError(f"the extra field {name} of an endpoint cannot be set ({reason}): leave it out")
