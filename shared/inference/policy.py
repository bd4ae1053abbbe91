"""A route: a named policy of which models a request may go to, in which order, and when the next one is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Strategy(StrEnum):
    """Which candidate is asked first. The rest follow as fallbacks, in their order."""

    ORDERED = "ordered"
    WEIGHTED = "weighted"


class Fault(StrEnum):
    """Kinds of failure after which the next candidate is asked."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONTEXT_LENGTH = "context_length"
    # A key that is refused, or a model that the provider doesn't know: another candidate may do better.
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """When a candidate is fit for a request; what is None doesn't matter.

    `tasks`: the request's `x-runyard-task` is one of these. `max_input_tokens` is compared with our own estimate of the
    prompt. `tools`, `images`: it must, or must not, have any. `max_price_microusd`: the call's probable cost at most.
    `max_latency_ms`: the provider's recent median time to the first token at most, where one is known.
    """

    tasks: frozenset[str] = frozenset()
    min_input_tokens: int | None = None
    max_input_tokens: int | None = None
    tools: bool | None = None
    images: bool | None = None
    max_price_microusd: int | None = None
    max_latency_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model by its name in GET /v1/models, or `provider/model` for a provider's own name of it.

    `timeout_s` bounds one attempt, `first_token_s` the wait for a stream's first token.
    """

    model: str
    weight: int = 1
    when: Conditions = Conditions()
    timeout_s: float | None = None
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """All fit candidates answer, up to `n`, and `judge` (a model's name) picks one answer."""

    n: int
    judge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A policy as its tenant wrote it. The implicit route of a plain model name has that one candidate."""

    name: str
    candidates: Sequence[Candidate]
    strategy: Strategy = Strategy.ORDERED
    fall_back_on: frozenset[Fault] = frozenset(Fault)
    max_attempts: int = 3
    ensemble: Ensemble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What of a request decides where it goes.

    `beyond` are the parameters that OpenAI's API has none of; `prices`, probable costs in micro-dollars by candidate's
    model.
    """

    task: str = ""
    input_tokens: int = 0
    tools: bool = False
    images: bool = False
    beyond: frozenset[str] = frozenset()
    prices: Mapping[str, int] = field(default_factory=dict)


class BreakerState(StrEnum):
    """`HALF_OPEN`: one call at a time is let through to see whether the provider is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a model at a provider has lately done: shares from 0 to 1, medians in ms; None while nothing is known."""

    breaker: BreakerState = BreakerState.CLOSED
    error_rate: float | None = None
    latency_ms: int | None = None
    first_token_ms: int | None = None
    # Seconds until an open breaker lets a call through.
    retry_in_s: float = 0.0
