"""Settings from presets and TOML files, and back to TOML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from d2skill.config import Config
from d2skill.config.key_hosts import note_foreign
from d2skill.errors import ConfigError
from d2skill.utils.foreign_files import MOST_TOML, parse_toml, read_bytes, reason_of
from d2skill.utils.text import short


def presets() -> dict[str, str]:
    """Returns the names of the presets, each with its purpose."""
    folder = resources.files("d2skill.config.presets")
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    described = {
        entry.name.removesuffix(".toml"): entry.read_text("utf-8").split("\n", 1)[0].lstrip("# ") for entry in files
    }
    return dict(sorted(described.items()))


def load(name_or_file: str) -> Config:
    """Returns the settings of a preset or a TOML file, defaults for what it leaves out.

    Raises `ConfigError` that names the file and the setting that is unknown or out of range.
    """
    known = presets()
    if name_or_file in known:
        text = (resources.files("d2skill.config.presets") / f"{name_or_file}.toml").read_text("utf-8")
        return parse(text, f"preset {name_or_file}", foreign=False)
    path = Path(name_or_file)
    if not path.is_file():
        raise ConfigError(
            f'--config "{name_or_file}" is neither a preset ({", ".join(known)}) nor a TOML file that exists'
        )
    return parse(_text(path), str(path))


def read_settings(path: Path) -> Config:
    """Returns the settings of a run in its config.toml. Raises `ConfigError` as `load` does."""
    return parse(_text(path), str(path), of_run=True)


def _text(path: Path) -> str:
    try:
        return read_bytes(path, MOST_TOML).decode("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({reason_of(error)}): is it a file of settings in TOML?") from None


def parse(text: str, source: str, *, of_run: bool = False, foreign: bool = True) -> Config:
    """Returns the settings in a TOML text.

    Args:
        text: The text.
        source: Its name in errors.
        of_run: Whether they are complete: without `bank.skills` they are of a version that had the paper's skills
            alone, without `retrieval.distinct` of one that showed a text more than once.
        foreign: Whether they are not of this package: they do not say where a key may be sent (`config.key_hosts`).
    """
    try:
        values = parse_toml(text)
    except ValueError as error:
        raise ConfigError(f"{source} is not valid TOML: {error}") from None
    if of_run and isinstance(bank := values.setdefault("bank", {}), dict):
        bank.setdefault("skills", "paper")
    if of_run and isinstance(retrieval := values.setdefault("retrieval", {}), dict):
        retrieval.setdefault("distinct", False)
    try:
        config = Config.model_validate(values, context={"of_run": of_run})
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error)}") from None
    if foreign:
        note_foreign(config, source)
    return config


def explain(error: ValidationError) -> str:
    """Returns the first mistake in some settings as a sentence, and the number of further ones."""
    first, *others = error.errors()
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(name, _names(Config().model_dump()), 1)
        meant = f": did you mean {near[0]}?" if near else "; `d2skill config show` prints all of them"
        said = f"there is no setting {name}{meant}"
    elif first["type"] == "value_error":
        said = str(first["ctx"]["error"])
    else:
        said = f"{name} = {short(first['input'])}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return said + (f" (and {len(others)} more)" if others else "")


def _names(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yields the dotted names of all settings in a dump of them."""
    for name, value in values.items():
        yield path + name
        if isinstance(value, dict):
            yield from _names(value, f"{path}{name}.")


def dump(config: Config) -> str:
    """Returns the complete settings as TOML; None is left out, and reads back as None."""
    return tomli_w.dumps(_without_none(config.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
