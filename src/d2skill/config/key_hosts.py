"""Hosts that a key may be sent to: those that the person who runs a command has named, and no other.

Settings that were read from a file, the config.toml of a run or the TOML file of --config, may be those of someone
else, and could name any environment variable and any server. So the value of a variable goes to a host only if

- it is OPENAI_API_KEY, and the host is api.openai.com,
- both are named by flags, by settings made in Python or by the presets of this package,
- the environment variable D2SKILL_KEYS has both, as in `MY_KEY@models.example,OTHER_KEY@http://10.0.0.5:8000`,
- or a file of the user's own has a line for them, ~/.config/d2skill/keys.toml (in $XDG_CONFIG_HOME if that is set):

      "models.example".MY_KEY = true
      "http://10.0.0.5:8000".OTHER_KEY = true

A host is named without https:// and its port 443. `false` in place of `true` refuses without a question. For anything
else the user is asked, once, if there is a terminal. A training writes what was named for it into the user's file, so
that it can be resumed. Processes that are started from this one have the decisions from D2SKILL_KEYS.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from d2skill.config.base import EndpointConfig
from d2skill.errors import ConfigError
from d2skill.utils.atomic_files import write_text
from d2skill.utils.foreign_files import parse_toml, read_bytes
from d2skill.utils.foreign_text import visible

if TYPE_CHECKING:
    from d2skill.config import Config

VARIABLE = "D2SKILL_KEYS"
"""Environment variable with the pairs of variable and host that are allowed"""

_OPENAI = "api.openai.com"
_DEFAULT_KEY = "OPENAI_API_KEY"

_foreign: dict[str, str] = {}
"""Variables (as $NAME) and hosts that files have named, with the last such file"""

_denied: set[tuple[str, str]] = set()


def host_of(url: str | None) -> str:
    """Returns the host of a URL as it is named here; None is OpenAI's.

    >>> host_of("https://Models.example:443/v1"), host_of("http://10.0.0.5:8000/v1")
    ('models.example', 'http://10.0.0.5:8000')
    """
    parts = urlsplit(url or f"https://{_OPENAI}")
    host = (parts.hostname or "").rstrip(".")
    if not re.fullmatch(r"[a-z0-9._:%-]+", host):
        raise ValueError("a host has other characters")
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, 443 if parts.scheme == "https" else 80) else f":{parts.port}"
    return f"{'' if parts.scheme == 'https' else f'{parts.scheme}://'}{host}{port}"


def note_foreign(config: Config, source: str) -> None:
    """Notes the variables and hosts that the endpoints of settings from a file name."""
    for _, endpoint in _endpoints(config):
        _foreign.update(dict.fromkeys(_words(endpoint.key_env, endpoint.url), source))


def allow_named(config: Config, names: Collection[str]) -> None:
    """Allows the pairs that are named one by one, `names` being the settings of flags or of Python.

    A pair of which one is named, and the other is from a file, is not.
    """
    for path, endpoint in _endpoints(config):
        named = {part for part in ("url", "key_env") if f"{path}.{part}" in names}
        from_file = {"key_env"} if _foreign.keys() & _words(endpoint.key_env, None) else set()
        from_file |= {"url"} if _foreign.keys() & _words("", endpoint.url) else set()
        if named and from_file <= named:
            allow(endpoint.key_env, endpoint.url)


def allow(variable: str, url: str | None) -> None:
    """Allows the value of a variable to be sent to the host of a URL, in this process and those that it starts."""
    with suppress(ValueError):  # no URL: `connect` says so
        host, pairs = host_of(url), _pairs()
        _denied.discard((variable, host))
        if (pair := f"{variable}@{host}") not in pairs:
            os.environ[VARIABLE] = ",".join([*pairs, pair])


def may_send(variable: str, url: str | None, *, ask: bool = False) -> bool:
    """Returns True if the value of a variable may be sent to the host of a URL.

    Args:
        variable: Name of the environment variable.
        url: URL of the server; None is OpenAI's.
        ask: Whether to ask the user, if nothing has been said yet and there is a terminal.

    Raises `ConfigError` if the user's file cannot be read.
    """
    host = host_of(url)
    if (variable, host) == (_DEFAULT_KEY, _OPENAI) or f"{variable}@{host}" in _pairs():
        return True
    said = _own_lines().get((variable, host))
    if said is None and not _foreign.keys() & _words(variable, url):
        said = True
        allow(variable, url)  # it stays so when the settings are read again, from the folder of the run
    if said is None and ask and (variable, host) not in _denied:
        said = _ask(variable, url)
    return bool(said)


def decide_keys(config: Config, *, ask: bool = False) -> None:
    """Decides for the endpoints that a training uses, for this process and those that it starts.

    It keeps in the user's file what is allowed. With `ask` it asks about what is not, and keeps nothing but the answer.
    """
    uses = {"reflect.endpoint": config.reflect.kind == "llm", "embedder.endpoint": config.embedder.kind == "openai"}
    uses["policy.served.endpoint"] = config.policy.kind == "served"
    for path, endpoint in _endpoints(config):
        if not uses[path] or not os.environ.get(endpoint.key_env, "").strip():
            continue
        with suppress(OSError, ValueError, ConfigError):  # `connect` says that a URL is none, a resume the missing line
            if may_send(endpoint.key_env, endpoint.url, ask=ask) and not ask:
                _remember(endpoint.key_env, endpoint.url)


def way_to_allow(variable: str, url: str | None) -> str:
    """Returns the sentence that a key is not sent, and how to allow it."""
    words = _words(variable, url)
    source = next((_foreign[word] for word in words if word in _foreign), "")
    by = f"which {visible(source)} names" if source else f"which {own_file()} refuses"
    pair = f"{variable}@{host_of(url)}"
    near = next((one for one in _pairs() if one != pair and one.partition("@")[2] in pair), "")
    told = f", {VARIABLE} has {visible(near)}, which is another address" if near else ""
    return (
        f"the value of ${variable} is not sent to {host_of(url)}, {by} and you have not{told}: if it should be, add "
        f"the line {_line(variable, url)} to {own_file()}, or set {VARIABLE}={pair}, or name both by flags"
    )


def own_file() -> Path:
    """Returns the path of the user's own file."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~")) / ".config"
    return folder / "d2skill" / "keys.toml"


