"""What the gateway is asked, and what it answers: the shapes that pass between the edge, the gateway and its parts."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.inference.calls import CacheStatus, Call, Tokens
from shared.inference.model import ChatRequest
from shared.kernel.caller import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """What the caller allows the cache: by default to read and to write. Names and meaning as in RFC 9111 and 5861."""

    read: bool = True
    write: bool = True
    max_age_s: int | None = None
    # For how long after its freshness an answer may be given when no provider can give a new one.
    stale_if_error_s: int = 0


NO_CACHE = CacheControl(read=False, write=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request for a completion.

    `source_id` names its cause: with `repeatable` the first answer is kept and given again under it.
    `max_cost_microusd` None holds the worst case from the tenant's credits; a number says that the caller holds it.
    `began_ms` is when the request came in, on `clock.monotonic_ms`. `limited`: it came over HTTPS, counts against the
    caller's rate limits and is counted as a request. `include_usage`: a stream ends with a chunk of its usage.
    """

    caller: Caller
    request: ChatRequest
    source_id: str
    timeout_s: float
    repeatable: bool = False
    max_cost_microusd: int | None = None
    run_id: str = ""
    task: str = ""
    cache: CacheControl = NO_CACHE
    began_ms: int = 0
    limited: bool = False
    include_usage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer in OpenAI's format, and what became of it. `repeated`: it is the first one of its source id."""

    answer: Mapping[str, Any]
    call: Call
    age_s: int | None = None
    repeated: bool = False

    @property
    def cache(self) -> CacheStatus:
        return self.call.cache


@dataclass(slots=True, kw_only=True)
class Streaming:
    """A stream whose first chunk is there. `chunks` are OpenAI's, as JSON text, without the closing `[DONE]`.

    Whoever reads must read to the end or close it: `aclose` stops the provider and settles what was produced. `call`
    is what was recorded then.
    """

    provider: str
    cache: CacheStatus
    chunks: AsyncGenerator[bytes]
    age_s: int | None = None
    ended: list[Call] = field(default_factory=list)

    @property
    def call(self) -> Call | None:
        return self.ended[0] if self.ended else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingAsk:
    """One request for the vectors of texts; the other fields are `Ask`'s."""

    caller: Caller
    texts: Sequence[str]
    model: str | None
    dimensions: int | None
    source_id: str
    timeout_s: float
    repeatable: bool = False
    max_cost_microusd: int | None = None
    run_id: str = ""
    cache: CacheControl = NO_CACHE
    began_ms: int = 0
    limited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """One vector for each text, in the texts' order; `call` is what was recorded."""

    vectors: Sequence[tuple[float, ...]]
    call: Call

    @property
    def model(self) -> str:
        return self.call.model

    @property
    def tokens(self) -> Tokens:
        return self.call.tokens

    @property
    def cost_microusd(self) -> int:
        return self.call.cost_microusd

    @property
    def cache(self) -> CacheStatus:
        return self.call.cache

    @property
    def provider(self) -> str:
        return self.call.provider
