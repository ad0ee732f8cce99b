"""Parts by name: a built-in kind, a class of one's own, `package.module:Class`, or an entry point of a package.

Only the module of the kind that is asked for is imported. The current folder can be imported from, as with `python -m`,
and so can the folder that a run recorded for a part, which `folder_of` finds.
"""

from __future__ import annotations

import importlib
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, cast, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, JsonValue, ValidationError, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from d2skill.errors import ConfigError, D2SkillError
from d2skill.utils.foreign_files import parse_json

GYMNASIUM = "gymnasium:"
"""Prefix of the kind of an environment with Gymnasium's interface"""


@dataclass(frozen=True, slots=True)
class PartType:
    """A type of part: its name in sentences, its section and table of settings, and the kinds that there are.

    `group` is the group of entry points in which an installed package declares more kinds, `needs` are the names that a
    part has to have by its `protocol` (with | one of some), and `extra` is the extra with the packages of the built-in
    kinds, or "{kind}" for extras named as the kinds.
    """

    name: str
    section: str
    table: str
    group: str
    protocol: str
    needs: tuple[str, ...]
    built_in: Mapping[str, str]
    extra: str = ""


ENVIRONMENT = PartType(
    "environment",
    "env",
    "args",
    "d2skill.environments",
    "Environment",
    ("task_ids", "start"),
    {
        "houses": "d2skill.envs.houses.environment:HousesEnvironment",
        "alfworld": "d2skill.envs.alfworld.environment:AlfworldEnvironment",
        "webshop": "d2skill.envs.webshop.environment:WebshopEnvironment",
        "search-qa": "d2skill.envs.search_qa.environment:SearchQAEnvironment",
    },
)
POLICY = PartType(
    "policy",
    "policy",
    "settings",
    "d2skill.policies",
    "Policy",
    ("count_tokens", "act", "update", "imitate", "freeze_reference", "save", "load"),
    {
        "scorer": "d2skill.policies.scorer.policy:ScorerPolicy",
        "causal-lm": "d2skill.policies.causal_lm.policy:CausalLMPolicy",
        "served": "d2skill.policies.served:ServedPolicy",
    },
    "train",
)
REFLECTOR = PartType(
    "reflector",
    "reflect",
    "settings",
    "d2skill.reflectors",
    "Reflector",
    ("reflect|reflect_groups",),
    {
        "contrast": "d2skill.reflectors.contrast:ContrastReflector",
        "llm": "d2skill.reflectors.llm:LLMReflector",
        "policy": "d2skill.reflectors.policy:PolicyReflector",
    },
    "llm",
)
EMBEDDER = PartType(
    "embedder",
    "embedder",
    "settings",
    "d2skill.embedders",
    "Embedder",
    ("fingerprint", "dimension", "task_gate", "step_gate", "embed"),
    {
        "hashed": "d2skill.embedders.hashed:HashedEmbedder",
        "transformers": "d2skill.embedders.transformers:TransformersEmbedder",
        "openai": "d2skill.embedders.openai:EndpointEmbedder",
    },
    "train",
)
TRACKER = PartType(
    "tracker",
    "tracker",
    "settings",
    "d2skill.trackers",
    "Tracker",
    ("log",),
    {
        "tensorboard": "d2skill.trackers.tensorboard:TensorBoardTracker",
        "wandb": "d2skill.trackers.wandb:WandbTracker",
        "mlflow": "d2skill.trackers.mlflow:MlflowTracker",
        "trackio": "d2skill.trackers.trackio:TrackioTracker",
    },
    "{kind}",
)

PARTS = (ENVIRONMENT, POLICY, REFLECTOR, EMBEDDER)
"""The types of part that settings choose"""


class Kind:
    """Mark of a setting that names a part, in its `Annotated`: a kind that nothing declares is refused.

    The settings of a run that was made are read without (context "of_run"): its bank can be, even if a package is gone.
    """

    def __init__(self, part: PartType) -> None:
        self.part = part
        self.metavar = "|".join([*part.built_in, "MODULE:CLASS"])

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        """Returns the schema of a text that is a kind."""
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def _check(self, kind: str, info: ValidationInfo) -> str:
        if kind not in self.part.built_in and ":" not in kind and not (info.context or {}).get("of_run"):
            try:
                _entry_point(self.part, kind)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return kind


