"""What of a provider's answer must be there before it is believed, recorded and paid for."""

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, model_validator

from shared.inference import vectors
from shared.inference.model import ProviderAnsweredWrongly, Tokens
from shared.kernel.text import storable

_MALFORMED = "The model provider's answer is malformed; try again, or choose another model."


class _Details(BaseModel):
    cached_tokens: NonNegativeInt | None = None


class _Usage(BaseModel):
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt = 0
    prompt_tokens_details: _Details | None = None

    def tokens(self) -> Tokens:
        details = self.prompt_tokens_details or _Details()
        cached = min(details.cached_tokens or 0, self.prompt_tokens)
        return Tokens(input=self.prompt_tokens, cached=cached, output=self.completion_tokens)


class _Function(BaseModel):
    name: str
    arguments: str


class _ToolCall(BaseModel):
    id: str
    function: _Function


class _Message(BaseModel):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _ChatAnswer(BaseModel):
    id: str
    created: int
    model: str
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage


class _Embedding(BaseModel):
    index: NonNegativeInt
    embedding: list[float] | str

    def vector(self) -> tuple[float, ...]:
        given = self.embedding
        return vectors.decode(given) if isinstance(given, str) else tuple(given)


class _EmbeddingsAnswer(BaseModel):
    data: list[_Embedding]
    usage: _Usage

    @model_validator(mode="after")
    def _usable(self) -> Self:
        found = [one.vector() for one in self.data]
        if len({len(vector) for vector in found}) > 1 or not all(map(_has_direction, found)):
            raise ValueError("vectors of several lengths, or without a direction")
        return self


def read_chat(body: object) -> tuple[dict[str, Any], Tokens]:
    """Return the completion as it came, NUL characters apart, with its tokens; raise `ProviderAnsweredWrongly`."""
    cleaned = storable(body)
    try:
        answer = _ChatAnswer.model_validate(cleaned)
    except ValidationError as error:
        raise ProviderAnsweredWrongly(_MALFORMED) from error
    if not isinstance(cleaned, dict):
        raise ProviderAnsweredWrongly(_MALFORMED)
    return cleaned, answer.usage.tokens()


def read_embeddings(body: object, *, count: int) -> tuple[tuple[tuple[float, ...], ...], Tokens]:
    """Return one vector for each of `count` texts, in their order, and the tokens."""
    try:
        answer = _EmbeddingsAnswer.model_validate(body)
    except ValidationError as error:
        raise ProviderAnsweredWrongly(_MALFORMED) from error
    ordered = sorted(answer.data, key=lambda one: one.index)
    if [one.index for one in ordered] != list(range(count)):
        raise ProviderAnsweredWrongly(_MALFORMED)
    return tuple(one.vector() for one in ordered), answer.usage.tokens()


def _has_direction(vector: tuple[float, ...]) -> bool:
    return any(vector) and all(math.isfinite(value) for value in vector)
