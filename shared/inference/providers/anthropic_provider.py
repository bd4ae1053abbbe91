"""Asks Anthropic's Messages API, with the `anthropic` client."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final

from anthropic import AnthropicError, APIStatusError, AsyncAnthropic
from anthropic._constants import ANTHROPIC_API_VERSION
from anthropic._models import FinalRequestOptions

from shared.inference.answers import Answer, Chunk
from shared.inference.calls import Tokens
from shared.inference.config import Target
from shared.inference.errors import NotServed
from shared.inference.providers import connections, reading, streaming
from shared.inference.providers.anthropic_answering import Reader, read_message
from shared.inference.providers.anthropic_asking import request
from shared.inference.providers.keys import Key
from shared.inference.providers.sending import HEADERS, Library, Plain

_SAMPLING: Final = frozenset({"temperature", "top_p", "top_k"})
_SAMPLES: Final = "2023-06-01"
_BASE_URL: Final = "https://api.anthropic.com"
_HEADERS: Final = {**HEADERS, "anthropic-version": ANTHROPIC_API_VERSION}


class AnthropicProvider:
    """See `answers.Provider`."""

    async def chat(self, target: Target, key: str, body: Mapping[str, Any], *, timeout_s: float) -> Answer:
        asked = request(target.model, body)
        url = _url(target, "/messages")
        return read_message(await _LIBRARY.json(target, key, url, asked, timeout_s, more=_version(asked)))

    def stream(
        self, target: Target, key: str, body: Mapping[str, Any], *, first_token_s: float, timeout_s: float
    ) -> AsyncGenerator[Chunk]:
        asked = {**request(target.model, body), "stream": True}
        url = _url(target, "/messages")
        return streaming.chunks(
            lambda: _LIBRARY.answer(target, key, url, asked, first_token_s, stream=True, more=_version(asked)),
            Reader(key),
            first_token_s=first_token_s,
            timeout_s=timeout_s,
        )

    async def embed(
        self,
        target: Target,
        key: str,  # noqa: ARG002
        texts: Sequence[str],  # noqa: ARG002
        *,
        dimensions: int | None,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> tuple[tuple[tuple[float, ...], ...], Tokens]:
        raise NotServed(f"{target.account.name} has no embeddings; choose another model.", param="model")

    async def models(self, target: Target, key: str, *, timeout_s: float) -> list[dict[str, Any]]:
        found = await _LIBRARY.json(target, key, _url(target, "/models?limit=1000"), None, timeout_s)
        return [
            {"id": model["id"], "object": "model", "created": 0, "owned_by": "anthropic"}
            for model in reading.read_models(found)
        ]


PROVIDER: Final = AnthropicProvider()


class _Client(Plain, AsyncAnthropic):
    """The library's client, with requests of ours."""


@cache
def _client(guarded: bool) -> _Client:
    # The key comes with each request: one client, which keeps none, serves all.
    return _Client(
        base_url="https://unused.invalid",
        api_key="comes-with-each-request",
        max_retries=0,
        open_telemetry=False,
        http_client=connections.client(guarded=guarded),
    )


@lru_cache(maxsize=512)
def _options(method: str, url: str) -> FinalRequestOptions:
    return FinalRequestOptions.construct(method=method, url=url, idempotency_key="none")


def _headers(key: str) -> dict[str, str]:
    # A `Key` isn't shown where the library logs its requests.
    return {**_HEADERS, "Authorization": Key(f"Bearer {key}")} if key else _HEADERS


def _version(asked: Mapping[str, Any]) -> dict[str, str]:
    """Return the header for the last version of the API that knows how to sample, where that is asked for.

    Later ones refuse it. Source: https://platform.claude.com/docs/en/api/versioning
    """
    return {"anthropic-version": _SAMPLES} if not asked.keys().isdisjoint(_SAMPLING) else {}


def _url(target: Target, path: str) -> str:
    return f"{(target.account.base_url or _BASE_URL).rstrip('/').removesuffix('/v1')}/v1{path}"


_LIBRARY: Final = Library(
    client=_client, options=_options, headers=_headers, failed=AnthropicError, refused=APIStatusError
)
