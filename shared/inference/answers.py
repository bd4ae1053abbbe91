"""What a provider gave: a whole answer, or chunks of one, in OpenAI's format whatever the provider's own is."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.inference.calls import Tokens
from shared.inference.config import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole chat completion and its tokens."""

    body: Mapping[str, Any]
    tokens: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One `chat.completion.chunk`; `tokens` come with the last of a stream, if the provider tells them.

    `text` is what of it was generated (content, refusal, reasoning, names and arguments of calls), by which a broken
    stream is counted; empty for those that only open or close.
    """

    body: Mapping[str, Any]
    text: str = ""
    tokens: Tokens | None = None


class Provider(Protocol):
    """How a kind of provider is asked. Every method raises only errors of `errors.py`, from None: causes hold keys.

    `key` is the provider's API key, empty where none is needed. `body` is OpenAI's request with `model`, `messages`,
    `max_completion_tokens`, without `stream`. A cancelled call closes its connection.
    """

    async def chat(self, target: Target, key: str, body: Mapping[str, Any], *, timeout_s: float) -> Answer: ...

    def stream(
        self, target: Target, key: str, body: Mapping[str, Any], *, first_token_s: float, timeout_s: float
    ) -> AsyncGenerator[Chunk]:
        """Yield chunks as they come; raise `StreamBroken` when it ends too early, other errors before the first."""
        ...

    async def embed(
        self, target: Target, key: str, texts: Sequence[str], *, dimensions: int | None, timeout_s: float
    ) -> tuple[tuple[tuple[float, ...], ...], Tokens]: ...

    async def models(self, target: Target, key: str, *, timeout_s: float) -> list[dict[str, Any]]: ...
