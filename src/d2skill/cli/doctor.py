"""What is installed, found and missing on this machine, and how to fix it: doctor."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from d2skill.config import Config, EndpointConfig, toml_files
from d2skill.embedders.cache import default_folder
from d2skill.endpoints import check, connect, plain
from d2skill.envs.alfworld.environment import VARIABLE, AlfworldEnvironment
from d2skill.envs.webshop import environment as webshop
from d2skill.envs.webshop.source_files import Sources
from d2skill.errors import ConfigError, D2SkillError
from d2skill.planning.devices import size
from d2skill.planning.machine import memory_in_words, nearest, satisfies
from d2skill.planning.model_shapes import config_file
from d2skill.verl.checks import require_devices, require_verl

_PATIENCE = 20.0  # seconds that one check may take
_ENDPOINT_SECONDS = 5.0  # that a server may take to answer, whatever the settings say
_DISK_WANTED = 2e9  # bytes
_USUAL_DATA = ("~/.cache/alfworld", "~/alfworld", "~/data/alfworld", "./data/alfworld")
_SPLITS = ("train", "valid_seen", "valid_unseen")

Finding = Literal["found", "missing", "optional"]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing: what was found of it, and how to fix it; "optional" is missing, and the settings do not need it."""

    what: str
    finding: Finding
    told: str
    fix: str = ""


Check = Callable[[Config], Iterator[Line]]


def doctor(config: str = "laptop") -> None:
    """Say what settings need and what of it is here, and how to fix what is not; status 1 if anything is missing.

    Nothing is downloaded and no key is shown. A server is asked whether it knows the model, which costs nothing or a
    word.

    Args:
        config: Preset or TOML file.
    """
    lines = examine(toml_files.load(config))
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"For {config}:", markup=False)
    wide = max(len(line.what) for line in lines)
    for line in lines:
        style = {"found": "green", "missing": "bold red", "optional": "dim"}[line.finding]
        way_out = f"  ->  {line.fix}" if line.fix else ""
        console.print(Text.assemble(f"{line.what:{wide}}  ", (f"{line.finding:8}", style), f"  {line.told}{way_out}"))
    missing = [line.what for line in lines if line.finding == "missing"]
    said = f"Missing: {', '.join(missing)}." if missing else "Nothing that these settings need is missing."
    console.print(said, markup=False)
    if missing:
        sys.exit(1)


def examine(config: Config) -> list[Line]:
    """Returns what was found; a check that fails itself, or takes too long, is a line that says so."""
    return [line for name, check in CHECKS.items() for line in _bounded(name, check, config)]


def _bounded(name: str, check: Check, config: Config) -> list[Line]:
    found: list[Line] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.extend(check(config))
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=work, name=f"doctor {name}", daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    lines = list(found)
    lacking: Finding = "missing" if _matters(name, config) else "optional"
    if thread.is_alive():
        return [*lines, Line(name, lacking, f"no answer within {_PATIENCE:g} s", "see what holds it up, and try again")]
    for error in failed:
        said = f"cannot be examined ({type(error).__name__}: {_without_keys(plain(error))})"
        lines.append(Line(name, lacking, said, "see what it says, or report it"))
    return lines


def _matters(name: str, config: Config) -> bool:
    """Tells whether the settings need what a check is about."""
    needs = {"GPU": "train" in _extras(config), "machine": False, "endpoints": "llm" in _extras(config)}
    needs |= {"ALFWorld data": config.env.kind == "alfworld", "WebShop data": config.env.kind == "webshop"}
    needs["verl"] = config.engine == "verl"
    return needs.get(name, True)


def _python(config: Config) -> Iterator[Line]:
    wanted, have = metadata.metadata("d2skill")["Requires-Python"], platform.python_version()
    good = satisfies(have, wanted)
    yield Line("Python", "found" if good else "missing", have, "" if good else f"install Python {wanted}")
    yield Line("d2skill", "found", metadata.version("d2skill"))


def _packages(config: Config) -> Iterator[Line]:
    """Yields what pyproject asks for: the core, and the extras train and llm."""
    for required in metadata.requires("d2skill") or []:
        named, _, condition = required.partition(";")
        match = re.match(r"\s*([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(.*)", named)
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", condition)
        group = extra[1] if extra else ""
        if match is None or group not in ("", "train", "llm"):
            continue
        name, wanted = match[1], match[2].strip().strip("()")
        what = f"{name} ({group})" if group else name
        fix = f"pip install 'd2skill[{group}]'" if group else f"pip install '{name}{wanted}'"
        lacking: Finding = "missing" if group in ("", *_extras(config)) else "optional"
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Line(what, lacking, f"not installed, {wanted} is wanted", fix)
            continue
        if not satisfies(have, wanted):
            yield Line(what, lacking, f"{have}, {wanted} is wanted", f"pip install -U '{name}{wanted}'")
        elif find_spec(name.replace("-", "_")) is None:
            yield Line(
                what, lacking, f"{have} is on record, but cannot be found", f"pip install --force-reinstall {name}"
            )
        else:
            yield Line(what, "found", have)


