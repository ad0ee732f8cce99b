"""Files of a model: GGUF files, and checks that the weights of a folder are all there and whole."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from d2skill.errors import ConfigError
from d2skill.utils.foreign_files import parse_json, read_json, reason_of

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SHARD = "-of-"
_POINTER = b"version https://git-lfs"


def gguf_file(name: str) -> Path | None:
    """Returns the GGUF file of a name: the file itself, or the only one in a folder without a config.json.

    Raises ConfigError for a file that is no GGUF, for several of them, and without the package gguf.
    """
    path = Path(name)
    if path.is_dir() and not (path / "config.json").is_file() and not (path / "adapter_config.json").is_file():
        files = sorted(file for file in path.glob("*.gguf") if "mmproj" not in file.name.lower())
        if not files:
            return None
        if len(files) > 1:
            raise ConfigError(
                f'policy.lm.model "{name}" has {len(files)} GGUF files: name one of them, such as {files[0]}'
            )
        path = files[0]
    elif not (path.is_file() or path.suffix.lower() == ".gguf"):
        return None
    if not path.is_file():
        raise ConfigError(f'policy.lm.model "{name}" is no file: name a GGUF file, or the folder that it lies in')
    if _SHARD in path.name:
        raise ConfigError(
            f'policy.lm.model "{path}" is a part of a GGUF file: join the parts with llama-gguf-split --merge first'
        )
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if start == _POINTER:
        raise ConfigError(f"{path} is a pointer of Git LFS and no weights: get it with `git lfs pull`")
    if not start.startswith(b"GGUF"):
        raise ConfigError(f'policy.lm.model "{path}" is no GGUF file: name a GGUF file, a model folder or an id')
    if find_spec("gguf") is None:
        raise ConfigError(f"policy.lm.model \"{path}\" needs the package gguf: pip install 'd2skill[gguf]'")
    return path


def source(name: str) -> tuple[str, dict[str, Any]]:
    """Returns the folder or id of a name, and the options with which Transformers reads it."""
    file = gguf_file(name)
    return (name, {}) if file is None else (str(file.parent), {"gguf_file": file.name})


def check_weight_files(folder: Path, name: str) -> None:
    """Raises ConfigError if a folder has no weights, lacks some of them, or has a file that is cut off.

    Args:
        folder: folder of a model of Transformers.
        name: name of the model, for the message.
    """
    again = "get the model again, with hf download or a copy of the whole folder"
    index = next((folder / f"{file}.index.json" for file in WEIGHTS if (folder / f"{file}.index.json").is_file()), None)
    single = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if single:
        files = [single]
    elif index:
        try:
            named = read_json(index)["weight_map"].values()
            files = [folder / file for file in sorted(set(named))]
        except Exception as error:
            raise ConfigError(f"{index} cannot be read ({reason_of(error)}): {again}") from None
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            count = f"{len(missing)} of {len(files)} files" if len(missing) > 1 else "a file"
            raise ConfigError(
                f'policy.lm.model "{name}" lacks {count} that {index.name} names, {missing[0]} first: {again}'
            )
    else:
        raise ConfigError(f'policy.lm.model "{name}" has no weights, no {WEIGHTS[0]} in {folder}: {again}')
    for file in files:
        if problem := _damage(file):
            raise ConfigError(f"{file} {problem}: delete it and {again}")


def _damage(file: Path) -> str:
    """Returns the damage of a file of weights, as far as its size and its header show it; "" if there is none."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(len(_POINTER))
        if start == _POINTER:
            return "is a pointer of Git LFS and no weights"
        if size < 8:
            return f"is cut off, it has {size} bytes"
        if file.suffix != ".safetensors":
            return ""
        length = int.from_bytes(start[:8], "little")
        if length > size - 8:
            return f"is cut off or no safetensors, it has {size:,} bytes"
        stream.seek(8)
        try:
            tensors = parse_json(stream.read(length))
            ends = [tensor["data_offsets"][1] for key, tensor in tensors.items() if key != "__metadata__"]
            wanted = 8 + length + max(ends, default=0)
        except Exception:
            return "is no safetensors"
    return f"is cut off, it has {size:,} of {wanted:,} bytes" if size < wanted else ""
