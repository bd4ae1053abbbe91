"""Public JSON of quotas and rate limits."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field

from shared.kernel.fields import Input, OrgId, Output
from shared.kernel.rates import Rate, RateKind
from shared.quotas.model import KEEP, MOST, AllowanceStatus, Limits, QuotaStatus
from shared.quotas.plans import Allowance, Resource

type Amount = Annotated[int, Field(ge=0, le=MOST)]
type Days = Annotated[int, Field(ge=1, le=36_500)]
# At most a million a second: beyond that nothing is limited.
type PerMinute = Annotated[int, Field(ge=1, le=60_000_000)]


class QuotaOfResource(Output):
    """How much the org may hold of a resource and holds. `limit` may be below `used` once it was lowered."""

    limit: int | None = Field(description="Null: no limit.", examples=[5])
    used: int = Field(examples=[2])


class AllowanceOfMonth(Output):
    """How much the org may use in this calendar month, in UTC, and has used."""

    limit: int | None = Field(description="Null: no limit.", examples=[1000])
    used: int = Field(examples=[12])


class RateOut(Output):
    """A token bucket: at most `burst` requests at once, and `per_minute` in the long run."""

    per_minute: int = Field(examples=[600])
    burst: int = Field(examples=[100])

    @classmethod
    def of(cls, rate: Rate) -> Self:
        return cls(per_minute=rate.per_minute, burst=rate.burst)


class RatesOfKind(Output):
    """The buckets on which one request counts, both at once."""

    org: RateOut = Field(description="Shared by all callers of the org.")
    actor: RateOut = Field(description="Each key's and each person's own. A key may have a lower limit of its own.")


class QuotaOut(Output):
    """What an org may hold at once, and how fast it may call."""

    object: Literal["quota"] = "quota"
    org_id: OrgId
    plan: str = Field(examples=["free"])
    quotas: dict[Resource, QuotaOfResource]
    monthly: dict[Allowance, AllowanceOfMonth]
    retention_days: int | None = Field(
        description="Ended runs and sandboxes are kept for so many days. Null: for good.", examples=[7]
    )
    rates: dict[RateKind, RatesOfKind] = Field(
        description="`read`: GET. `model`: chat completions and embeddings. `create`: everything else."
    )

    @classmethod
    def of(cls, org_id: UUID, limits: Limits, statuses: list[QuotaStatus], allowances: list[AllowanceStatus]) -> Self:
        return cls(
            org_id=org_id,
            plan=limits.plan.name,
            quotas={each.resource: QuotaOfResource(limit=each.limit, used=each.used) for each in statuses},
            monthly={each.allowance: AllowanceOfMonth(limit=each.limit, used=each.used) for each in allowances},
            retention_days=limits.retention_days,
            rates={
                kind: RatesOfKind(org=RateOut.of(limits.org_rate(kind)), actor=RateOut.of(limits.actor_rate(kind)))
                for kind in RateKind
            },
        )


class SetQuota(Input):
    """What an org is allowed apart from its plan. What isn't named stays; null takes the plan's own again."""

    quotas: dict[Resource, Amount | None] = Field({}, examples=[{"concurrent_runs": 40}])
    rates: dict[RateKind, PerMinute | None] = Field(
        {}, description="Requests per minute of the whole org.", examples=[{"read": 6000, "model": None}]
    )
    monthly: dict[Allowance, Amount | None] = Field(
        {}, description="What it may use in a calendar month.", examples=[{"memories": 5000}]
    )
    retention_days: Days | None = Field(
        None, description="For how long ended runs and sandboxes are kept.", examples=[365]
    )

    @property
    def retention(self) -> int | None:
        """The days, `KEEP` where none are named."""
        return self.retention_days if "retention_days" in self.model_fields_set else KEEP
