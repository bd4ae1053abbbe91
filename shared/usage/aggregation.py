"""The job that adds days up: which tenants are next, what became of those before, and when it is over."""

from datetime import date
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError, model_validator

from shared.kernel import ids
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest
from shared.kernel.fields import Input, OrgId
from shared.usage import days
from shared.usage.days_model import MAX_BACKFILL_DAYS, AggregationIncomplete, check_range

# A page of ids stays far below the 256 KB that a state may hand on, results included.
PAGE = 100
# An execution's history may have 25,000 events; a tenant with all its retries makes 39. Then another one takes over.
MAX_PAGES = 6
_NAMED = 20


class Result(Input):
    """What became of one tenant."""

    org_id: UUID
    failed: bool
    days: int = 0
    error: str = ""


class Job(Input):
    """What the states of AggregateUsage hand on; an execution starts with none of it, or with the upper four.

    With `since` and `until`, both included, every day of the range is added up anew; without, every day that events
    were recorded for since the tenant's watermark.
    """

    model_config = ConfigDict(extra="forbid")

    since: date | None = None
    until: date | None = None
    org_id: OrgId | None = None
    # When the job began: what is added up by then needn't be again.
    as_of: AwareDatetime | None = None

    cursor: UUID | None = None
    pages: int = 0
    orgs: list[UUID] = []
    results: list[Result] = []
    orgs_done: int = 0
    orgs_failed: int = 0
    first_failed: list[str] = Field(default=[], max_length=_NAMED)
    next: Literal["aggregate", "continue", "conclude"] = "aggregate"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.since is None) != (self.until is None):
            raise ValueError("since and until are given together, or neither is.")
        return self

    @property
    def between(self) -> tuple[date, date] | None:
        return (self.since, self.until) if self.since and self.until else None

    @classmethod
    def read(cls, state: dict[str, Any]) -> Self:
        """Raise `InvalidRequest` when this is no such job."""
        try:
            job = cls.model_validate(state)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "input"
            raise InvalidRequest(f"{where}: {first['msg']}", param=where) from error
        if job.between:
            check_range(*job.between, most=MAX_BACKFILL_DAYS)
        return job

    def written(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def following(tx: Tx, job: Job) -> Job:
    """Return the job with the results so far counted and the next page of tenants to do; needs no tenant itself."""
    as_of = job.as_of or days.watermark(tx).now
    failed = [ids.show("org", result.org_id) for result in job.results if result.failed]
    orgs: list[UUID]
    if job.org_id:
        orgs = [] if job.pages else [job.org_id]
    else:
        orgs = list(days.orgs_to_aggregate(tx, after=job.cursor, amount=PAGE, between=job.between))
    elsewhere = bool(orgs) and job.pages >= MAX_PAGES
    return job.model_copy(
        update={
            "as_of": as_of,
            "orgs": [] if elsewhere else orgs,
            "results": [],
            "cursor": orgs[-1] if orgs and not elsewhere else job.cursor,
            "pages": job.pages + 1,
            "orgs_done": job.orgs_done + len(job.results) - len(failed),
            "orgs_failed": job.orgs_failed + len(failed),
            "first_failed": (job.first_failed + failed)[:_NAMED],
            "next": "continue" if elsewhere else "aggregate" if orgs else "conclude",
        }
    )


def conclude(job: Job) -> dict[str, int]:
    """Return how many tenants were done; raise `AggregationIncomplete` when there are some that were not."""
    if job.orgs_failed:
        more = ", …" if job.orgs_failed > len(job.first_failed) else ""
        raise AggregationIncomplete(
            f"{job.orgs_failed} orgs could not be added up: {', '.join(job.first_failed)}{more}. "
            "The next run takes them up again."
        )
    return {"orgs": job.orgs_done}
