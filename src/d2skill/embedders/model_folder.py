"""Folder of an embedding model: finds it, and reads pooling, prompt and limits from the files of sentence-transformers.

Only safetensors are read: nothing in such a folder is unpickled or executed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from d2skill.errors import ConfigError
from d2skill.utils.foreign_files import parse_json, read_bytes, read_json

_LEGACY_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_MODES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "lasttoken": "last",
}
"""Pooling modes by their names in sentence-transformers."""
_ALLOWED_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja"]
_IGNORED_FILES = ["onnx/*", "openvino/*", "original/*"]
_SAMPLES, _SAMPLE_BYTES = 64, 1024
_LONGEST_HEADER = 100 * 2**20  # what safetensors itself allows


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Settings of a model, as its files have them.

    `pooling` lists the modes whose vectors are joined; it is empty if no file has one. `prompt` is put before each
    text, and its tokens are pooled only with `include_prompt`. Longer texts are cut to `max_tokens`, None if no file
    has it. `digest` is a hash of the files and of samples of the weights.
    """

    path: Path
    name: str
    pooling: tuple[str, ...]
    include_prompt: bool
    prompt: str
    lower_case: bool
    max_tokens: int | None
    digest: str


def find_model(name: str) -> Path:
    """Returns the folder of a model: `name` itself, or a download of that id from the Hugging Face hub.

    Raises `ConfigError` for a model that is in neither place.
    """
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_ALLOWED_FILES, ignore_patterns=_IGNORED_FILES))
    except Exception as error:  # of the hub's client, its HTTP library or the system: all mean the same here
        raise ConfigError(
            f'embedder.model "{name}" is neither a folder nor a model on the hub ({_first_line(error)}): check its '
            "name, the network and HF_HUB_OFFLINE, or use embedder.kind hashed"
        ) from error


def read_model_folder(path: Path, name: str, prompt: str | None) -> ModelFolder:
    """Reads the files of a model; a `prompt` that is given replaces the model's own.

    Raises `ConfigError` for a file that is missing or broken, and for a module that is not supported.
    """
    inner, pooling_path = _modules(path)
    config = _object(inner / "config.json")
    if not config:
        raise ConfigError(f"{path} has no config.json: is it the folder of a Hugging Face model?")
    if config.get("is_encoder_decoder"):
        raise ConfigError(f"{path} holds an encoder-decoder, which is not supported: use another embedding model")
    pooling = _object(pooling_path / "config.json") if pooling_path else {}
    sentence = next((_object(file) for file in sorted(inner.glob("sentence_*_config.json"))), {})
    digest = blake2b(digest_size=5)
    for file in _files(path, inner, pooling_path):
        digest.update(file.name.encode() + b"\0" + read_bytes(file) + b"\0")
    for file in _weights(inner):
        for sample in _samples(file):
            digest.update(sample)
    longest = sentence.get("max_seq_length")
    return ModelFolder(
        inner,
        Path(name).name or path.resolve().name,
        _pooling(path, pooling) if pooling_path else (),
        bool(pooling.get("include_prompt", True)),
        _default_prompt(path) if prompt is None else prompt,
        bool(sentence.get("do_lower_case", False)),
        longest if isinstance(longest, int) and longest > 0 else None,
        digest.hexdigest(),
    )


def _modules(path: Path) -> tuple[Path, Path | None]:
    """Returns the folders of the language model and of the pooling, None for the latter if no file has one."""
    modules = _json(path / "modules.json") or []
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ConfigError(f"{path / 'modules.json'} is no list of modules: get the model again")
    inner, pooling = path, None
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Transformer":
            inner = path / str(module.get("path", ""))
        elif kind == "Pooling":
            pooling = path / str(module.get("path", ""))
        elif kind != "Normalize":
            raise ConfigError(
                f'{path} has a module "{kind}" after its pooling, which is not supported: use a model of transformer '
                "and pooling alone, or serve this one and use embedder.kind openai"
            )
    return inner, pooling


def _pooling(path: Path, config: dict[str, Any]) -> tuple[str, ...]:
    """Returns the pooling modes in the order in which sentence-transformers joins their vectors."""
    mode = config.get("pooling_mode")
    if mode is None:
        modes = [mode for flag, mode in _LEGACY_FLAGS.items() if config.get(flag)] or ["mean"]
    else:
        modes = [_MODES.get(str(name), str(name)) for name in (mode if isinstance(mode, list) else [mode])]
    if unknown := [mode for mode in modes if mode not in _MODES.values()]:
        raise ConfigError(
            f'{path} pools by "{unknown[0]}", which is not supported: use a model that pools by '
            f"{', '.join(_MODES.values())}, or serve this one and use embedder.kind openai"
        )
    return tuple(modes)


def _default_prompt(path: Path) -> str:
    """Returns the default prompt of a model, "" for most."""
    config = _object(path / "config_sentence_transformers.json")
    prompts = config.get("prompts")
    default = prompts.get(config.get("default_prompt_name")) if isinstance(prompts, dict) else None
    return default if isinstance(default, str) else ""


def _files(path: Path, inner: Path, pooling: Path | None) -> Iterator[Path]:
    """Yields the small files that the vectors depend on."""
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    every = [path / "modules.json", *(inner / name for name in names), *sorted(inner.glob("sentence_*_config.json"))]
    if pooling:
        every.append(pooling / "config.json")
    yield from (file for file in every if file.is_file())


def _weights(inner: Path) -> list[Path]:
    files = sorted(inner.glob("*.safetensors"))
    if not files:
        raise ConfigError(
            f"{inner} has no weights in safetensors, the only format that is read: convert them, or use another model"
        )
    return files


def _samples(file: Path) -> Iterator[bytes]:
    """Yields name, size, header and samples of a file of weights. Raises `ConfigError` if it is cut short."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length) if length <= min(size, _LONGEST_HEADER) else b""
        try:
            ends = [int(of["data_offsets"][1]) for of in parse_json(header).values() if "data_offsets" in of]
        except Exception:
            ends = []
        if not ends or 8 + length + max(ends) != size:
            raise ConfigError(f"{file} is damaged or was not copied whole: get the model again")
        yield f"{file.name} {size}".encode()
        yield header
        for sample in range(_SAMPLES):
            opened.seek(8 + length + max(0, max(ends) - _SAMPLE_BYTES) * sample // (_SAMPLES - 1), os.SEEK_SET)
            yield opened.read(_SAMPLE_BYTES)


def _object(file: Path) -> dict[str, Any]:
    """Returns the JSON object in a file, an empty one if there is no file."""
    value = _json(file) or {}
    if not isinstance(value, dict):
        raise ConfigError(f"{file} holds no JSON object: get the model again")
    return value


def _json(file: Path) -> Any:
    """Returns the JSON of a file, None if there is no file."""
    try:
        return read_json(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({_first_line(error)}): get the model again") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
