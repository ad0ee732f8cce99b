"""Embedder for models behind an OpenAI-compatible server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from d2skill.config import EmbedderConfig
from d2skill.endpoints import OPENAI, check, connect, map_concurrently, one_line, with_retries
from d2skill.errors import ConfigError, EndpointFault
from d2skill.utils.foreign_files import parse_json

_FLAG = "--embedder.endpoint"
_MOST_DIMENSIONS = 32768


class EndpointEmbedder:
    """Embedding model at a server: one request for each batch of texts, several at a time.

    The server's vectors are normalised to unit vectors of float32. A request that fails raises `ConfigError`.
    """

    def __init__(self, settings: EmbedderConfig) -> None:
        """Connects to the server and requests one vector, to learn the dimension.

        Raises `ConfigError` if the server does not answer or does not know the model.
        """
        endpoint = settings.endpoint
        self._client = connect(endpoint, _FLAG)
        check(self._client, endpoint, _FLAG, "embeddings")
        self._endpoint = endpoint
        self._batch_texts, self._prompt = settings.batch_texts, settings.prompt or ""
        self.url = endpoint.url or OPENAI
        self.dimension = 0
        self.dimension = self._request(["dimension"]).shape[1]
        suffix = f"/{self._prompt!r}" if self._prompt else ""
        suffix += f"/{json.dumps(endpoint.extra, sort_keys=True)}" if endpoint.extra else ""
        self.fingerprint = f"openai/{endpoint.model}/{self.dimension}{suffix}"

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns unit vectors, shape [len(texts), dimension]; equal texts of one call get equal ones."""
        unique = list(dict.fromkeys(texts))
        batches = [unique[start : start + self._batch_texts] for start in range(0, len(unique), self._batch_texts)]
        answers = map_concurrently(self._request, batches, self._endpoint.concurrency)
        vectors = np.concatenate([np.zeros((0, self.dimension), dtype=np.float32), *answers])
        place = {text: i for i, text in enumerate(unique)}
        return vectors[[place[text] for text in texts]]

    def _request(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the vectors of one batch of texts."""
        import openai

        wanted = [self._prompt + text or " " for text in texts]  # servers refuse an empty text
        try:
            raw = with_retries(
                lambda: self._client.embeddings.with_raw_response.create(
                    model=self._endpoint.model,
                    input=wanted,
                    encoding_format="float",
                    extra_body=self._endpoint.request_fields,
                ),
                self._endpoint,
            )
            rows = _in_order(parse_json(raw.http_response.content)["data"])
        except openai.APITimeoutError:
            raise ConfigError(
                f"{self.url} did not answer within {self._endpoint.timeout:g} s: check the server and start again, or "
                f"raise {_FLAG}.timeout; what was embedded before stays in the cache"
            ) from None
        except (openai.OpenAIError, EndpointFault, OSError) as error:
            raise ConfigError(
                f'{self.url} made no vectors with "{self._endpoint.model}" ({one_line(error.__cause__ or error)}): '
                "check the server and start again; what was embedded before stays in the cache"
            ) from None
        except (AttributeError, LookupError, TypeError, ValueError):
            raise self._error("sent an answer without embeddings") from None
        return self._vectors(rows, len(texts))

    def _vectors(self, rows: list[Any], count: int) -> npt.NDArray[np.float32]:
        """Returns the rows of an answer as unit vectors. Raises `ConfigError` for wrong counts, lengths or values."""
        if len(rows) != count:
            raise self._error(f"sent {len(rows)} vectors for {count} texts")
        lengths = {len(row) for row in rows if isinstance(row, list)}
        if len(lengths) != 1 or not all(isinstance(row, list) for row in rows):
            raise self._error("sent vectors of several lengths, or none")
        if (length := lengths.pop()) != (self.dimension or length) or not 1 <= length <= _MOST_DIMENSIONS:
            raise self._error(f"sent vectors of {length} numbers" + f", not {self.dimension}" * bool(self.dimension))
        try:
            vectors = np.asarray(rows, dtype=np.float64)
        except Exception:  # of texts, of nested lists, of numbers beyond a float
            raise self._error("sent vectors that are not numbers") from None
        if vectors.ndim != 2:
            raise self._error("sent vectors that are not numbers")
        with np.errstate(over="ignore"):
            norms = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        if not np.isfinite(norms).all() or not (norms > 0).all():
            raise self._error("sent vectors that are 0 or not finite")
        return np.asarray(vectors / norms, dtype=np.float32)

    def _error(self, what: str) -> ConfigError:
        model = self._endpoint.model
        return ConfigError(f'{self.url} {what} for "{model}": is that an embedding model? Set {_FLAG}.model to one')


def _in_order(answers: list[dict[str, Any]]) -> list[Any]:
    """Returns the vectors of an answer in the order of their index, or as they came if the server leaves it out."""
    indices = [answer.get("index") for answer in answers]
    if any(index is not None for index in indices):
        if sorted(indices) != list(range(len(answers))):  # type: ignore[type-var]
            raise ValueError("the indices of its vectors are not those of the texts")
        answers = sorted(answers, key=lambda answer: int(answer["index"]))
    return [answer["embedding"] for answer in answers]
