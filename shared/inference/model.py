"""A model call has a source id; under it it is recorded and charged once, and never above what was set aside."""

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.inference.calls import Call, Tokens
from shared.inference.errors import ModelNotFound as ModelNotFound  # other areas catch it
from shared.kernel.errors import InvalidRequest

# For a request that names no limit: a bound is needed to know the worst case before the call.
DEFAULT_MAX_OUTPUT_TOKENS = 4_096
# What a provider puts around each message and tool, in tokens: more than any published chat template does.
_FRAME_TOKENS = 64
# An image is billed by its size in pixels, not in bytes. The dearest model there is, gpt-4o-mini, counts 2,833 tokens
# and 5,667 for each of up to eight tiles. Source: https://platform.openai.com/docs/guides/images-vision
MOST_IMAGE_TOKENS = 50_000
_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a model is asked, with messages and tools in OpenAI's format.

    `model` None is the platform's default model. `options` are further parameters (`temperature`, `tool_choice`, …),
    handed to the provider as they are; `beyond` names those among them that OpenAI's API has none of.
    """

    messages: Sequence[Mapping[str, Any]]
    model: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    max_output_tokens: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    beyond: frozenset[str] = frozenset()

    def most_input_tokens(self) -> int:
        """Return what the prompt can't exceed: a byte-level tokenizer never makes more tokens than UTF-8 bytes.

        Raises `InvalidRequest` for numbers that JSON doesn't have, which no row can hold and no provider is asked with.
        """
        parts = [*self.texts(), *self.tools, dict(self.options)]
        try:
            texts = sum(_bytes_of(_json(part)) + _FRAME_TOKENS for part in parts)
        except ValueError as error:
            raise InvalidRequest("A number is none, or is too large for one.") from error
        return texts + self.images * MOST_IMAGE_TOKENS

    @property
    def images(self) -> int:
        """How many images the messages hold."""
        return sum(map(_images_in, self.messages))

    def texts(self) -> Sequence[Mapping[str, Any]]:
        """Return the messages without their images."""
        return [_without_images(message) for message in self.messages]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model wants called; `arguments` is JSON text as the model wrote it, which may be invalid."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat call and its answer, in OpenAI's format."""

    call: Call
    answer: Mapping[str, Any]

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
        message: dict[str, Any] = self.answer["choices"][0]["message"]
        return message

    @property
    def finish_reason(self) -> str:
        return str(self.answer["choices"][0].get("finish_reason") or "stop")

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


def _images_in(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    return sum(part.get("type") == "image_url" for part in content) if isinstance(content, list) else 0


def _without_images(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [part for part in content if part.get("type") != "image_url"]}


def _bytes_of(text: str) -> int:
    return len(text.encode())