def _extras(config: Config) -> Iterator[str]:
    """Yields the extras that settings need."""
    if config.policy.kind == "causal-lm" or config.embedder.kind == "transformers":
        yield "train"
    if any(needed for _, _, needed, _ in _endpoints(config)):
        yield "llm"


def _accelerators(config: Config) -> Iterator[Line]:
    """Yields the GPUs that PyTorch sees; it is not imported where it is not installed."""
    asked = config.policy.kind == "causal-lm" and config.policy.lm.device.startswith(("cuda", "mps"))
    lacking: Finding = "missing" if asked else "optional"
    if find_spec("torch") is None:
        yield Line("GPU", lacking, "not examined without torch", "pip install 'd2skill[train]'")
        return
    torch: Any = import_module("torch")
    flash = "flash_attn is installed" if find_spec("flash_attn") else "flash_attn is not installed"
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        own = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        told = f"{own.name}, {size(free)} free of {size(total)}, {'' if own.major >= 8 else 'no '}bfloat16, {flash}"
        yield Line(f"cuda:{number}", "found", told)
    if getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
        yield Line("mps", "found", "Apple GPU")
    elif not torch.cuda.is_available():
        fix = "set --policy.lm.device auto, or install a build of torch for this GPU" if lacking == "missing" else ""
        yield Line("GPU", lacking, f"none that torch {torch.__version__} sees", fix)


def _machine(config: Config) -> Iterator[Line]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Line("CPU cores", "found", str(cores))
    yield Line("memory", "found", memory_in_words())


def _places(config: Config) -> Iterator[Line]:
    """Yields where runs and vectors are kept: room, and whether they can be written."""
    runs = (config.out or Path("runs")).absolute()
    free = shutil.disk_usage(nearest(runs)).free
    if not os.access(nearest(runs), os.W_OK):
        yield Line("run folder", "missing", f"{runs} cannot be written", "name another by --out FOLDER")
    elif free < _DISK_WANTED:
        yield Line(
            "run folder", "missing", f"{size(free)} free at {runs}", "make room, or name another by --out FOLDER"
        )
    else:
        yield Line("run folder", "found", f"{size(free)} free at {runs}")
    chosen = config.embedder.cache
    if chosen == "none":
        return
    cache, needed = Path(chosen).expanduser() if chosen else default_folder(), config.embedder.kind != "hashed"
    try:
        with tempfile.TemporaryFile(dir=nearest(cache)):
            yield Line("cache of vectors", "found", f"{cache} can be written")
    except OSError as error:
        fix = "name another by --embedder.cache FOLDER, or none"
        yield Line("cache of vectors", "missing" if needed else "optional", f"{cache}: {error.strerror}", fix)


def _data(config: Config) -> Iterator[Line]:
    """Yields the ALFWorld games by split, from --data, the variable or a usual place."""
    needed = config.env.kind == "alfworld"
    named = config.env.data if needed and config.env.data else os.environ.get(VARIABLE, "")
    usual = [Path(place).expanduser() for place in _USUAL_DATA]
    lacking: Finding = "missing" if needed else "optional"
    if not named:
        there = next((folder for folder in usual if (folder / "json_2.1.1").is_dir()), None)
        told = f"no folder is named; {there} looks like it" if there else "no folder is named"
        yield Line("ALFWorld data", lacking, told, f"export {VARIABLE}={there or 'FOLDER'}, or --data FOLDER")
        return
    try:
        environment = AlfworldEnvironment(Path(named))
    except D2SkillError as error:
        yield Line(
            "ALFWorld data",
            lacking,
            plain(error),
            f"export {VARIABLE}=FOLDER, or --data FOLDER: the one with json_2.1.1",
        )
        return
    used = (config.env.train_split, config.env.validation_split) if needed else ()
    for split in dict.fromkeys((*used, *_SPLITS)):
        what = f"ALFWorld {split}"
        try:
            yield Line(what, "found", f"{len(environment.task_ids(split)):,} games in {named}")
        except D2SkillError as error:
            fix = f"get the games of {split}, or name another split (--env.train-split, --env.validation-split)"
            yield Line(what, "missing" if split in used else "optional", plain(error), fix)


