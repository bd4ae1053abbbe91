"""A usage event says how much of what a tenant used, what that cost and what caused it; it is never changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from shared.kernel import ids
from shared.kernel.errors import InvalidRequest


class BadUsageMessage(InvalidRequest):
    """A message of metered usage is malformed: it waits among the dead letters and none of it was counted."""

    code = "bad_usage_message"


class UsageKind(StrEnum):
    """What is metered. The tokens of an embedding are input tokens; `dimensions` names the model.

    Tokens that the provider read from its cache, and those that it put there, are not among the input tokens.

    Storage is counted in bytes held for an hour and shown in GB-hours of 2**30 bytes; calls by the second, priced by
    the minute.
    """

    TOKENS_INPUT = "tokens_input"
    TOKENS_CACHED = "tokens_cached"
    TOKENS_CACHE_WRITTEN = "tokens_cache_written"
    TOKENS_OUTPUT = "tokens_output"
    SANDBOX_SECONDS = "sandbox_seconds"
    MEMORY_OPERATIONS = "memory_operations"
    STORAGE_BYTE_HOURS = "storage_byte_hours"
    CALL_SECONDS = "call_seconds"
    API_CALLS = "api_calls"

    @property
    def unit(self) -> str:
        """What a quantity of 1 is."""
        return _UNITS[self]


_UNITS = {
    UsageKind.TOKENS_INPUT: "token",
    UsageKind.TOKENS_CACHED: "token",
    UsageKind.TOKENS_CACHE_WRITTEN: "token",
    UsageKind.TOKENS_OUTPUT: "token",
    UsageKind.SANDBOX_SECONDS: "second",
    UsageKind.MEMORY_OPERATIONS: "operation",
    UsageKind.STORAGE_BYTE_HOURS: "byte_hour",
    UsageKind.CALL_SECONDS: "second",
    UsageKind.API_CALLS: "call",
}


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """What `units` units cost. A part of a micro-dollar is possible here, never in what is charged."""

    microusd: Decimal
    units: int


FREE = UnitPrice(Decimal(0), 1)


@dataclass(frozen=True, slots=True)
class Metered:
    """Use that was measured and has no price yet; `source_id` names its cause, under which it counts once."""

    kind: UsageKind
    quantity: int
    source_id: str
    occurred_at: datetime
    dimensions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Use about to be recorded. `source_id` names the cause: with the kind it is counted once in its tenant."""

    kind: UsageKind
    quantity: int
    cost_microusd: int
    source_id: str
    occurred_at: datetime
    dimensions: Mapping[str, str]
    unit_price: UnitPrice = FREE
    id: UUID = field(default_factory=ids.new)


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """`source_id` names the cause: with the kind it makes the event unique in its tenant."""

    id: UUID
    kind: UsageKind
    quantity: int
    unit: str
    unit_price: UnitPrice
    cost_microusd: int
    source_id: str
    dimensions: dict[str, str]
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """All of one kind within a time range."""

    kind: UsageKind
    quantity: int
    cost_microusd: int
