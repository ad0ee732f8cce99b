"""Base class of all settings, and the settings of a model behind a server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
    """Environment variable with the key, which is never written anywhere; a local server needs none"""
    timeout: float = Field(60, gt=0)
    """Seconds that a request may take"""
    retries: int = Field(4, ge=0)
    """Times that a request is sent again when the server is busy, fails or hangs up, after longer and longer waits"""
    concurrency: int = Field(8, ge=1, le=256)
    """Requests at a time"""
