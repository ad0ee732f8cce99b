"""Models behind an OpenAI-compatible server: how one is reached, whether it answers, and how it is asked.

`connect` and `check` find what is wrong before any work is done. `Chat` asks, with retries. Nothing a server sends is
trusted to end: a body is read up to a length and for as long as a request may take.
"""

from d2skill.endpoints.chat_client import Chat, Message, Reply, each, estimate, plain
from d2skill.endpoints.connect import OPENAI, check, connect

__all__ = ["OPENAI", "Chat", "Message", "Reply", "check", "connect", "each", "estimate", "plain"]