def _endpoints(config: Config) -> Iterator[tuple[str, EndpointConfig]]:
    yield "reflect.endpoint", config.reflect.endpoint
    yield "embedder.endpoint", config.embedder.endpoint
    yield "policy.served.endpoint", config.policy.served.endpoint


def _words(variable: str, url: str | None) -> list[str]:
    """Returns the variable and the host by which files are noted, without those that are defaults."""
    words = [f"${variable}"] if variable not in ("", _DEFAULT_KEY) else []
    with suppress(ValueError):  # no URL: `connect` says so
        words += [host] if (host := host_of(url)) != _OPENAI else []
    return words


def _pairs() -> list[str]:
    return [pair for pair in os.environ.get(VARIABLE, "").replace(",", " ").split() if "@" in pair]


def _line(variable: str, url: str | None) -> str:
    return f'"{host_of(url)}".{variable} = true'


def _own_lines() -> dict[tuple[str, str], bool]:
    """Returns the pairs of variable and host in the user's file."""
    file = own_file()
    try:
        hosts = parse_toml(read_bytes(file).decode("utf-8"))
        lines = {(name, host): said for host, names in hosts.items() for name, said in names.items()}
        if not all(isinstance(said, bool) for said in lines.values()):
            raise ValueError("a line says neither true nor false")
        return lines
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f'{file} cannot be read ({error}): its lines are like "models.example".MY_KEY = true'
        ) from None


def _remember(variable: str, url: str | None) -> None:
    """Adds a line to the user's file, unless it has one or the pair is allowed anyway."""
    if (variable, host_of(url)) == (_DEFAULT_KEY, _OPENAI) or (variable, host_of(url)) in _own_lines():
        return
    file = own_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = file.read_text("utf-8") if file.exists() else "# hosts that d2skill may send the value of a variable to\n"
    # top-level lines go before the first table that a person has written
    table = re.search(r"^\s*\[", text, re.MULTILINE)
    start = table.start() if table else len(text)
    before = text[:start] if not text[:start] or text[:start].endswith("\n") else f"{text[:start]}\n"
    write_text(file.resolve(), f"{before}{_line(variable, url)}\n{text[start:]}")


def _ask(variable: str, url: str | None) -> bool | None:
    """Asks the user about a pair; returns None where nobody can answer."""
    if not (sys.stdin and sys.stderr and sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    source = next((_foreign[word] for word in _words(variable, url) if word in _foreign), "")
    sys.stderr.write(
        visible(
            f"{source} would have the value of ${variable} sent to {host_of(url)}.\n"
            f"Send it? [y] this time, [a] always (a line in {own_file()}), [n] no: "
        )
    )
    sys.stderr.flush()
    answer = sys.stdin.readline().strip().lower()
    if answer not in ("y", "yes", "a", "always"):
        _denied.add((variable, host_of(url)))
        return False
    allow(variable, url)
    if answer.startswith("a"):
        _remember(variable, url)
    return True
