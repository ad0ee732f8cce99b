"""Diagnosis of this machine: which packages, devices, data, servers and models settings need, and which are missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any, Literal

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from d2skill.config import Config, EndpointConfig
from d2skill.config.parts import GYMNASIUM, PARTS, find_part
from d2skill.embedders.cache import default_cache_folder
from d2skill.endpoints import check, connect, one_line
from d2skill.envs.alfworld.environment import VARIABLE, AlfworldEnvironment
from d2skill.envs.search_qa import data as search_qa
from d2skill.envs.webshop import environment as webshop
from d2skill.envs.webshop.source_files import SourceFiles
from d2skill.errors import ConfigError, D2SkillError
from d2skill.planning.devices import format_bytes, this_device
from d2skill.planning.memory_report import fit_to_memory
from d2skill.planning.model_shapes import config_file
from d2skill.policies.causal_lm.model_files import gguf_file
from d2skill.utils.runtime import available_cores
from d2skill.verl.checks import require_devices, require_verl

_CHECK_SECONDS = 20.0  # limit of one check
_MODEL_SECONDS = 60.0  # of that of models, which imports Transformers
_ENDPOINT_SECONDS = 5.0  # limit of a server's answer, whatever the settings say
_DISK_WANTED = 2e9  # bytes
_USUAL_DATA = ("~/.cache/alfworld", "~/alfworld", "~/data/alfworld", "./data/alfworld")
_SPLITS = ("train", "valid_seen", "valid_unseen")

Status = Literal["found", "missing", "optional"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The state of one thing that runs use, and how to fix it; "optional" is absent and not needed by the settings."""

    subject: str
    status: Status
    detail: str
    fix: str = ""


_Check = Callable[[Config], Iterator[Diagnosis]]


def diagnose(config: Config) -> list[Diagnosis]:
    """Returns the diagnoses of all checks in `CHECKS`; a check that fails or takes too long becomes one itself.

    Nothing is downloaded and no key is shown. A server is asked whether it knows the model, which costs nothing or a
    word.
    """
    return [line for name, check in CHECKS.items() for line in _run_check(name, check, config)]


def _run_check(name: str, check: _Check, config: Config) -> list[Diagnosis]:
    lines: list[Diagnosis] = []
    extras, env = [*_extras(config)], config.env.kind
    needs = {"GPU": "train" in extras, "machine": False, "endpoints": "llm" in extras}
    needs |= {"ALFWorld data": env == "alfworld", "WebShop data": env == "webshop", "verl": config.engine == "verl"}
    needs |= {"search QA data": env == "search-qa"}
    needed = needs.get(name, True)

    def work() -> None:
        try:
            lines.extend(check(config))
        except BaseException as error:
            reason = f"cannot be examined ({type(error).__name__}: {_without_keys(one_line(error))})"
            lines.append(_absent(name, needed, reason, "see what it says, or report it"))

    thread = Thread(target=work, name=f"check of {name}", daemon=True)
    thread.start()
    limit = _MODEL_SECONDS if name == "models" else _CHECK_SECONDS
    thread.join(limit)
    late = _absent(name, needed, f"no answer within {limit:g} s", "see what holds it up, and try again")
    return [*lines, late] if thread.is_alive() else lines


def _found(subject: str, detail: str) -> Diagnosis:
    return Diagnosis(subject, "found", detail)


def _absent(subject: str, needed: bool, detail: str, fix: str) -> Diagnosis:
    return Diagnosis(subject, "missing" if needed else "optional", detail, fix)


def _python(config: Config) -> Iterator[Diagnosis]:
    wanted, have = metadata.metadata("d2skill")["Requires-Python"], platform.python_version()
    if SpecifierSet(wanted).contains(have.rstrip("+"), prereleases=True):
        yield _found("Python", have)
    else:
        yield _absent("Python", True, have, f"install Python {wanted}")
    yield _found("d2skill", metadata.version("d2skill"))


