"""Chat template of a tokenizer, probed once before it is used.

A template is a program that came with a model. It is rendered on small examples, and what they show decides:
- the date of today is pinned to a fixed one, or every prompt would change at midnight;
- without a system role, the text of a system message goes in front of the first message of the user;
- the answer begins where the template itself writes answers: behind a thought, which is closed, and in the channel that
  the user sees;
- the ending of an answer is all that the template writes behind it, be it a special token or plain text.
A template that does not show a message of the user is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from jinja2.exceptions import TemplateError

from d2skill.errors import ConfigError
from d2skill.utils.foreign_text import logger

PINNED_DATE = datetime(2025, 1, 1)
"""The date that templates are given as that of today."""
_OTHER_DATE = datetime(2031, 11, 23)
_CLOCK = "strftime_now"
"""Name of the function by which templates of Transformers ask for the time."""
_QUESTION, _ANSWER, _SYSTEM = "Which way, please?", "Northwards", "Be brief, friend."
_OPEN_THOUGHT = re.compile(r"(?:<(\|?[^<>/|\s]*think[^<>|\s]*\|?)>|\[(THINK)\])\s*\Z", re.IGNORECASE)
_log = logger(__name__)

Message = dict[str, str]


class ChatTemplate:
    """Renders chats by the chat template of a tokenizer.

    `opening` is appended to a prompt, so that what follows is the answer itself; `ending` is the text that the template
    puts behind an answer. Raises ConfigError for a template that fails, or that does not show what the user says.
    """

    def __init__(self, tokenizer: Any, name: str = "policy.lm.model") -> None:
        self._tokenizer, self._name = tokenizer, name
        self._parts = False
        self._template = str(tokenizer.get_chat_template())
        question: Message = {"role": "user", "content": _QUESTION}
        prompt = self._show(question)
        if self._render([question], date=_OTHER_DATE) != prompt:
            _report_pinned_date(name)
        self._has_system = self._shows_system(question)
        chat = self._rendered_chat(question)
        self.opening = _closing_of_thought(prompt)
        self.ending = ""
        if chat:
            before, _, self.ending = chat.rpartition(_ANSWER)
            between = before.removeprefix(prompt)
            if before.startswith(prompt) and between.strip():
                self.opening = between  # the closed thought or the channel, as the template writes it

    def render(self, messages: Sequence[Message]) -> str:
        """Returns the text of a chat, up to the beginning of the answer."""
        return self._render(self._without_system(messages)) + self.opening

    def _show(self, question: Message) -> str:
        """Returns the rendered question; messages become lists of parts if the template shows them only so."""
        problem = "it does not show what the user says"
        for self._parts in (False, True):
            try:
                prompt = self._render([question])
            except (TemplateError, TypeError, ValueError, KeyError) as error:
                problem = str(error).strip().partition("\n")[0] or type(error).__name__
                continue
            if _QUESTION in prompt:
                return prompt
        raise ConfigError(
            f'the chat template of "{self._name}" cannot be used ({problem}): use another model, or put another '
            "chat_template.jinja into its folder"
        )

    def _shows_system(self, question: Message) -> bool:
        try:
            return _SYSTEM in self._render([{"role": "system", "content": _SYSTEM}, question])
        except (TemplateError, TypeError, ValueError, KeyError):
            return False

    def _rendered_chat(self, question: Message) -> str:
        """Returns the question and its answer, rendered; "" if the template shows no answers."""
        try:
            chat = self._render([question, {"role": "assistant", "content": _ANSWER}], add_generation_prompt=False)
        except (TemplateError, TypeError, ValueError, KeyError):
            return ""
        return chat if _ANSWER in chat else ""

    def _without_system(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Returns messages without a system message if the template has none, its text in front of the next one."""
        if self._has_system or len(messages) < 2 or messages[0]["role"] != "system":
            return messages
        system, first, *rest = messages
        return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]

    def _render(
        self, messages: Sequence[Message], date: datetime = PINNED_DATE, add_generation_prompt: bool = True
    ) -> str:
        chat: list[dict[str, Any]] = [dict(message) for message in messages]
        pinned = {"chat_template": _dated(self._template, date)} if _CLOCK in self._template else {}
        if self._parts:
            chat = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in chat]
        return str(
            self._tokenizer.apply_chat_template(
                chat,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=False,
                **pinned,
            )
        )


def _dated(template: str, date: datetime) -> str:
    """Returns a template whose clock shows a date, by a macro in front of it that takes the place of the clock."""
    codes = [f"%{code}" for code in "aAbBdmyYHIMSpjxXcDF"]
    texts = {code: date.strftime(code) for code in codes} | {"%-d": str(date.day), "%-m": str(date.month)}
    replaced = "".join(f"|replace({code!r}, {text!r})" for code, text in texts.items())
    return f"{{%- macro {_CLOCK}(format) -%}}{{{{- format{replaced} -}}}}{{%- endmacro -%}}{template}"


@cache
def _report_pinned_date(name: str) -> None:
    """Logs, once in a process, that a template is given a fixed date."""
    _log.warning('the chat template of "%s" shows the date of today: it is always given %s', name, PINNED_DATE.date())


def _closing_of_thought(prompt: str) -> str:
    """Returns what closes a thought that the end of a prompt opens, "" if it opens none."""
    found = _OPEN_THOUGHT.search(prompt)
    if found is None:
        return ""
    tag, bracket = found.groups()
    if bracket:
        return f"[/{bracket}]"
    closing = tag.replace("START", "END").replace("start", "end") if "start" in tag.lower() else f"/{tag}"
    return f"\n<{closing}>\n\n"
