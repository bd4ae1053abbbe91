"""Asks any endpoint that speaks OpenAI's protocol, with the `openai` client."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final

from openai import APIStatusError, AsyncOpenAI, OpenAIError
from openai._models import FinalRequestOptions

from shared.inference.answers import Answer, Chunk
from shared.inference.calls import Tokens
from shared.inference.config import Target
from shared.inference.providers import connections, failures, reading, streaming
from shared.inference.providers.keys import Key
from shared.inference.providers.sending import HEADERS, Library, Plain


class OpenAIProvider:
    """See `answers.Provider`."""

    async def chat(self, target: Target, key: str, body: Mapping[str, Any], *, timeout_s: float) -> Answer:
        return reading.read_chat(await _LIBRARY.json(target, key, _url(target, "/chat/completions"), body, timeout_s))

    def stream(
        self, target: Target, key: str, body: Mapping[str, Any], *, first_token_s: float, timeout_s: float
    ) -> AsyncGenerator[Chunk]:
        options = {**(body.get("stream_options") or {}), "include_usage": True}
        asked = {**body, "stream": True, "stream_options": options}
        url = _url(target, "/chat/completions")
        return streaming.chunks(
            lambda: _LIBRARY.answer(target, key, url, asked, first_token_s, stream=True),
            _Reader(key),
            first_token_s=first_token_s,
            timeout_s=timeout_s,
        )

    async def embed(
        self, target: Target, key: str, texts: Sequence[str], *, dimensions: int | None, timeout_s: float
    ) -> tuple[tuple[tuple[float, ...], ...], Tokens]:
        body: dict[str, Any] = {"model": target.model, "input": list(texts), "encoding_format": "base64"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        answer = await _LIBRARY.json(target, key, _url(target, "/embeddings"), body, timeout_s)
        return reading.read_embeddings(answer, count=len(texts))

    async def models(self, target: Target, key: str, *, timeout_s: float) -> list[dict[str, Any]]:
        return reading.read_models(await _LIBRARY.json(target, key, _url(target, "/models"), None, timeout_s))


PROVIDER: Final = OpenAIProvider()


class _Reader:
    """See `streaming.Reader`."""

    __slots__ = ("_choices", "_key", "done")

    def __init__(self, key: str) -> None:
        self.done = False
        self._key = key
        self._choices: list[Any] = []

    def read(self, event: bytes) -> Sequence[Chunk]:
        if self.done or event == b"[DONE]":
            self.done = True
            return ()
        found = reading.read_json(event)
        if isinstance(found, dict) and found.get("error"):
            raise failures.of_stream(found, key=self._key)
        chunk = reading.read_chunk(found)
        self._choices = chunk.body["choices"] or self._choices
        return (chunk,)

    def is_whole(self) -> bool:
        # Not every server says [DONE]; the reason of the end stands in the last choice.
        return self.done or any(choice.get("finish_reason") for choice in self._choices)


class _Client(Plain, AsyncOpenAI):
    """The library's client, with requests of ours."""


@cache
def _client(guarded: bool) -> _Client:
    # The key comes with each request: one client, which keeps none, serves all.
    return _Client(
        base_url="https://unused.invalid",
        api_key="comes-with-each-request",
        admin_api_key="",
        max_retries=0,
        http_client=connections.client(guarded=guarded),
    )


@lru_cache(maxsize=512)
def _options(method: str, url: str) -> FinalRequestOptions:
    # To make these anew for each request would take as long as to send it.
    return FinalRequestOptions.construct(method=method, url=url, idempotency_key="none")


def _headers(key: str) -> dict[str, str]:
    # A `Key` isn't shown where the library logs its requests.
    return {**HEADERS, "Authorization": Key(f"Bearer {key}")} if key else HEADERS


def _url(target: Target, path: str) -> str:
    return target.account.base_url.rstrip("/") + path


_LIBRARY: Final = Library(
    client=_client, options=_options, headers=_headers, failed=OpenAIError, refused=APIStatusError
)
