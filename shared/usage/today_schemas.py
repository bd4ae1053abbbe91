"""Public JSON of the present day's usage."""

from datetime import date, datetime
from typing import Literal, Self

from pydantic import Field

from shared.kernel.fields import Output
from shared.usage.schemas import UsageTotalOut
from shared.usage.today import Today


class UsageTodayOut(Output):
    """What was used so far on the present UTC day, by kind: at most 10 seconds old."""

    object: Literal["usage_today"] = "usage_today"
    day: date = Field(description="In UTC.")
    as_of: datetime = Field(description="What was recorded by then is counted.")
    data: list[UsageTotalOut] = Field(
        description="API calls of the last minutes are counted; their cost is once their five minutes are over."
    )
    cost_microusd: int = Field(description="The sum over all kinds.")

    @classmethod
    def of(cls, figures: Today) -> Self:
        return cls(
            day=figures.day,
            as_of=figures.as_of,
            data=[
                UsageTotalOut(
                    kind=total.kind, unit=total.kind.unit, quantity=total.quantity, cost_microusd=total.cost_microusd
                )
                for total in figures.totals
            ],
            cost_microusd=sum(total.cost_microusd for total in figures.totals),
        )