def _shop(config: Config) -> Iterator[Line]:
    """Yields the files of WebShop, from --data or the variable."""
    needed = config.env.kind == "webshop"
    named = config.env.data if needed and config.env.data else os.environ.get(webshop.VARIABLE, "")
    if not named:
        fix = f"export {webshop.VARIABLE}=FOLDER, or --data FOLDER"
        yield Line("WebShop data", "missing" if needed else "optional", "no folder is named", fix)
        return
    try:
        yield Line("WebShop data", "found", str(Sources.find(Path(named)).products))
    except D2SkillError as error:
        said, _, fix = str(error).partition(": ")
        yield Line("WebShop data", "missing" if needed else "optional", plain(said), fix)


def _servers(config: Config) -> Iterator[Line]:
    """Yields the endpoints: whether their key is set and whether the server knows the model."""
    for flag, settings, needed, route in _endpoints(config):
        if not needed and not settings.model:
            yield Line(flag, "optional", "not set", f"--{flag}.url URL --{flag}.model NAME, where a server is wanted")
            continue
        lacking: Finding = "missing" if needed else "optional"
        has_key = bool(os.environ.get(settings.key_env, "").strip())
        hasty = settings.model_copy(update={"timeout": min(settings.timeout, _ENDPOINT_SECONDS), "retries": 0})
        key = f"${settings.key_env} is {'set' if has_key else 'not set'}"
        try:
            client = connect(hasty, f"--{flag}")
            try:
                check(client, hasty, f"--{flag}", route)
            finally:
                client.close()
            yield Line(flag, "found", f"{settings.url or 'OpenAI'} knows {plain(settings.model)}; {key}")
        except D2SkillError as error:
            said, _, fix = _without_keys(str(error), settings.key_env).rpartition(": ")
            yield Line(flag, lacking, f"{said or fix}; {key}", fix if said else "")


def _without_keys(text: str, own: str = "") -> str:
    """Returns a text, which may be a server's, without the values of variables that look like keys or are one."""
    for name, value in os.environ.items():
        if len(value) >= 4 and (name == own or re.search(r"KEY|TOKEN|SECRET|PASS", name)):
            text = text.replace(value, f"${name}")
    return text


def _endpoints(config: Config) -> Iterator[tuple[str, EndpointConfig, bool, Literal["chat", "embeddings"]]]:
    """Yields flag, settings, whether the settings need it, and what is asked there."""
    yield "reflect.endpoint", config.reflect.endpoint, config.reflect.kind == "llm", "chat"
    yield "embedder.endpoint", config.embedder.endpoint, config.embedder.kind == "openai", "embeddings"
    yield "policy.served.endpoint", config.policy.served.endpoint, config.policy.kind == "served", "chat"


def _models(config: Config) -> Iterator[Line]:
    """Yields the models that run here: whether their files are, as nothing is downloaded now."""
    own = config.policy.kind == "causal-lm", config.policy.lm.model, "policy.lm.model"
    for used, name, flag in (own, (config.embedder.kind == "transformers", config.embedder.model, "embedder.model")):
        if not used:
            continue
        if name == "tiny" and flag == "policy.lm.model":
            yield Line(flag, "found", "tiny, which is made here")
        elif (file := config_file(name)) is None:
            yield Line(flag, "missing", f"{name} is no folder, and not in the cache", f"hf download {name}")
        elif not any(file.parent.glob("*.safetensors")):
            yield Line(flag, "missing", f"{file.parent} has no weights in safetensors", f"hf download {name}")
        else:
            yield Line(flag, "found", str(file.parent))


def _cluster(config: Config) -> Iterator[Line]:
    """Yields verl and, where it is the engine, the GPUs that it is to have."""
    needed = config.engine == "verl"
    try:
        require_verl()
        yield Line("verl", "found", metadata.version("verl"))
        if needed:
            require_devices(config)
            yield Line("verl.gpus", "found", f"{config.verl.nodes} x {config.verl.gpus}")
    except ConfigError as error:
        said, _, fix = str(error).partition(": ")
        yield Line("verl", "missing" if needed else "optional", said, fix)


CHECKS: dict[str, Check] = {
    "Python": _python,
    "packages": _packages,
    "GPU": _accelerators,
    "machine": _machine,
    "disk": _places,
    "ALFWorld data": _data,
    "WebShop data": _shop,
    "endpoints": _servers,
    "models": _models,
    "verl": _cluster,
}
"""What is examined, in the order in which it is printed."""
