"""Public JSON of forecasts and advice."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from shared.billing.advice import Advice, AdviceKind
from shared.billing.forecast import Forecast
from shared.kernel.fields import Output

_MOMENT = "null when nothing is spent, or in ten years at the soonest."


class ForecastOut(Output):
    """When the credits run out if they are spent as they were in the last four weeks, later days weighing more."""

    object: Literal["credit_forecast"] = "credit_forecast"
    as_of: datetime
    available_microusd: int = Field(description="What can be spent now; what is held isn't part of it.")
    per_day_microusd: int = Field(description="What a day costs.")
    runs_out_at: datetime | None = Field(description=f"The ends of credits that expire are part of it; {_MOMENT}")
    earliest: datetime | None = Field(description="If every day were like the dearest days or weeks seen.")
    latest: datetime | None = Field(description=f"If every day were like the cheapest days or weeks seen; {_MOMENT}")
    basis_days: int = Field(description="How many days it rests on: those since the first use, 28 at most.")

    @classmethod
    def of(cls, found: Forecast, *, available_microusd: int, as_of: datetime) -> Self:
        return cls(
            as_of=as_of,
            available_microusd=available_microusd,
            per_day_microusd=found.per_day_microusd,
            runs_out_at=found.runs_out_at,
            earliest=found.earliest,
            latest=found.latest,
            basis_days=found.basis_days,
        )


class AdviceOut(Output):
    object: Literal["advice"] = "advice"
    kind: AdviceKind
    subject: str = Field(description="The model it is about, or `sandboxes`.", examples=["gpt-5"])
    what: str = Field(description="What to do.")
    saves_microusd: int = Field(description="What it would have saved in the time range, at most.")
    basis: str = Field(description="What that was worked out from.")

    @classmethod
    def of(cls, advice: Advice) -> Self:
        return cls(
            kind=advice.kind,
            subject=advice.subject,
            what=advice.what,
            saves_microusd=advice.saves_microusd,
            basis=advice.basis,
        )


class AdviceReport(Output):
    """Each advice stands for itself: what two of them save doesn't add up."""

    object: Literal["advice_report"] = "advice_report"
    since: datetime
    until: datetime
    data: list[AdviceOut] = Field(description="What saves most comes first; empty when there is nothing to save.")
