"""Clients of models behind an OpenAI-compatible server.

`connect` and `check` find mistakes before any work is done, and compare what a server says with what a run assumes.
`ChatClient` asks for answers, with retries. No server is trusted to end an answer: a body is read up to a length, and
for as long as a request may take.
"""

from d2skill.endpoints.chat_client import (
    ChatClient,
    Message,
    PromptTooLong,
    Reply,
    estimate_tokens,
    map_concurrently,
    one_line,
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
]
