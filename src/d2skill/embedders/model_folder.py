"""The folder of an embedding model: where it is, and what its files say of how vectors are made.

The files are those that sentence-transformers writes beside a model; what is not in them is the model's own. Only
safetensors are read: nothing in such a folder is unpickled or executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from d2skill.errors import ConfigError

_LEGACY_MODES = {
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
"""Names of sentence-transformers, and ours."""
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja"]
_UNWANTED = ["onnx/*", "openvino/*", "original/*"]
_SAMPLES, _SAMPLE_BYTES = 64, 1024
_LONGEST_HEADER = 100 * 2**20  # what safetensors itself allows


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What the files of a model say.

    `pooling` are the ways to make a vector of token states, one after another; empty where no file tells. `prompt` is
    put before each text, and its tokens are pooled only with `include_prompt`. `max_tokens` cuts a text, None where no
    file tells. `digest` is of the files, and of samples of the weights.
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
    """Returns the folder of a model: `name` itself, or what the hub has under that id, downloaded once.

    Raises `ConfigError` for a model that is in neither place.
    """
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except Exception as error:  # of the hub's client, its HTTP library or the system: all mean the same here
        raise ConfigError(
            f'embedder.model "{name}" is no folder, nor to be had from the hub ({_first_line(error)}): check its name, '
            "the network and HF_HUB_OFFLINE, or use embedder.kind hashed"
        ) from error


def read_folder(path: Path, name: str, prompt: str | None) -> ModelFolder:
    """Returns what the files of a model say; a `prompt` that is given stands for the model's own.

    Raises `ConfigError` that names the file that is missing or broken, or a module that is not supported.
    """
    inner, pooling_path = _modules(path)
    config = _object(inner / "config.json")
    if not config:
        raise ConfigError(f"{path} has no config.json: is it the folder of a Hugging Face model?")
    if config.get("is_encoder_decoder"):
        raise ConfigError(f"{path} holds an encoder-decoder, of which no vectors are made: use another embedding model")
    pooling = _object(pooling_path / "config.json") if pooling_path else {}
    sentence = next((_object(file) for file in sorted(inner.glob("sentence_*_config.json"))), {})
    digest = blake2b(digest_size=5)
    for file in _files(path, inner, pooling_path):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    for file in _weights(inner):
        for sample in _samples(file):
            digest.update(sample)
    longest = sentence.get("max_seq_length")
    return ModelFolder(
        inner,
        Path(name).name or path.resolve().name,
        _pooling(path, pooling) if pooling_path else (),
        bool(pooling.get("include_prompt", True)),
        _usual_prompt(path) if prompt is None else prompt,
        bool(sentence.get("do_lower_case", False)),
        longest if isinstance(longest, int) and longest > 0 else None,
        digest.hexdigest(),
    )


def _modules(path: Path) -> tuple[Path, Path | None]:
    """Returns the folders of the language model and of the pooling, None for the latter where no file tells."""
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
    """Returns the ways of pooling in the order in which sentence-transformers joins their vectors."""
    given = config.get("pooling_mode")
    if given is None:
        given = [mode for flag, mode in _LEGACY_MODES.items() if config.get(flag)] or ["mean"]
    else:
        given = given if isinstance(given, list) else [given]
        given = [_MODES.get(str(mode), str(mode)) for mode in given]
    if unknown := [mode for mode in given if mode not in _MODES.values()]:
        raise ConfigError(
            f'{path} pools by "{unknown[0]}", which is not supported: use a model that pools by '
            f"{', '.join(_MODES.values())}, or serve this one and use embedder.kind openai"
        )
    return tuple(given)


def _usual_prompt(path: Path) -> str:
    """Returns what a model wants before each text unless it is told otherwise; most want nothing."""
    config = _object(path / "config_sentence_transformers.json")
    prompts = config.get("prompts")
    usual = prompts.get(config.get("default_prompt_name")) if isinstance(prompts, dict) else None
    return usual if isinstance(usual, str) else ""


def _files(path: Path, inner: Path, pooling: Path | None) -> Iterator[Path]:
    """Yields the small files that vectors depend on."""
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    every = [path / "modules.json", *(inner / name for name in names), *sorted(inner.glob("sentence_*_config.json"))]
    if pooling:
        every.append(pooling / "config.json")
    yield from (file for file in every if file.is_file())


def _weights(inner: Path) -> list[Path]:
    files = sorted(inner.glob("*.safetensors"))
    if not files:
        raise ConfigError(
            f"{inner} has no weights in safetensors, the only ones that are read: convert those there are, or use "
            "another model"
        )
    return files


def _samples(file: Path) -> Iterator[bytes]:
    """Yields name, size and header of a file of weights, and samples from all over it; raises if it is cut short."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length) if length <= min(size, _LONGEST_HEADER) else b""
        try:
            ends = [of["data_offsets"][1] for of in json.loads(header).values() if "data_offsets" in of]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            ends = []
        if not ends or 8 + length + max(ends) != size:
            raise ConfigError(f"{file} is damaged or was not copied whole: get the model again")
        yield f"{file.name} {size}".encode()
        yield header
        for sample in range(_SAMPLES):
            opened.seek(8 + length + max(0, max(ends) - _SAMPLE_BYTES) * sample // (_SAMPLES - 1), os.SEEK_SET)
            yield opened.read(_SAMPLE_BYTES)


def _object(file: Path) -> dict[str, Any]:
    """Returns the JSON object in a file, an empty one where there is no file."""
    value = _json(file) or {}
    if not isinstance(value, dict):
        raise ConfigError(f"{file} holds no JSON object: get the model again")
    return value


def _json(file: Path) -> Any:
    """Returns the JSON of a file, None where there is no file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({_first_line(error)}): get the model again") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