def _packages(config: Config) -> Iterator[Diagnosis]:
    """Checks the packages of the core and of the extras train and llm."""
    for requirement in map(Requirement, metadata.requires("d2skill") or []):
        name, wanted, marker = requirement.name, str(requirement.specifier), requirement.marker
        wanting = (extra for extra in ("train", "llm") if marker is not None and marker.evaluate({"extra": extra}))
        extra = "" if marker is None else next(wanting, None)
        if extra is None:
            continue
        subject = f"{name} ({extra})" if extra else name
        needed = extra in ("", *_extras(config))
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            fix = f"pip install 'd2skill[{extra}]'" if extra else f"pip install '{name}{wanted}'"
            yield _absent(subject, needed, f"not installed, {wanted} is wanted", fix)
            continue
        # the name that a package is imported by may differ from its own: PyYAML is yaml
        modules = (metadata.distribution(name).read_text("top_level.txt") or name.replace("-", "_")).split()
        if not requirement.specifier.contains(have, prereleases=True):
            yield _absent(subject, needed, f"{have}, {wanted} is wanted", f"pip install -U '{name}{wanted}'")
        elif not any(map(find_spec, modules)):
            fix = f"pip install --force-reinstall {name}"
            yield _absent(subject, needed, f"{have} is on record, but cannot be found", fix)
        else:
            yield _found(subject, have)


def _extras(config: Config) -> Iterator[str]:
    """Yields the extras that settings need."""
    if config.policy.kind == "causal-lm" or config.embedder.kind == "transformers":
        yield "train"
    if any(needed for _, _, needed, _ in _endpoints(config)):
        yield "llm"


def _accelerators(config: Config) -> Iterator[Diagnosis]:
    """Checks the GPUs that PyTorch sees; it is not imported where it is not installed."""
    needed = config.policy.kind == "causal-lm" and config.policy.lm.device.startswith(("cuda", "mps"))
    if find_spec("torch") is None:
        yield _absent("GPU", needed, "not examined without torch", "pip install 'd2skill[train]'")
        return
    torch: Any = import_module("torch")
    flash = "flash_attn is installed" if find_spec("flash_attn") else "flash_attn is not installed"
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu = torch.cuda.get_device_properties(number)
        free, total = map(format_bytes, torch.cuda.mem_get_info(number))
        bfloat16 = f"{'' if gpu.major >= 8 else 'no '}bfloat16"
        yield _found(f"cuda:{number}", f"{gpu.name}, {free} free of {total}, {bfloat16}, {flash}")
    if config.policy.kind == "causal-lm" and this_device(config.policy.lm.device).kind == "cpu":
        paces = _cpu_paces(torch)
        slow = paces["bfloat16"] < paces["float32"]
        advice = ", so --policy.lm.dtype float32 is faster here" if slow else ""
        yield _found("CPU pace", " and ".join(f"{pace:.0f} GFLOP/s in {name}" for name, pace in paces.items()) + advice)
    if getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
        yield _found("mps", "Apple GPU")
    elif not torch.cuda.is_available():
        fix = "set --policy.lm.device auto, or install a build of torch for this GPU" if needed else ""
        yield _absent("GPU", needed, f"none that torch {torch.__version__} sees", fix)


def _cpu_paces(torch: Any) -> dict[str, float]:
    """Returns the GFLOP/s of a linear layer on this CPU by precision, which takes a fraction of a second."""
    paces = {}
    for name in ("float32", "bfloat16"):
        layer, rows = (torch.rand(size, 512).to(getattr(torch, name)) for size in (512, 256))
        seconds = []
        for _ in range(4):
            started = perf_counter()
            torch.nn.functional.linear(rows, layer)
            seconds.append(perf_counter() - started)
        paces[name] = 2 * 256 * 512**2 / min(seconds) / 1e9
    return paces


def _machine(config: Config) -> Iterator[Diagnosis]:
    memory = psutil.virtual_memory()
    yield _found("CPU cores", str(available_cores()))
    yield _found("memory", f"{format_bytes(memory.available)} free of {format_bytes(memory.total)}")


def _disk(config: Config) -> Iterator[Diagnosis]:
    """Checks the folders of runs and of cached vectors: free space, and whether they can be written."""
    runs = (config.out or Path("runs")).absolute()
    parent = _existing_parent(runs)
    free = shutil.disk_usage(parent).free
    if not os.access(parent, os.W_OK):
        yield _absent("run folder", True, f"{runs} cannot be written", "name another by --out FOLDER")
    elif free < _DISK_WANTED:
        fix = "make room, or name another by --out FOLDER"
        yield _absent("run folder", True, f"{format_bytes(free)} free at {runs}", fix)
    else:
        yield _found("run folder", f"{format_bytes(free)} free at {runs}")
    chosen = config.embedder.cache
    if chosen == "none":
        return
    cache = Path(chosen).expanduser() if chosen else default_cache_folder()
    try:
        with tempfile.TemporaryFile(dir=_existing_parent(cache)):
            yield _found("cache of vectors", f"{cache} can be written")
    except OSError as error:
        fix = "name another by --embedder.cache FOLDER, or none"
        yield _absent("cache of vectors", config.embedder.kind != "hashed", f"{cache}: {error.strerror}", fix)


