"""Embedder for local models, by Hugging Face Transformers, with the model's own pooling.

Texts are padded on the right, whatever the tokenizer's side. So padding changes no vector, neither in an encoder, where
it is masked, nor in a causal model, where no token attends to later ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from d2skill.config import EmbedderConfig
from d2skill.embedders.model_folder import ModelFolder, find_model, read_model_folder
from d2skill.errors import ConfigError
from d2skill.utils.torch_device import device_named

_CPU_BATCH, _GPU_BATCH = 1024, 16384  # tokens
_OPTIONAL_WEIGHTS = ("pooler.", "embeddings.position_ids")  # heads that no pooling here uses


class TransformersEmbedder:
    """Local embedding model; the vector of a text does not depend on its batch, except for rounding.

    A text of more tokens than the model takes is cut, as by sentence-transformers.
    """

    def __init__(self, settings: EmbedderConfig) -> None:
        """Loads the model. Raises `ConfigError` if model or device cannot be used."""
        folder = self._folder = read_model_folder(find_model(settings.model), settings.model, settings.prompt)
        dtype, self._device = settings.dtype, device_named(settings.device, "embedder.device")
        self._batch_tokens = settings.batch_tokens or (_CPU_BATCH if self._device.type == "cpu" else _GPU_BATCH)
        self._model, self._tokenizer = _load(folder, dtype, self._device)
        config = self._model.config
        self._pooling = folder.pooling or (("last",) if _is_causal(config.model_type) else ("mean",))
        model_limit = min(getattr(config, "max_position_embeddings", None) or 2**20, self._tokenizer.model_max_length)
        self._max_tokens = folder.max_tokens or model_limit
        self._prompt_tokens = 0 if folder.include_prompt else self._token_count(folder.prompt)
        self.dimension = self._measure_dimension()
        prompt = f"/{folder.prompt!r}" if folder.prompt else ""
        self.fingerprint = (
            f"transformers/{folder.name}@{folder.digest}/{'+'.join(self._pooling)}/{self.dimension}/{dtype}{prompt}"
        )

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns unit vectors, shape [len(texts), dimension]; equal texts of one call get equal ones."""
        unique = list(dict.fromkeys(texts))
        tokens = self._tokens(unique) if unique else []
        vectors = np.zeros((len(unique), self.dimension), dtype=np.float32)
        try:
            for batch in _batches([len(ids) for ids in tokens], self._batch_tokens):
                vectors[batch] = self._forward([tokens[i] for i in batch])
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"the memory of {self._device} is too small for {self._batch_tokens} tokens at a time: lower "
                "embedder.batch_tokens, or set embedder.device cpu"
            ) from error
        if not np.isfinite(vectors).all():
            raise ConfigError(f"{self._folder.path} gives vectors that are not finite: try embedder.dtype float32")
        place = {text: i for i, text in enumerate(unique)}
        return vectors[[place[text] for text in texts]]

    def _measure_dimension(self) -> int:
        """Returns the dimension of the vectors; raises `ConfigError` if the model cannot embed a text."""
        try:
            return int(self._forward(self._tokens(["text"])).shape[1])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"{self._folder.path} cannot embed texts ({first}): use an embedding model for texts"
            ) from error

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        whole = [self._folder.prompt + text for text in texts]
        if self._folder.lower_case:
            whole = [text.lower() for text in whole]
        ids = self._tokenizer(whole, truncation=True, max_length=self._max_tokens)["input_ids"]
        return [tokens or [self._padding()] for tokens in ids]  # without special tokens, "" has none

    def _token_count(self, prompt: str) -> int:
        """Returns the number of tokens of a prompt before a text, without the token that ends a text."""
        ids = self._tokens([""])[0] if prompt else []
        return len(ids) - 1 if ids and ids[-1] in self._tokenizer.all_special_ids else len(ids)

    def _padding(self) -> int:
        return int(self._tokenizer.pad_token_id or 0)

    def _forward(self, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """Returns the vectors of one batch."""
        ids = torch.full((len(tokens), max(map(len, tokens))), self._padding(), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, text_tokens in enumerate(tokens):
            ids[row, : len(text_tokens)] = torch.tensor(text_tokens)
            mask[row, : len(text_tokens)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            pooled = mask.clone()
            pooled[:, : self._prompt_tokens] = 0
            vectors = torch.cat([pool(states, pooled, mode) for mode in self._pooling], dim=1)
            unit = torch.nn.functional.normalize(vectors, dim=1)
        return np.asarray(unit.cpu().numpy(), dtype=np.float32)


def pool(states: Any, mask: Any, mode: str) -> Any:
    """Pools token states [n, tokens, d] where the mask [n, tokens] is 1 into vectors [n, d], as sentence-transformers.

    A text with an empty mask gets the vector 0.
    """
    weights = mask.unsqueeze(2).to(states.dtype)
    if mode == "max":
        least = states.masked_fill(weights == 0, float("-inf")).amax(dim=1)
        return least.masked_fill(mask.sum(dim=1, keepdim=True) == 0, 0.0)
    if mode in ("cls", "last"):
        place = mask.argmax(dim=1) if mode == "cls" else mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return (states * weights)[torch.arange(len(states), device=states.device), place]
    total, count = (states * weights).sum(dim=1), weights.sum(dim=1).clamp(min=1e-9)
    return total / (count if mode == "mean" else count.sqrt())


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yields batches of text indices, longest texts first, of at most `budget` tokens with padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        count = max(1, budget // max(1, lengths[order[0]]))
        yield order[:count]
        order = order[count:]


@lru_cache(maxsize=1)
def _load(folder: ModelFolder, dtype: str, device: Any) -> tuple[Any, Any]:
    """Returns model and tokenizer, shared by all who embed. Raises `ConfigError` if the model is not complete."""
    try:
        with _quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False)
            model, found = AutoModel.from_pretrained(
                folder.path,
                trust_remote_code=False,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ConfigError(f"{folder.path} cannot be read as a model ({first}): get it again, or use another") from error
    if missing := [name for name in found["missing_keys"] if not name.startswith(_OPTIONAL_WEIGHTS)]:
        raise ConfigError(
            f"{folder.path} lacks weights that its config.json names ({min(missing)}): get the model again"
        )
    return model.to(device).eval().requires_grad_(False), tokenizer


def _is_causal(model_type: str) -> bool:
    """Returns True if a model type has causal attention: it is a causal LM and no masked one."""
    causal, masked = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return model_type in causal and model_type not in masked


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Turns off progress bars and reports of Transformers, and restores the settings afterwards."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
