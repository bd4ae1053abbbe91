"""A model call has a source id; under it it is recorded and charged once, and never above what was set aside."""

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from shared.kernel.errors import Conflict, InvalidRequest, Kind, NotFound, ProviderFailed, RunyardError

# For a request that names no limit: a bound is needed to know the worst case before the call.
DEFAULT_MAX_OUTPUT_TOKENS = 4_096
# What a provider puts around each message and tool, in tokens: more than any published chat template does.
_FRAME_TOKENS = 64


class ModelNotFound(NotFound):
    """No model of this name is offered; GET /v1/models lists them."""

    code = "model_not_found"


class StreamingNotAvailable(InvalidRequest):
    """Answers are not streamed yet: send `stream: false`."""

    code = "streaming_not_available"


class ProviderRefused(InvalidRequest):
    """The provider found fault with the request itself; sending it again won't help."""

    code = "provider_refused_request"


class BudgetExceeded(RunyardError):
    """What is left of the caller's budget doesn't buy even one token of an answer."""

    kind = Kind.PAYMENT
    code = "budget_exceeded"


class ProviderRateLimited(ProviderFailed):
    """The model provider limits the rate; wait for as long as Retry-After says."""

    kind = Kind.RATE_LIMITED
    code = "provider_rate_limited"


class ProviderTimedOut(ProviderFailed):
    """The model provider did not answer in time."""

    code = "provider_timed_out"


class ProviderSuspended(ProviderFailed):
    """The model failed several times in a row and isn't asked for a moment."""

    code = "provider_suspended"


class ProviderAnsweredWrongly(ProviderFailed):
    """The model provider answered with something that is no answer."""

    code = "provider_answered_wrongly"


class ProviderMisconfigured(ProviderFailed):
    """The provider refuses the platform's own account: for the operator to mend."""

    code = "provider_misconfigured"
    retryable = False


class AnswerForgotten(Conflict):
    """The same request was answered long ago; its answer was kept for as long as the plan says and is gone."""

    code = "answer_forgotten"


class Operation(StrEnum):
    CHAT = "chat"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a model is asked, with messages and tools in OpenAI's format.

    `model` None is the platform's default model. `options` are further parameters (`temperature`, `tool_choice`, …),
    handed to the provider as they are.
    """

    messages: Sequence[Mapping[str, Any]]
    model: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    max_output_tokens: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def most_input_tokens(self) -> int:
        """Return what the prompt can't exceed: a byte-level tokenizer never makes more tokens than UTF-8 bytes."""
        parts = [*self.messages, *self.tools, dict(self.options)]
        return sum(_bytes_of(json.dumps(part, ensure_ascii=False)) + _FRAME_TOKENS for part in parts)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counts as the provider bills them; `input` includes `cached`."""

    input: int
    cached: int
    output: int


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model wants called; `arguments` is JSON text as the model wrote it, which may be invalid."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call; `answer` is the provider's, and empty once it was kept for as long as the plan says."""

    id: UUID
    source_id: str
    operation: Operation
    model: str
    tokens: Tokens
    cost_microusd: int
    latency_ms: int
    answer: dict[str, Any]
    created_at: datetime

    def with_answer(self) -> Self:
        """Return the call; raise `AnswerForgotten`."""
        if not self.answer:
            raise AnswerForgotten(
                "This call was made and paid before, and its answer is no longer kept. "
                "Send another Idempotency-Key to ask anew."
            )
        return self


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat call's answer, in OpenAI's format in `call.answer`."""

    call: Call

    @property
    def message(self) -> dict[str, Any]:
        """Return the assistant's message, ready to be appended to the conversation: without a provider's extras."""
        message: dict[str, Any] = {"role": "assistant", "content": self._said.get("content")}
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        return message

    @property
    def text(self) -> str:
        return self._said.get("content") or ""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
            for call in self._said.get("tool_calls") or ()
        )

    @property
    def _said(self) -> dict[str, Any]:
        message: dict[str, Any] = self.call.answer["choices"][0]["message"]
        return message

    @property
    def finish_reason(self) -> str:
        return str(self.call.answer["choices"][0].get("finish_reason") or "stop")

    @property
    def model(self) -> str:
        return self.call.model

    @property
    def tokens(self) -> Tokens:
        return self.call.tokens

    @property
    def cost_microusd(self) -> int:
        return self.call.cost_microusd


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector for each text, in the texts' order."""

    vectors: tuple[tuple[float, ...], ...]
    model: str
    tokens: Tokens
    cost_microusd: int


def most_embedding_tokens(texts: Sequence[str]) -> int:
    """Return what the texts can't exceed in tokens."""
    return sum(_bytes_of(text) + 1 for text in texts)


def affordable_output(price: Callable[[int], int], *, wanted: int, budget_microusd: int) -> int:
    """Return the greatest number of output tokens, from 0 to `wanted`, whose `price` stays within the budget.

    `price` tells the whole call's worst case for a number of output tokens and never falls as it grows.
    """
    return bisect_right(range(1, wanted + 1), budget_microusd, key=price)


def shares(costs: Sequence[int], *, most: int) -> list[int]:
    """Return the costs, the last ones cut so that all together are not more than `most`."""
    kept: list[int] = []
    for cost in costs:
        kept.append(min(cost, most - sum(kept)))
    return kept


def _bytes_of(text: str) -> int:
    return len(text.encode())
