"""Clients of models behind an OpenAI-compatible server.

`connect` and `check` find mistakes before any work is done, and compare what a server says with what a run assumes.
`ChatClient` asks for answers, with retries. No server is trusted: a body is read up to a length, a request with all its
retries ends in time (`time_limit`), redirects to other servers are not followed, and a key that is quoted is masked
(`limited_http`).
"""

from d2skill.endpoints.chat_client import (
    ChatClient,
    Message,
    PromptTooLong,
    Reply,
    estimate_tokens,
    map_concurrently,
    one_line,
    with_retries,
)
from d2skill.endpoints.connect import OPENAI, check, connect
from d2skill.endpoints.served_model import Room

__all__ = [
    "OPENAI",
    "ChatClient",
    "Message",
    "PromptTooLong",
    "Reply",
    "Room",
    "check",
    "connect",
    "estimate_tokens",
    "map_concurrently",
    "one_line",
    "with_retries",
]
