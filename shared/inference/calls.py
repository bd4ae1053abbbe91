"""A recorded call: what was asked of whom, what it took and cost, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from shared.inference.errors import AnswerForgotten
from shared.kernel.caller import Attribution


class Operation(StrEnum):
    CHAT = "chat"
    EMBEDDINGS = "embeddings"


class CacheStatus(StrEnum):
    """What the exact cache, or the embedding cache, did for a call. `STALE`: an old answer, since no provider could."""

    OFF = "off"
    MISS = "miss"
    HIT = "hit"
    STALE = "stale"


class Outcome(StrEnum):
    """How a call ended. `BROKEN`: the provider stopped in mid-stream; `CANCELLED`: the client went away."""

    OK = "ok"
    FAILED = "failed"
    BROKEN = "broken"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counts as the provider bills them. `input` includes `cached` (read from its cache) and `written` (put there).

    `reasoning` is the part of `output` that nobody sees; it is for information alone.
    """

    input: int
    cached: int
    output: int
    written: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One recorded call; `answer` is in OpenAI's format, and empty once it was kept for as long as it may be.

    `model` is the one that answered, by the name it is priced under, and `provider` who served it. `latency_ms` is how
    long the provider took, `queue_ms` the time before it was asked, `first_token_ms` from asking it to its first token.
    `cost_microusd` is what the tenant was charged; 0 for what came from a cache or failed.
    """

    id: UUID
    source_id: str
    operation: Operation
    model: str
    tokens: Tokens
    cost_microusd: int
    latency_ms: int
    answer: Mapping[str, Any]
    created_at: datetime
    request_id: str = ""
    provider: str = ""
    route: str = ""
    cache: CacheStatus = CacheStatus.OFF
    outcome: Outcome = Outcome.OK
    error_code: str | None = None
    estimated: bool = False
    streamed: bool = False
    attempts: int = 1
    queue_ms: int = 0
    first_token_ms: int | None = None
    finish_reason: str | None = None
    run_id: str = ""
    attribution: Attribution = field(default_factory=Attribution)
    # What was asked, redacted, where the org wants it kept.
    prompt: Mapping[str, Any] | None = None

    def with_answer(self) -> Self:
        """Return the call; raise `AnswerForgotten`."""
        if not self.answer:
            raise AnswerForgotten(
                "This call was made and paid before, and its answer is no longer kept. "
                "Send another Idempotency-Key to ask anew."
            )
        return self
