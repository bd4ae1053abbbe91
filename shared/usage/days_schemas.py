"""Public JSON of days of usage."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Literal, Self

from pydantic import Field

from shared.kernel.fields import Output
from shared.usage.days_model import DayOfUsage
from shared.usage.model import UsageKind


class DayOfUsageOut(Output):
    """All of one kind on one day, or of one group of it. Days on which nothing was used are left out."""

    object: Literal["usage_day"] = "usage_day"
    day: date
    kind: UsageKind
    unit: str = Field(examples=["token"])
    quantity: int
    cost_microusd: int
    events: int = Field(description="How many usage events these are.")
    agent_id: str | None = Field(description="Null when not grouped by agent, and for what no agent used.")
    person_id: str | None = Field(description="Null when not grouped by person, and for what nobody used in person.")
    key_id: str | None = Field(description="Null when not grouped by key, and for what was used without one.")
    model: str | None = Field(description="Null when not grouped by model, and for what is used without one.")


class UsageDaysOut(Output):
    """What was used on each day from `since` to `until`, both included, in the order of days."""

    object: Literal["usage_days"] = "usage_days"
    time_zone: str = Field(description="Where the days begin and end.", examples=["Europe/Berlin"])
    since: date
    until: date
    as_of: datetime = Field(description="When this was read; what was recorded moments before may be missing.")
    data: list[DayOfUsageOut]
    cost_microusd: int = Field(description="The sum over all days.")

    @classmethod
    def of(cls, found: Sequence[DayOfUsage], *, since: date, until: date, time_zone: str, as_of: datetime) -> Self:
        return cls(
            time_zone=time_zone,
            since=since,
            until=until,
            as_of=as_of,
            data=[
                DayOfUsageOut(
                    day=row.day,
                    kind=row.kind,
                    unit=row.kind.unit,
                    quantity=row.quantity,
                    cost_microusd=row.cost_microusd,
                    events=row.events,
                    agent_id=row.agent_id or None,
                    person_id=row.person_id or None,
                    key_id=row.key_id or None,
                    model=row.model or None,
                )
                for row in found
            ],
            cost_microusd=sum(row.cost_microusd for row in found),
        )
