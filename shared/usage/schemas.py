"""Public JSON of usage."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from shared.kernel.fields import Output, UsageId
from shared.usage.model import UsageEvent, UsageKind, UsageTotal


class UsageEventOut(Output):
    id: UsageId
    object: Literal["usage_event"] = "usage_event"
    kind: UsageKind
    quantity: int = Field(examples=[1500])
    unit: str = Field(examples=["token"])
    unit_price_microusd: str = Field(
        description="What `price_units` units cost, in millionths of a US dollar; an exact decimal number.",
        examples=["250000"],
    )
    price_units: int = Field(examples=[1_000_000])
    cost_microusd: int = Field(description="What it cost you, in millionths of a US dollar.", examples=[375])
    source_id: str = Field(description="What caused it.")
    dimensions: dict[str, str] = Field(description="What it can be told apart by.", examples=[{"model": "gpt-5-mini"}])
    occurred_at: datetime
    created_at: datetime = Field(description="When it was recorded.")

    @classmethod
    def of(cls, event: UsageEvent) -> Self:
        return cls(
            id=event.id,
            kind=event.kind,
            quantity=event.quantity,
            unit=event.unit,
            unit_price_microusd=f"{event.unit_price.microusd:f}",
            price_units=event.unit_price.units,
            cost_microusd=event.cost_microusd,
            source_id=event.source_id,
            dimensions=event.dimensions,
            occurred_at=event.occurred_at,
            created_at=event.recorded_at,
        )


class UsageTotalOut(Output):
    """All of one kind in the time range."""

    object: Literal["usage_total"] = "usage_total"
    kind: UsageKind
    unit: str = Field(examples=["token"])
    quantity: int
    cost_microusd: int


class UsageSummaryOut(Output):
    """What was used in `since <= t < until`, by kind."""

    object: Literal["usage_summary"] = "usage_summary"
    since: datetime
    until: datetime
    data: list[UsageTotalOut]
    cost_microusd: int = Field(description="The sum over all kinds.")

    @classmethod
    def of(cls, totals: list[UsageTotal], *, since: datetime, until: datetime) -> Self:
        return cls(
            since=since,
            until=until,
            data=[
                UsageTotalOut(
                    kind=total.kind, unit=total.kind.unit, quantity=total.quantity, cost_microusd=total.cost_microusd
                )
                for total in totals
            ],
            cost_microusd=sum(total.cost_microusd for total in totals),
        )