def _as_table(value: Any) -> Any:
    """Returns a table; a flag gives one as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is no table in JSON ({error}): write it as in '{{\"depth\": 3}}'") from None


def _without_null(table: dict[str, JsonValue]) -> dict[str, JsonValue]:
    def values(value: Any) -> Iterable[Any]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        return [value, *(found for one in inner for found in values(one))]

    if any(value is None for value in values(table)):
        raise ValueError("a table of settings has a null, which no TOML file can hold: leave it out")
    return table


Table = Annotated[dict[str, JsonValue], BeforeValidator(_as_table), AfterValidator(_without_null)]
"""Settings of a part of one's own, which the part itself validates"""


def require_own_kind(part: PartType, kind: str, table: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a table of settings beside a built-in kind, which takes none."""
    if table and kind in part.built_in:
        raise ValueError(
            f"{part.section}.{part.table} is for your own kind of {part.name}, and {part.section}.kind {kind} has "
            "settings by name: leave it out, or see `d2skill config show`"
        )


def find_part(part: PartType, kind: str, folder: Path | None = None) -> Callable[..., Any]:
    """Returns the class, or function, that makes a part of a kind.

    Args:
        part: The type of part.
        kind: A built-in kind, `package.module:Class`, or the name of an entry point.
        folder: Folder that the module lies in; it is looked for there and in the current folder first.

    Raises `ConfigError` for a kind, module or name that is not there, and for a module whose own import fails.
    """
    if kind not in part.built_in:
        return _import(part, kind if ":" in kind else _entry_point(part, kind), folder)
    module, _, name = part.built_in[kind].partition(":")
    try:
        return cast(Callable[..., Any], getattr(importlib.import_module(module), name))
    except ImportError as error:
        if not part.extra:
            raise
        extra = part.extra.format(kind=kind)
        raise ConfigError(
            f'{part.name} "{kind}" needs the package {error.name}: pip install "d2skill[{extra}]"'
        ) from None


def make_part(part: PartType, kind: str, settings: Mapping[str, Any], folder: Path | None = None, **more: Any) -> Any:
    """Makes a part of one's own and sees that it has what its protocol asks for.

    Args:
        part: The type of part.
        kind: As for `find_part`.
        settings: Settings, validated by the pydantic model that annotates the parameter `settings` of the class, or
            that the class has as `Settings`; without such a parameter they are keyword arguments.
        folder: As for `find_part`.
        more: More arguments.
    """
    made = bound(part, kind, find_part(part, kind, folder), settings, **more)()
    require_protocol(part, kind, made)
    return made


def require_protocol(part: PartType, kind: str, made: object, way_out: str = "") -> None:
    """Raises `ConfigError` if an object lacks a name that the protocol of its part has.

    Args:
        part: The type of part.
        kind: The kind that it was made of.
        made: The object.
        way_out: Advice that takes the place of the name of the protocol.
    """
    there = set(dir(made))
    missing = [name.replace("|", " or ") for name in part.needs if there.isdisjoint(name.split("|"))]
    if missing:
        advice = way_out or f"see d2skill.protocols.{part.protocol}"
        names = " and ".join([*filter(None, [", ".join(missing[:-1])]), missing[-1]])
        raise ConfigError(f"{kind} is no {part.name}, it lacks {names}: {advice}")


def bound(
    part: PartType, kind: str, target: Callable[..., Any], settings: Mapping[str, Any], **more: Any
) -> Callable[[], Any]:
    """Returns the call that makes a part with its settings; whatever it raises becomes a sentence for the user.

    Args:
        part: The type of part.
        kind: The kind, for sentences.
        target: Its class.
        settings: As for `make_part`.
        more: More arguments.
    """
    arguments = _arguments(part, kind, target, settings, more) | more

    def make() -> Any:
        try:
            return target(**arguments)
        except D2SkillError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{part.name} {kind} could not be made ({described(error)})") from error

    return make


def takes(target: Callable[..., Any], name: str) -> bool:
    """Returns True if a class has a parameter of this name."""
    return name in (_parameters(target) or {})


def folder_of(kind: str, folder: Path | None = None) -> Path | None:
    """Returns the folder that the module of a kind is imported from, or `folder` if it is not found.

    It is None for what every process finds by itself: built-in kinds, and modules of installed packages.
    """
    top = kind.removeprefix(GYMNASIUM).partition(":")[0].partition(".")[0]
    if ":" not in kind or top in ("", "__main__"):
        return folder
    _make_importable(folder)
    try:
        spec = find_spec(top)
    except (ValueError, ImportError):  # a module that something else put among the imported ones
        spec = None
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        return folder
    place = Path([*(spec.submodule_search_locations or []), spec.origin or ""][0]).resolve().parent
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    return None if installed & {place, *place.parents} else place


def described(error: BaseException) -> str:
    """Returns an exception in words, with its innermost line, which is the one to look at."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"  # its text names file and line
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    at = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {error}{at}"


def _own_class(kind: str) -> str:
    """Returns the class of a module in the current folder, given by its name alone, as a question; "" if none."""
    file = Path(f"{kind}.py")
    if not kind.isidentifier() or not file.is_file():
        return ""
    names = re.findall(r"^class (\w+)", file.read_text("utf-8", "replace"), re.MULTILINE)
    alike = [name for name in names if name.lower() == kind.replace("_", "").lower()]
    return f" (did you mean {kind}:{[*alike, *names][0]}?)" if names else ""


def _entry_point(part: PartType, kind: str) -> str:
    """Returns the "module:Class" that an installed package declares for a kind."""
    declared = {point.name: point.value for point in entry_points(group=part.group)}
    if kind in declared:
        return declared[kind].partition("[")[0].strip()
    known = [*part.built_in, *sorted(declared)]
    dotted = ":".join(kind.rpartition(".")[::2])
    hint = f" (did you mean {dotted}?)" if "." in kind else _own_class(kind) or _did_you_mean(kind, known)
    raise ConfigError(
        f'there is no {part.name} "{kind}"{hint}: set {_setting(part)} to one of {", ".join(known)}, or to '
        "package.module:Class" + " or gymnasium:package.module:Class" * (part is ENVIRONMENT)
    )


def _setting(part: PartType) -> str:
    """Returns the setting that chooses a part."""
    return "track" if part is TRACKER else f"{part.section}.kind"


def _did_you_mean(word: str, known: Iterable[str], form: str = "{}") -> str:
    """Returns the known word that is most like a misspelt one, as a question; "" if none is like it."""
    words = {one.lower(): one for one in known}
    near = get_close_matches(word.lower(), words, 1)
    return f" (did you mean {form.format(words[near[0]])}?)" if near else ""


def _nearest_module(module: str, absent: str, name: str, places: list[str]) -> str:
    """Returns the class in the module most like one that is absent, a file or package in its folder, as a question."""
    parent = absent.rpartition(".")[0]
    inside = getattr(sys.modules.get(parent), "__path__", None)
    word, form = absent, f"{{}}{module[len(absent) :]}:{name}"
    if inside is not None:
        word, form = absent.rpartition(".")[2], f"{parent}.{form}"
    return _did_you_mean(word, (found.name for found in iter_modules(inside or places)), form)


def _make_importable(folder: Path | None) -> list[str]:
    """Puts the current folder and `folder` on `sys.path`, where they stay, as a module may import later."""
    places = [str(place.absolute()) for place in (folder, Path.cwd()) if place is not None]
    for place in reversed(places):
        if place not in sys.path:
            sys.path.insert(0, place)
    importlib.invalidate_caches()  # a file may be newer than the last look at its folder
    return list(dict.fromkeys(places))


def _import(part: PartType, path: str, folder: Path | None) -> Callable[..., Any]:
    """Imports "module:Class"."""
    module, _, name = path.partition(":")
    if not module or not name or "/" in module or module.startswith("."):
        raise ConfigError(f'"{path}" names no class: write package.module:Class')
    places = _make_importable(folder)
    try:
        target: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        what = f"module {module} of {part.name} {path}"
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{module}.".startswith(f"{absent}."):
            raise ConfigError(
                f"{what} is neither in {' nor in '.join(places)} nor installed"
                f"{_nearest_module(module, absent, name, places)}: run from the folder it lies in, "
                f"{'' if part is TRACKER else f'or set {part.section}.folder to it, '}or install its package"
            ) from None
        said = f"{what} was found, but its own import fails ({described(error)}): mend that first"
        raise ConfigError(said) from error
    before = f"{module}:"
    for step in name.split("."):
        if not hasattr(target, step):
            callables = [key for key in getattr(target, "__dict__", ()) if callable(getattr(target, key, None))]
            there = [key for key in callables if _is_own_class(getattr(target, key), module)]
            known = f"it has {', '.join(there)}" if there else "it has no class of its own"
            hint = _did_you_mean(step, there, before + "{}") or _did_you_mean(step, callables, before + "{}")
            raise ConfigError(f"module {module} has no {name}{hint}: {known}")
        target, before = getattr(target, step), f"{before}{step}."
    if not callable(target):
        raise ConfigError(f"{path} is a {type(target).__name__}, not a class: name the class, not an object of it")
    return cast(Callable[..., Any], target)


def _is_own_class(value: object, module: str) -> bool:
    return isinstance(value, type) and value.__module__ == module


def _parameters(target: Callable[..., Any]) -> dict[str, Parameter] | None:
    """Returns the parameters of a class by name; None for one without a signature, as some written in C are."""
    try:
        return dict(signature(target, eval_str=True).parameters)
    except (NameError, TypeError, ValueError):
        try:
            return dict(signature(target).parameters)
        except (TypeError, ValueError):
            return None


def _arguments(
    part: PartType, kind: str, target: Callable[..., Any], settings: Mapping[str, Any], more: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns settings as arguments of a class; raises `ConfigError` for those that do not fit it."""
    parameters = _parameters(target)
    of_settings = (parameters or {}).get("settings")
    annotation = of_settings and of_settings.annotation
    for model in (annotation, *get_args(annotation), of_settings and getattr(target, "Settings", None)):
        if isinstance(model, type) and issubclass(model, BaseModel):
            try:
                return {"settings": model.model_validate(settings)}
            except ValidationError as error:
                raise ConfigError(_explain(part, kind, model, error)) from None
    if parameters is None or any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values()):
        return dict(settings)
    named = {name: one for name, one in parameters.items() if one.kind is not Parameter.VAR_POSITIONAL}
    for name in settings:
        if name not in named:
            raise ConfigError(_unknown(part, kind, name, list(named)))
    for name, one in named.items():
        if one.default is Parameter.empty and name not in {**settings, **more}:
            raise ConfigError(f"{part.name} {kind} needs {name}: set {part.section}.{part.table}.{name}")
    return dict(settings)


def _unknown(part: PartType, kind: str, name: str, known: list[str]) -> str:
    there = f"it takes {', '.join(known)}" if known else "it takes none"
    return f"{part.section}.{part.table}.{name} is no setting of {kind}{_did_you_mean(name, known)}: {there}"


def _explain(part: PartType, kind: str, model: type[BaseModel], error: ValidationError) -> str:
    """Returns the first mistake that a part's own model finds as a sentence, and the number of further ones."""
    first, *others = error.errors()
    path = ".".join(str(step) for step in first["loc"])
    name = f"{part.section}.{part.table}" + f".{path}" * bool(path)
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        said = _unknown(part, kind, path, list(model.model_fields))
    elif first["type"] == "missing":
        said = f"{part.name} {kind} needs {path}: set {name}"
    elif first["type"] == "value_error":
        said = f"{name} of {kind}: {first['ctx']['error']}"
    else:
        said = f"{name} = {first['input']!r} of {kind}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return said + (f" (and {len(others)} more)" if others else "")