def _existing_parent(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def _alfworld(config: Config) -> Iterator[Diagnosis]:
    """Checks the ALFWorld games of each split, in --data, the environment variable or a usual folder."""
    needed = config.env.kind == "alfworld"
    named = config.env.data if needed and config.env.data else os.environ.get(VARIABLE, "")
    if not named:
        usual = (Path(folder).expanduser() for folder in _USUAL_DATA)
        likely = next((folder for folder in usual if (folder / "json_2.1.1").is_dir()), None)
        detail = f"no folder is named; {likely} looks like it" if likely else "no folder is named"
        yield _absent("ALFWorld data", needed, detail, f"export {VARIABLE}={likely or 'FOLDER'}, or --data FOLDER")
        return
    try:
        environment = AlfworldEnvironment(Path(named))
    except D2SkillError as error:
        fix = f"export {VARIABLE}=FOLDER, or --data FOLDER: the one with json_2.1.1"
        yield _absent("ALFWorld data", needed, one_line(error), fix)
        return
    used = (config.env.train_split, config.env.validation_split) if needed else ()
    for split in dict.fromkeys((*used, *_SPLITS)):
        try:
            yield _found(f"ALFWorld {split}", f"{len(environment.task_ids(split)):,} games in {named}")
        except D2SkillError as error:
            fix = f"get the games of {split}, or name another split (--env.train-split, --env.validation-split)"
            yield _absent(f"ALFWorld {split}", split in used, one_line(error), fix)


def _webshop(config: Config) -> Iterator[Diagnosis]:
    """Checks the files of WebShop, in --data or the environment variable."""
    needed = config.env.kind == "webshop"
    named = config.env.data if needed and config.env.data else os.environ.get(webshop.VARIABLE, "")
    if not named:
        fix = f"export {webshop.VARIABLE}=FOLDER, or --data FOLDER"
        yield _absent("WebShop data", needed, "no folder is named", fix)
        return
    try:
        yield _found("WebShop data", str(SourceFiles.find(Path(named)).products))
    except D2SkillError as error:
        reason, _, fix = str(error).partition(": ")
        yield _absent("WebShop data", needed, one_line(reason), fix)


def _search_qa(config: Config) -> Iterator[Diagnosis]:
    """Checks the questions and passages of search QA, in --data or the environment variable; no index is made."""
    needed = config.env.kind == "search-qa"
    if not (needed and config.env.data) and not os.environ.get(search_qa.VARIABLE):
        fix = f"export {search_qa.VARIABLE}=FOLDER, or --data FOLDER"
        yield _absent("search QA data", needed, "no folder is named", fix)
        return
    try:
        yield _found("search QA data", search_qa.describe(config.env.data if needed else None, config.env.search_qa))
    except D2SkillError as error:
        reason, _, fix = str(error).rpartition(": ")
        yield _absent("search QA data", needed, one_line(reason), fix)


def _servers(config: Config) -> Iterator[Diagnosis]:
    """Checks the endpoints: whether their key is set and whether the server knows the model."""
    for flag, settings, needed, route in _endpoints(config):
        if not needed and not settings.model:
            yield _absent(flag, False, "not set", f"--{flag}.url URL --{flag}.model NAME, where a server is wanted")
            continue
        has_key = bool(os.environ.get(settings.key_env, "").strip())
        hasty = settings.model_copy(update={"timeout": min(settings.timeout, _ENDPOINT_SECONDS), "retries": 0})
        key = f"${settings.key_env} is {'set' if has_key else 'not set'}"
        try:
            client = connect(hasty, f"--{flag}")
            try:
                check(client, hasty, f"--{flag}", route)
            finally:
                client.close()
            yield _found(flag, f"{settings.url or 'OpenAI'} knows {one_line(settings.model)}; {key}")
        except D2SkillError as error:
            reason, _, fix = _without_keys(str(error), settings.key_env).rpartition(": ")
            yield _absent(flag, needed, f"{reason or fix}; {key}", fix if reason else "")


def _without_keys(text: str, variable: str = "") -> str:
    """Returns a text, maybe a server's, without the values of `variable` and of variables that look like keys."""
    for name, value in os.environ.items():
        if len(value) >= 4 and (name == variable or re.search(r"KEY|TOKEN|SECRET|PASS", name)):
            text = text.replace(value, f"${name}")
    return text


def _endpoints(config: Config) -> Iterator[tuple[str, EndpointConfig, bool, Literal["chat", "embeddings"]]]:
    """Yields flag and settings of each endpoint, whether it is needed, and its kind of request."""
    yield "reflect.endpoint", config.reflect.endpoint, config.reflect.kind == "llm", "chat"
    yield "embedder.endpoint", config.embedder.endpoint, config.embedder.kind == "openai", "embeddings"
    yield "policy.served.endpoint", config.policy.served.endpoint, config.policy.kind == "served", "chat"


def _models(config: Config) -> Iterator[Diagnosis]:
    """Checks the files of the models that run on this machine; nothing is downloaded."""
    policy = ("policy.lm.model", config.policy.lm.model, config.policy.kind == "causal-lm")
    embedder = ("embedder.model", config.embedder.model, config.embedder.kind == "transformers")
    for flag, name in [(flag, name) for flag, name, is_used in (policy, embedder) if is_used]:
        if name == "tiny" and flag == "policy.lm.model":
            yield _found(flag, "tiny, which is made here")
        elif flag == "policy.lm.model":
            yield _language_model(flag, name)
        elif (file := config_file(name)) is None:
            yield _absent(flag, True, f"{name} is no folder, and not in the cache", f"hf download {name}")
        elif not any(file.parent.glob("*.safetensors")):
            yield _absent(flag, True, f"{file.parent} has no weights in safetensors", f"hf download {name}")
        else:
            yield _found(flag, str(file.parent))
    if config.policy.kind == "causal-lm" and config.engine == "local":
        try:
            lm = fit_to_memory(config).policy.lm
            yield _found("batches", f"{lm.pass_tokens:,} tokens in a forward pass, {lm.slots} episodes at a time")
        except ConfigError as error:
            reason, _, fix = str(error).partition(": ")
            yield _absent("batches", True, reason, fix)


def _language_model(flag: str, name: str) -> Diagnosis:
    """Checks a language model to train, by its configuration and the files of its weights."""
    try:
        if gguf_file(name):
            return _found(flag, f"{name}, which is dequantised")
        if (file := config_file(name)) is None:
            return _absent(flag, True, f"{name} is no folder, and not in the cache", f"hf download {name}")
        way = ""
        if find_spec("torch") is not None and find_spec("transformers") is not None:
            way = f": {import_module('d2skill.policies.causal_lm.loading').describe_model(name)}"
        return _found(flag, f"{file.parent}{way}")
    except ConfigError as error:
        reason, _, fix = str(error).partition(": ")
        return _absent(flag, True, reason, fix)


def _verl(config: Config) -> Iterator[Diagnosis]:
    """Checks verl and, where it is the engine, its GPUs."""
    needed = config.engine == "verl"
    try:
        require_verl()
        yield _found("verl", metadata.version("verl"))
        if needed:
            require_devices(config)
            yield _found("verl.gpus", f"{config.verl.nodes} x {config.verl.gpus}")
    except ConfigError as error:
        reason, _, fix = str(error).partition(": ")
        yield _absent("verl", needed, reason, fix)


def _own_parts(config: Config) -> Iterator[Diagnosis]:
    """Checks that the parts of one's own can be imported; they are not made."""
    for part in PARTS:
        chosen = getattr(config, part.section)
        if chosen.kind not in part.built_in:
            try:
                find_part(part, chosen.kind.removeprefix(GYMNASIUM), chosen.folder)
                yield _found(f"{part.section}.kind", chosen.kind)
            except ConfigError as error:
                reason, _, fix = str(error).rpartition(": ")
                yield _absent(f"{part.section}.kind", True, reason, fix)


CHECKS: dict[str, _Check] = {
    "Python": _python,
    "packages": _packages,
    "parts": _own_parts,
    "GPU": _accelerators,
    "machine": _machine,
    "disk": _disk,
    "ALFWorld data": _alfworld,
    "WebShop data": _webshop,
    "search QA data": _search_qa,
    "endpoints": _servers,
    "models": _models,
    "verl": _verl,
}
"""The checks, in the order in which they run."""
