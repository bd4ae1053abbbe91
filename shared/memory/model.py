"""A memory is a text of a tenant about a subject; it is never changed, only saved, found and deleted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from shared.kernel.errors import InvalidRequest, PayloadTooLarge

MAX_CONTENT_BYTES = 100_000
MAX_QUERY_BYTES = 8_000
MAX_SUBJECT_LENGTH = 200
MAX_TAGS = 50
MAX_TAG_LENGTH = 64
MAX_K = 100

# The length of every vector: of the column in Postgres, and asked from the provider.
DIMENSIONS = 384
# Reciprocal rank fusion's constant; between 5 and 10 measured best on LoCoMo, well below the usual 60.
# Source: Cormack, Clarke, Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet".
RANK_CONSTANT = 10
# How many of each ranking take part in the fusion.
CANDIDATES = 100
# Embedding models take 8,191 tokens at most, and a byte-level tokenizer never makes more tokens than bytes.
_PIECE_BYTES = 8_000


class MemoryTooLarge(PayloadTooLarge):
    """The text is larger than one memory may be; split it."""

    code = "memory_too_large"


class EmbeddingUnfit(InvalidRequest):
    """The embedding model makes vectors of another length than memories have."""

    code = "embedding_dimensions_unfit"


@dataclass(frozen=True, slots=True)
class Memory:
    """One saved text. `importance` runs from 0 to 1; `source_id` is what saved it, once."""

    id: UUID
    subject: str
    content: str
    importance: float
    tags: tuple[str, ...]
    source_id: str
    embedding_model: str
    metadata: dict[str, str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory found, best first by `score`, with its place in each ranking that has it (1 is first)."""

    memory: Memory
    score: float
    place_by_meaning: int | None
    place_by_words: int | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A memory to be saved; raises `InvalidRequest` or `MemoryTooLarge` when it can't be."""

    content: str
    subject: str
    importance: float = 0.5
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text(self.content, "content")
        size = len(self.content.encode())
        if size > MAX_CONTENT_BYTES:
            raise MemoryTooLarge(
                f"A memory takes {MAX_CONTENT_BYTES} bytes of text, and this has {size}; split it.",
                param="content",
            )
        check_subject(self.subject)
        if not 0 <= self.importance <= 1:
            raise InvalidRequest("The importance is a number from 0 to 1.", param="importance")
        _check_tags(self.tags)


def check_subject(subject: str) -> None:
    """Raise `InvalidRequest` unless something can be remembered of this subject."""
    _check_text(subject, "subject")
    if len(subject) > MAX_SUBJECT_LENGTH:
        raise InvalidRequest(f"A subject has at most {MAX_SUBJECT_LENGTH} characters.", param="subject")


def check_query(query: str, *, k: int) -> None:
    """Raise `InvalidRequest` unless the search can be made."""
    _check_text(query, "query")
    if len(query.encode()) > MAX_QUERY_BYTES:
        raise InvalidRequest(f"A query has at most {MAX_QUERY_BYTES} bytes of text; shorten it.", param="query")
    if not 1 <= k <= MAX_K:
        raise InvalidRequest(f"k is a whole number from 1 to {MAX_K}.", param="k")


def pieces(content: str) -> list[str]:
    """Cut the text, between characters, into pieces that an embedding model takes whole."""
    encoded = content.encode()
    found: list[str] = []
    start = 0
    while start < len(encoded):
        end = min(start + _PIECE_BYTES, len(encoded))
        # A byte 0b10xxxxxx goes on with a character.
        while end < len(encoded) and encoded[end] & 0b1100_0000 == 0b1000_0000:
            end -= 1
        found.append(encoded[start:end].decode())
        start = end
    return found


def combined(vectors: Sequence[Sequence[float]], texts: Sequence[str]) -> tuple[float, ...]:
    """Return the pieces' mean vector, weighted by their lengths, of length 1.

    Source: OpenAI Cookbook, "Embedding texts that are longer than the model's maximum context length".
    """
    unfit = next((vector for vector in vectors if len(vector) != DIMENSIONS), None)
    if unfit is not None:
        raise EmbeddingUnfit(
            f"The embedding model makes vectors of {len(unfit)} numbers and memories have {DIMENSIONS}: "
            "the operator must choose another embedding model."
        )
    weights = [len(text.encode()) for text in texts]
    mean = [math.sumprod(weights, column) for column in zip(*vectors, strict=True)]
    length = math.hypot(*mean)
    # Pieces that cancel out have no direction of their own: the first speaks for all.
    return tuple(value / length for value in mean) if length > 0 else tuple(vectors[0])


def _check_text(text: str, param: str) -> None:
    if not text.strip():
        raise InvalidRequest(f"The {param} is empty; give it some text.", param=param)
    # A model may write what JSON can spell and Postgres can't hold.
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequest(f"The {param} holds NUL characters or lone surrogates; remove them.", param=param)


def _check_tags(tags: Sequence[str]) -> None:
    if len(tags) > MAX_TAGS:
        raise InvalidRequest(f"A memory has at most {MAX_TAGS} tags, and {len(tags)} were given.", param="tags")
    for tag in tags:
        _check_text(tag, "tags")
        if len(tag) > MAX_TAG_LENGTH:
            raise InvalidRequest(f"A tag has at most {MAX_TAG_LENGTH} characters.", param="tags")
