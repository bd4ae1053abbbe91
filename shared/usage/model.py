"""A usage event says how much of what a tenant used, what that cost and what caused it; it is never changed."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class UsageKind(StrEnum):
    """What is metered. The tokens of an embedding are input tokens; `dimensions` names the model."""

    TOKENS_INPUT = "tokens_input"
    TOKENS_CACHED = "tokens_cached"
    TOKENS_OUTPUT = "tokens_output"
    SANDBOX_SECONDS = "sandbox_seconds"
    MEMORY_OPERATIONS = "memory_operations"

    @property
    def unit(self) -> str:
        """What a quantity of 1 is."""
        return _UNITS[self]


_UNITS = {
    UsageKind.TOKENS_INPUT: "token",
    UsageKind.TOKENS_CACHED: "token",
    UsageKind.TOKENS_OUTPUT: "token",
    UsageKind.SANDBOX_SECONDS: "second",
    UsageKind.MEMORY_OPERATIONS: "operation",
}


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """`source_id` names the cause: with the kind it makes the event unique in its tenant."""

    id: UUID
    kind: UsageKind
    quantity: int
    unit: str
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
