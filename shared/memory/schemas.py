"""Public JSON of memory."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field

from shared.kernel.fields import Input, MemoryId, Metadata, Output
from shared.memory.model import MAX_K, MAX_SUBJECT_LENGTH, MAX_TAG_LENGTH, MAX_TAGS, Hit, Memory

type Subject = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_SUBJECT_LENGTH,
        description="Whom or what it is about: a person, an agent, a project.",
        examples=["person:ada"],
    ),
]


class CreateMemory(Input):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"content": "Ada prefers metric units.", "subject": "person:ada"}]}
    )

    content: str = Field(description="What to remember, up to 100,000 bytes of text.")
    subject: Subject
    importance: float = Field(0.5, ge=0, le=1, allow_inf_nan=False)
    tags: list[Annotated[str, Field(min_length=1, max_length=MAX_TAG_LENGTH)]] = Field(
        default_factory=list, max_length=MAX_TAGS, examples=[["preference"]]
    )
    metadata: Metadata = Field(default_factory=dict)

    def asked(self) -> dict[str, Any]:
        """Return what is asked, as arguments of `memory.service.save`."""
        return self.model_dump()


class MemoryOut(Output):
    id: MemoryId
    object: Literal["memory"] = "memory"
    subject: str
    content: str
    importance: float
    tags: list[str]
    metadata: Metadata
    created_at: datetime

    @classmethod
    def of(cls, memory: Memory) -> Self:
        return cls(
            id=memory.id,
            subject=memory.subject,
            content=memory.content,
            importance=memory.importance,
            tags=list(memory.tags),
            metadata=memory.metadata,
            created_at=memory.created_at,
        )


class SearchMemories(Input):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "Which units does Ada like?", "subject": "person:ada", "k": 5}]}
    )

    query: str = Field(description="A question or some words, up to 8,000 bytes of text.")
    subject: Subject | None = None
    k: int = Field(10, ge=1, le=MAX_K, description="How many to return.")

    def asked(self) -> dict[str, Any]:
        """Return what is asked, as arguments of `memory.service.search`."""
        return self.model_dump()


class HitOut(Output):
    object: Literal["memory_hit"] = "memory_hit"
    memory: MemoryOut
    score: float = Field(description="Fused from both places; only good for comparing hits of one search.")
    place_by_meaning: int | None = Field(description="1 for the nearest by meaning; null when not near.")
    place_by_words: int | None = Field(description="1 for the best by words; null when no word matches.")

    @classmethod
    def of(cls, hit: Hit) -> Self:
        return cls(
            memory=MemoryOut.of(hit.memory),
            score=hit.score,
            place_by_meaning=hit.place_by_meaning,
            place_by_words=hit.place_by_words,
        )


class Hits(Output):
    object: Literal["list"] = "list"
    data: list[HitOut] = Field(description="Best first.")

    @classmethod
    def of(cls, hits: list[Hit]) -> Self:
        return cls(data=[HitOut.of(hit) for hit in hits])
