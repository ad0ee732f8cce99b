"""The terminal of commands: nothing that is printed to it can steer it, and no bracket in it is markup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from d2skill.utils.foreign_text import visible


class Terminal(Console):
    """A console of rich that shows every text as it is; styles come by `Text`, tables and the like alone."""

    def __init__(self, **options: Any) -> None:
        """Makes a console from options of `Console`, such as stderr=True."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """See Console: strings become visible before their widths are measured."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Any]:
        """See Console: whatever else comes is made visible as the last thing; only rich's own control codes are not."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
