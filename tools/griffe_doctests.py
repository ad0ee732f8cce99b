"""Extension of griffe, which reads docstrings for the docs site: doctests become code blocks."""

import re
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Fences the doctests of every docstring; by itself griffe does so only below a title `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Changes the docstring of an object that has been read."""
        if obj.docstring:
            fenced = re.sub(r"^>>> .+(?:\n.+)*", r"```pycon\n\g<0>\n```", obj.docstring.value, flags=re.M)
            obj.docstring.value = fenced
