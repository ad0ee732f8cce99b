"""Search at a server as Search-R1, SkyRL and verl-tool have it: a POST with queries, answered by lists of passages.

Two forms of request are in use, and the first answer shows which one a server takes:

    {"queries": ["...", "..."], "topk": 3, "return_scores": true}     Search-R1's, for many queries at once
    {"query": "...", "topk": 3, "return_scores": true}                SkyRL's and verl-tool's, for one

Both are answered by {"result": [[{"document": {"id": "0", "contents": "..."}, "score": 0.9}, ...], ...]}, a list for
each query, or without scores by the documents themselves. No key is ever sent. The server is not trusted: see
`endpoints.limited_http`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from random import uniform
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from d2skill.endpoints import map_concurrently, one_line
from d2skill.endpoints.connect import is_local, is_url
from d2skill.endpoints.limited_http import AnswerTooLong, http_library, limited_client
from d2skill.endpoints.time_limit import time_left, time_limit
from d2skill.envs.search_qa.passage import Passage
from d2skill.envs.search_qa.retrieval.corpus import passage_of
from d2skill.errors import ConfigError, EnvironmentFault
from d2skill.utils.foreign_files import parse_json
from d2skill.utils.text import storable

_AT_ONCE = 8  # requests of one query each
_MANY = 512  # queries of one request
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds before a request is sent again
_BUSY = (408, 425, 429)
_URL = "env.search_qa.url"
_WORD = "Wikipedia"  # the query that a server is tried with


class _NoAnswer(Exception):
    """There is no answer, for the reason in the message; `status` is that of a refusal, else 0."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class ServedSearch:
    """Passages that a server finds. Threads can share it, and each forked process makes connections of its own."""

    def __init__(self, url: str, timeout: float) -> None:
        """Finds out which form of request a server takes, by one query.

        `timeout` are the seconds of a request, with all its retries. Raises `ConfigError` for a wrong address, and for
        a server that does not answer as such a server does.
        """
        if not is_url(url):
            raise ConfigError(f'{_URL} "{one_line(url)}" is no URL: it looks like http://127.0.0.1:8000/retrieve')
        if "@" in urlsplit(url).netloc:
            raise ConfigError(f"{_URL} holds a password, which a run would keep: servers of passages take none")
        self._url, self._timeout = url, timeout
        self._connect()
        self._many = self._takes_many()

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See PassageSearch. A server that is busy, fails or is gone is asked again until the time is over."""
        if os.getpid() != self._process:  # two processes must not share connections
            self._connect()
        size = _MANY if self._many else 1
        portions = [queries[start : start + size] for start in range(0, len(queries), size)]
        try:
            found = map_concurrently(lambda some: self._ask(some, k, self._many), portions, _AT_ONCE)
        except _NoAnswer as error:
            raise EnvironmentFault(f"{self._url} {error}: is the server of passages still there?") from None
        return [passages[: max(0, k)] for answers in found for passages in answers]

    def _connect(self) -> None:
        try:
            self._client = limited_client(
                self._url, self._timeout, None, trust_env=not is_local(self._url), own_headers=False
            )
        except ImportError as error:
            raise ConfigError(
                f"env.search_qa.retriever http needs the package {error.name}: pip install 'd2skill[llm]'"
            ) from None
        self._process = os.getpid()

    def _takes_many(self) -> bool:
        """Returns True if the server takes many queries in a request, False if it takes one. Nothing is sent again."""
        try:
            self._ask([_WORD], 1, many=True, again=False)
            return True
        except _NoAnswer as error:
            first = error
        try:
            if first.status < 0:
                raise first
            self._ask([_WORD], 1, many=False, again=False)
            return False
        except _NoAnswer as error:
            if first.status == 0 == error.status:
                raise ConfigError(f"{self._url} {first}: is it a server of passages? Correct {_URL}") from None
            if error.status < 0:
                raise ConfigError(f"{self._url} {error}: start the server, or correct {_URL}") from None
            raise ConfigError(
                f"{self._url} takes neither queries ({first}) nor a query ({error}): Search-R1's address ends in "
                f"/retrieve; correct {_URL}"
            ) from None

    def _ask(self, queries: Sequence[str], k: int, many: bool, again: bool = True) -> list[list[Passage]]:
        """Returns the passages for queries, one if not `many`; raises `_NoAnswer`."""
        texts = [storable(query) for query in queries]
        asked: dict[str, Any] = {"queries": texts} if many else {"query": texts[0]}
        wait = _FIRST_WAIT
        with time_limit(self._timeout):
            while True:
                try:
                    return _passages(self._post({**asked, "topk": k, "return_scores": True}), len(queries))
                except _NoAnswer as error:
                    pause = wait * uniform(0.75, 1)
                    lasting = 0 <= error.status < 500 and error.status not in _BUSY
                    if lasting or not again or pause >= time_left():
                        raise
                time.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT)

    def _post(self, body: Mapping[str, Any]) -> Any:
        """Sends a request once and returns the JSON of its answer; the status of `_NoAnswer` is -1 for no response."""
        library = http_library(self._client)
        try:
            response = self._client.post(self._url, json=body, headers={"Accept-Encoding": "identity"})
        except library.TooManyRedirects as error:
            raise _NoAnswer(f"is not used ({one_line(error)})") from None
        except AnswerTooLong as error:
            raise _NoAnswer(f"sent too much ({error})") from None
        except library.TimeoutException:
            raise _NoAnswer(f"did not answer within {self._timeout:g} s (env.search_qa.timeout)", -1) from None
        except (library.HTTPError, library.InvalidURL, OSError) as error:
            raise _NoAnswer(f"cannot be reached ({one_line(error)})", -1) from None
        if not response.is_success:
            text = one_line(response.text) if response.text.strip() else "no reason"
            raise _NoAnswer(f"answers {response.status_code}: {text}", response.status_code)
        try:
            return parse_json(response.content)
        except ValueError:
            raise _NoAnswer("sent no JSON") from None


def _passages(answer: Any, count: int) -> list[list[Passage]]:
    """Returns the lists of passages of an answer, one for each query; raises `_NoAnswer` for any other answer."""
    lists = answer.get("result") if isinstance(answer, dict) else answer
    if not isinstance(lists, list) or not all(isinstance(hits, list) for hits in lists):
        raise _NoAnswer("sent JSON that is no lists of passages")
    if len(lists) != count:
        raise _NoAnswer(f"sent lists of passages for {len(lists)} queries, not for {count}")
    try:
        return [[_passage(hit) for hit in hits] for hits in lists]
    except ValueError as error:
        raise _NoAnswer(f"sent a passage that is none ({error})") from None


def _passage(hit: Any) -> Passage:
    if not (isinstance(hit, dict) and "document" in hit):
        return passage_of(hit)
    score = hit.get("score")
    return passage_of(hit["document"], score=float(score) if _is_number(score) else 0.0)


def _is_number(score: Any) -> TypeGuard[float]:
    return isinstance(score, int | float) and math.isfinite(score)
