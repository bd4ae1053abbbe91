"""Public JSON of estimates, and the `?dry_run=true` of what costs something."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from fastapi import Query
from fastapi.responses import JSONResponse
from pydantic import Field

from shared.billing.estimates import Basis, DryRun, Estimate, WeekOfEstimates, price_book_of
from shared.kernel import clock
from shared.kernel.fields import Output

DryRunAsked = Annotated[
    bool,
    Query(
        description="Only tell what this would cost and whether it would be let through: checked as the real one, "
        "nothing is started, held, counted or written down. The `Idempotency-Key` is not looked at."
    ),
]


class EstimateOut(Output):
    """`expected <= p90 <= worst`, in millionths of a US dollar."""

    object: Literal["estimate"] = "estimate"
    kind: str = Field(examples=["run"])
    expected_microusd: int = Field(description="The mean.")
    p90_microusd: int = Field(description="Nine in ten cost no more. Without a history: the worst case.")
    worst_microusd: int = Field(description="It can't cost more; this much is held when it starts.")
    basis: Basis = Field(description="What the same thing cost before, or prices and assumptions alone.")
    samples: int = Field(description="How many past costs it rests on.")
    price_book: datetime = Field(description="Since when the prices are in force that were used.")

    @classmethod
    def of(cls, kind: str, estimate: Estimate) -> Self:
        return cls(
            kind=kind,
            expected_microusd=estimate.expected_microusd,
            p90_microusd=estimate.p90_microusd,
            worst_microusd=estimate.worst_microusd,
            basis=estimate.basis,
            samples=estimate.samples,
            price_book=price_book_of(clock.now()),
        )


class Refusal(Output):
    """What the request would be answered with: the error's stable code, and what to do."""

    code: str = Field(examples=["insufficient_credits"])
    message: str
    details: dict[str, Any] | None = Field(description="What the message says of a limit, for programs.")


class DryRunOut(EstimateOut):
    """What a request would cost and whether it would be let through just now."""

    would_start: bool
    refusal: Refusal | None

    @classmethod
    def answer(cls, dry: DryRun) -> JSONResponse:
        """Return the whole answer to a dry run: 200, whatever the real request is answered with."""
        refused = dry.refusal
        told = cls(
            **EstimateOut.of(dry.kind, dry.estimate).model_dump(),
            would_start=refused is None,
            refusal=None
            if refused is None
            else Refusal(
                code=refused.code,
                message=refused.message,
                details=None if refused.details is None else dict(refused.details),
            ),
        )
        return JSONResponse(told.model_dump(mode="json"))


# For routes whose own answer has another status.
DRY_RUN: dict[int | str, dict[str, Any]] = {
    200: {"model": DryRunOut, "description": "With `dry_run=true`: what it would cost, and whether it would start."}
}


class WeekOfEstimatesOut(Output):
    """Estimates of one kind and basis beside what came of them, in one ISO week of UTC."""

    week: str = Field(description="By when it ended.", examples=["2026-W47"])
    week_begins: date = Field(examples=["2026-11-16"])
    kind: str = Field(examples=["run"])
    basis: Basis
    count: int
    free: int = Field(description="How many of them cost nothing in the end.")
    error_percent: float | None = Field(
        description="Mean absolute percentage error of `expected` over those that cost something.", examples=[12.5]
    )
    within_p90: float = Field(description="Share of all that cost no more than their p90.", examples=[0.93])
    beyond_worst: float = Field(description="Share of all that cost more than their worst case: always 0.")
    expected_microusd: int = Field(description="The sum.")
    actual_microusd: int = Field(description="The sum.")

    @classmethod
    def of(cls, week: WeekOfEstimates) -> Self:
        year, number, _ = week.week.isocalendar()
        return cls(
            week=f"{year}-W{number:02d}",
            week_begins=week.week,
            kind=week.kind,
            basis=week.basis,
            count=week.count,
            free=week.free,
            error_percent=None if week.error_percent is None else round(week.error_percent, 2),
            within_p90=round(week.within_p90, 4),
            beyond_worst=round(week.beyond_worst, 4),
            expected_microusd=week.expected_microusd,
            actual_microusd=week.actual_microusd,
        )


class EstimatesReport(Output):
    """How good estimates were, the latest week first."""

    object: Literal["estimates_report"] = "estimates_report"
    since: datetime
    until: datetime
    data: list[WeekOfEstimatesOut]

    @classmethod
    def of(cls, weeks: list[WeekOfEstimates], *, since: datetime, until: datetime) -> Self:
        return cls(since=since, until=until, data=[WeekOfEstimatesOut.of(week) for week in weeks])
