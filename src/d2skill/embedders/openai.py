"""Embedding models behind an OpenAI-compatible server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from d2skill.config import EmbedderConfig, EndpointConfig
from d2skill.endpoints import OPENAI, check, connect, each, plain
from d2skill.errors import ConfigError

if TYPE_CHECKING:
    from openai import OpenAI

_FLAG = "--embedder.endpoint"
_LONGEST = 32768  # dimensions


class EndpointEmbedder:
    """A model at a server: one request for each batch of texts, several at a time.

    The server's vectors are made unit vectors of float32. What it cannot answer raises `ConfigError` in one sentence.
    """

    def __init__(self, client: OpenAI, settings: EndpointConfig, batch_texts: int, prompt: str) -> None:
        """Asks the server for one vector, which tells the dimension."""
        self._client = client
        self._settings = settings
        self._batch_texts = batch_texts
        self._prompt = prompt
        self.url = settings.url or OPENAI
        self.dimension = 0
        self.dimension = self._ask(["dimension"]).shape[1]
        told = f"/{prompt!r}" if prompt else ""
        self.fingerprint = f"openai/{settings.model}/{self.dimension}{told}"

    @classmethod
    def from_settings(cls, settings: EmbedderConfig) -> Self:
        """Returns the embedder of the model at a server, when that answers and knows it."""
        client = connect(settings.endpoint, _FLAG)
        check(client, settings.endpoint, _FLAG, "embeddings")
        return cls(client, settings.endpoint, settings.batch_texts, settings.prompt or "")

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns vectors of length 1, shape [len(texts), dimension]; equal texts of one call get equal ones."""
        unique = list(dict.fromkeys(texts))
        batches = [unique[start : start + self._batch_texts] for start in range(0, len(unique), self._batch_texts)]
        answers = each(self._ask, batches, self._settings.concurrency)
        vectors = np.concatenate([np.zeros((0, self.dimension), dtype=np.float32), *answers])
        place = {text: i for i, text in enumerate(unique)}
        return vectors[[place[text] for text in texts]]

    def _ask(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the vectors of one request."""
        import openai

        wanted = [self._prompt + text or " " for text in texts]  # servers refuse an empty text
        try:
            raw = self._client.embeddings.with_raw_response.create(
                model=self._settings.model, input=wanted, encoding_format="float"
            )
            rows = _in_order(json.loads(raw.http_response.text)["data"])
        except (openai.OpenAIError, OSError) as error:
            raise ConfigError(
                f'{self.url} made no vectors with "{self._settings.model}" ({plain(error.__cause__ or error)}): '
                "see to the server and start again; what was embedded before stays in the cache"
            ) from None
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
            raise self._wrong("sent an answer that is none of embeddings") from None
        return self._vectors(rows, len(texts))

    def _vectors(self, rows: list[Any], count: int) -> npt.NDArray[np.float32]:
        """Returns what a server sent as unit vectors, if it is what was asked for."""
        if len(rows) != count:
            raise self._wrong(f"sent {len(rows)} vectors for {count} texts")
        lengths = {len(row) for row in rows if isinstance(row, list)}
        if len(lengths) != 1 or not all(isinstance(row, list) for row in rows):
            raise self._wrong("sent vectors of several lengths, or none")
        if (length := lengths.pop()) != (self.dimension or length) or not 1 <= length <= _LONGEST:
            raise self._wrong(f"sent vectors of {length} numbers" + f", not {self.dimension}" * bool(self.dimension))
        try:
            vectors = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError):
            raise self._wrong("sent vectors that are no numbers") from None
        norms = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        if not np.isfinite(norms).all() or not (norms > 0).all():
            raise self._wrong("sent vectors that are 0 or no numbers")
        return np.asarray(vectors / norms, dtype=np.float32)

    def _wrong(self, what: str) -> ConfigError:
        model = self._settings.model
        return ConfigError(f'{self.url} {what} for "{model}": is that an embedding model? Set {_FLAG}.model to one')


def _in_order(answers: list[dict[str, Any]]) -> list[Any]:
    """Returns vectors by the number of their text; those of a server that leaves the numbers out as they came."""
    numbers = [answer.get("index") for answer in answers]
    if any(number is not None for number in numbers):
        if sorted(numbers) != list(range(len(answers))):  # type: ignore[type-var]
            raise ValueError("the numbers of its vectors are not those of the texts")
        answers = sorted(answers, key=lambda answer: int(answer["index"]))
    return [answer["embedding"] for answer in answers]
