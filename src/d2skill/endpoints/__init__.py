"""Clients of models behind an OpenAI-compatible server.

`connect` and `check` find mistakes before any work is done. `ChatClient` asks for answers, with retries. No server is
trusted to end an answer: a body is read up to a length, and for as long as a request may take.
"""

from d2skill.endpoints.chat_client import ChatClient, Message, Reply, estimate_tokens, map_concurrently, one_line
from d2skill.endpoints.connect import OPENAI, check, connect

__all__ = [
    "OPENAI",
    "ChatClient",
    "Message",
    "Reply",
    "check",
    "connect",
    "estimate_tokens",
    "map_concurrently",
    "one_line",
]
