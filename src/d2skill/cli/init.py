"""Command `init`: writes a part of one's own to start from, and its test."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from functools import partial
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from d2skill.cli.bank.tables import say
from d2skill.cli.output import Output
from d2skill.errors import ConfigError

_TEST = '''"""{name}: the contract of {a_part}, as `d2skill check-{command} {name}:{cls}` checks it."""

from {name} import {cls}

from d2skill.testing import assert_sound, check_{part}


def test_it_keeps_the_contract():
    assert_sound(check_{part}({cls}()))
'''


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """A tiny part of `d2skill.testing` that a part of one's own begins as; `use` is the command line with it."""

    part: str
    use: str


_TINY = "--env d2skill.testing:TinyEnvironment --train.iterations 10"  # it is learned in less than a minute

_SKELETONS = {
    "env": _Skeleton("environment", "d2skill train --env {kind} --train.iterations 10"),
    "policy": _Skeleton("policy", f"d2skill train {_TINY} --policy {{kind}}"),
    "reflector": _Skeleton("reflector", f"d2skill train {_TINY} --reflect.kind {{kind}}"),
    "embedder": _Skeleton("embedder", f"d2skill train {_TINY} --embedder.kind {{kind}}"),
    "tracker": _Skeleton("tracker", f"d2skill train {_TINY} --track {{kind}}"),
}


def init(
    part: Positional[Literal["env", "policy", "reflector", "embedder", "tracker"]],
    name: Annotated[Positional[str], tyro.conf.arg(metavar="NAME")],
) -> Output:
    """Write a part of your own that works, to start from, and its test into the current folder.

    Args:
        part: Type of part.
        name: Name of the module, as in my_policy: writes my_policy.py with the class MyPolicy, and test_my_policy.py.
    """
    _require_free(name)
    cls, chosen = "".join(word[:1].upper() + word[1:] for word in name.split("_")), _SKELETONS[part]
    kind, tiny = f"{name}:{cls}", f"Tiny{chosen.part.capitalize()}"
    source = resources.files("d2skill.testing").joinpath(f"tiny_{chosen.part}.py").read_text("utf-8")
    source = re.sub(r"\bTiny(?=[A-Z])", cls, re.sub(rf"\b{tiny}\b", cls, source)).replace("tiny-embedder", name)
    a_part = f"a{'n' * (chosen.part[0] in 'ae')} {chosen.part}"
    texts = {
        f"{name}.py": source,
        f"test_{name}.py": _TEST.format(name=name, cls=cls, part=chosen.part, a_part=a_part, command=part),
    }
    for file in texts:
        if Path(file).exists():
            raise ConfigError(f"{file} exists, and nothing is overwritten: choose another name")
    for file, text in texts.items():
        with Path(file).open("x", encoding="utf-8") as opened:
            opened.write(text)
    steps = [f"d2skill check-{part} {kind}", f"pytest test_{name}.py", chosen.use.format(kind=kind)]
    told = f"Written: {' and '.join(texts)}. Change {name}.py, and see what it does:\n  " + "\n  ".join(steps)
    if find_spec("pytest") is None:
        told += "\nThe test needs pytest: pip install pytest"
    return Output({"files": list(texts), "kind": kind, "next": steps}, partial(say, told))


def _require_free(name: str) -> None:
    """Raises `ConfigError` for a name that no module of one's own can have."""
    if not name.isidentifier() or keyword.iskeyword(name) or not name[0].isalpha():
        guess = re.sub(r"\W+", "_", name.removesuffix(".py")).strip("_").lower()
        raise ConfigError(f"{name} is no name of a module: use letters, digits and _, as in {guess or 'my_part'}")
    if not Path(f"{name}.py").exists() and find_spec(name) is not None:
        raise ConfigError(f"there is a module {name} already, and one hides the other: choose another name")
