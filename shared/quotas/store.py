"""SQL of quotas. Whoever changes what an org holds locks its row in `quota_usage` first, so that nobody deadlocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.kernel.db import Tx
from shared.quotas.plans import PLANS, Allowance, Resource

# Beyond what anybody can come to hold; a plan that there is not allows nothing.
_UNLIMITED = 2**62

# One statement: the limit is read, the row of usage locked and raised if that fits, then the holder written down.
ALLOCATE: LiteralString = """
    WITH allowed AS (
        SELECT org.plan, coalesce(
                   (org.resource_quota #>> ARRAY['quotas', %(resource)s])::bigint,
                   (%(by_plan)s::jsonb ->> org.plan)::bigint, 0
               ) AS most
          FROM orgs org WHERE org.id = %(org_id)s
    ), taken AS (
        INSERT INTO quota_usage AS held (org_id, resource, used)
        SELECT %(org_id)s, %(resource)s, %(amount)s FROM allowed WHERE %(amount)s <= most
        ON CONFLICT (org_id, resource) DO UPDATE SET used = held.used + excluded.used
         WHERE held.used + excluded.used <= (SELECT most FROM allowed)
        RETURNING used
    ), recorded AS (
        INSERT INTO quota_allocations (org_id, resource, holder, amount)
        SELECT %(org_id)s, %(resource)s, %(holder)s, %(amount)s FROM taken
        ON CONFLICT DO NOTHING
        RETURNING holder
    )
    SELECT allowed.plan, allowed.most, EXISTS (SELECT FROM taken) AS taken, EXISTS (SELECT FROM recorded) AS recorded
      FROM allowed
"""
GIVE_BACK: LiteralString = """
    UPDATE quota_usage SET used = greatest(used - %(amount)s, 0)
     WHERE org_id = %(org_id)s AND resource = %(resource)s
"""
HOLDS: LiteralString = """
    SELECT FROM quota_allocations WHERE org_id = %(org_id)s AND resource = %(resource)s AND holder = %(holder)s
"""
USED: LiteralString = "SELECT used FROM quota_usage WHERE org_id = %(org_id)s AND resource = %(resource)s"
LOCK: LiteralString = """
    SELECT used FROM quota_usage WHERE org_id = %(org_id)s AND resource = %(resource)s FOR UPDATE
"""
RELEASE: LiteralString = """
    WITH freed AS (
        DELETE FROM quota_allocations
         WHERE org_id = %(org_id)s AND resource = %(resource)s AND holder = %(holder)s
        RETURNING amount
    )
    UPDATE quota_usage SET used = greatest(used - freed.amount, 0) FROM freed
     WHERE org_id = %(org_id)s AND resource = %(resource)s
    RETURNING freed.amount
"""
STATUS: LiteralString = """
    SELECT org.plan, org.resource_quota,
           coalesce(jsonb_object_agg(held.resource, held.used) FILTER (WHERE held.resource IS NOT NULL), '{}') AS used
      FROM orgs org LEFT JOIN quota_usage held ON held.org_id = org.id
     WHERE org.id = %(org_id)s
     GROUP BY org.plan, org.resource_quota
"""
SET_LIMITS: LiteralString = """
    UPDATE orgs SET resource_quota = %(resource_quota)s, updated_at = now() WHERE id = %(org_id)s
"""
SET_PLAN: LiteralString = "UPDATE orgs SET plan = %(plan)s, updated_at = now() WHERE id = %(org_id)s"
LOCK_ORG: LiteralString = "SELECT FROM orgs WHERE id = %(org_id)s FOR NO KEY UPDATE"
# As ALLOCATE does: the limit is read, and the month's count raised if that fits.
SPEND: LiteralString = """
    WITH allowed AS (
        SELECT org.plan, coalesce(
                   (org.resource_quota #>> ARRAY['monthly', %(allowance)s])::bigint,
                   (%(by_plan)s::jsonb ->> org.plan)::bigint, 0
               ) AS most
          FROM orgs org WHERE org.id = %(org_id)s
    ), spent AS (
        INSERT INTO monthly_usage AS counted (org_id, month, allowance, used)
        SELECT %(org_id)s, %(month)s, %(allowance)s, %(amount)s FROM allowed WHERE %(amount)s <= most
        ON CONFLICT (org_id, month, allowance) DO UPDATE SET used = counted.used + excluded.used
         WHERE counted.used + excluded.used <= (SELECT most FROM allowed)
        RETURNING used
    )
    SELECT allowed.plan, allowed.most, EXISTS (SELECT FROM spent) AS fitted FROM allowed
"""
SPENT: LiteralString = "SELECT allowance, used FROM monthly_usage WHERE org_id = %(org_id)s AND month = %(month)s"
EVERY_ORG: LiteralString = "SELECT every_org() AS id"
ENSURE: LiteralString = """
    INSERT INTO quota_usage (org_id, resource, used) VALUES (%(org_id)s, %(resource)s, 0) ON CONFLICT DO NOTHING
"""
HOLDERS: LiteralString = """
    SELECT holder, amount, allocated_at < now() - %(grace)s::interval AS settled FROM quota_allocations
     WHERE org_id = %(org_id)s AND resource = %(resource)s
       AND (%(after)s::text IS NULL OR holder > %(after)s) AND (%(until)s::text IS NULL OR holder <= %(until)s)
       AND (%(among)s::text[] IS NULL OR holder = ANY(%(among)s))
"""
PUT_HOLDER: LiteralString = """
    INSERT INTO quota_allocations (org_id, resource, holder, amount)
    VALUES (%(org_id)s, %(resource)s, %(holder)s, %(amount)s)
    ON CONFLICT (org_id, resource, holder) DO UPDATE SET amount = excluded.amount
"""
REMOVE_HOLDER: LiteralString = """
    DELETE FROM quota_allocations WHERE org_id = %(org_id)s AND resource = %(resource)s AND holder = %(holder)s
"""
COUNTED: LiteralString = """
    SELECT coalesce((SELECT used FROM quota_usage WHERE org_id = %(org_id)s AND resource = %(resource)s), 0) AS used,
           coalesce(sum(amount), 0) AS held
      FROM quota_allocations WHERE org_id = %(org_id)s AND resource = %(resource)s
"""
SET_USED: LiteralString = """
    UPDATE quota_usage SET used = %(used)s WHERE org_id = %(org_id)s AND resource = %(resource)s
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """What one thing is counted with. `settled`: for long enough that the thing must be there by now."""

    amount: int
    settled: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of an allocation: `taken` if it fitted, `recorded` if the holder had none of it before."""

    plan: str
    most: int
    taken: bool
    recorded: bool


@dataclass(frozen=True, slots=True)
class Spending:
    """What became of using up an allowance: it `fitted` or changed nothing."""

    plan: str
    most: int
    fitted: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """An org's plan, its overrides as stored, and what it uses by resource."""

    plan: str
    resource_quota: dict[str, Any]
    used: dict[str, int]


def allocate(tx: Tx, org_id: UUID, resource: Resource, *, holder: str, amount: int) -> Attempt | None:
    """Try to allocate; None when the org isn't there. What was taken and not recorded must be given back."""
    by_plan = _by_plan({name: plan.quotas[resource] for name, plan in PLANS.items()})
    parameters = {**_of(org_id, resource), "holder": holder, "amount": amount, "by_plan": by_plan}
    row = tx.execute(ALLOCATE, parameters).fetchone()
    return None if row is None else Attempt(row["plan"], row["most"], row["taken"], row["recorded"])


def give_back(tx: Tx, org_id: UUID, resource: Resource, *, amount: int) -> None:
    tx.execute(GIVE_BACK, {**_of(org_id, resource), "amount": amount})


def holds(tx: Tx, org_id: UUID, resource: Resource, *, holder: str) -> bool:
    return tx.execute(HOLDS, {**_of(org_id, resource), "holder": holder}).fetchone() is not None


def used(tx: Tx, org_id: UUID, resource: Resource) -> int:
    row = tx.execute(USED, _of(org_id, resource)).fetchone()
    return 0 if row is None else int(row["used"])


def release(tx: Tx, org_id: UUID, resource: Resource, *, holder: str) -> bool:
    """Return whether the holder had some. The second of two at once waits for the first, and finds nothing."""
    with tx.pipeline():
        # There must be a row to lock: else one that somebody commits in between would be changed without its lock.
        tx.execute(ENSURE, _of(org_id, resource))
        tx.execute(LOCK, _of(org_id, resource))
        freed = tx.execute(RELEASE, {**_of(org_id, resource), "holder": holder})
    return freed.fetchone() is not None


def stored(tx: Tx, org_id: UUID) -> Stored | None:
    row = tx.execute(STATUS, {"org_id": org_id}).fetchone()
    return None if row is None else Stored(row["plan"], row["resource_quota"], row["used"])


def lock_org(tx: Tx, org_id: UUID) -> None:
    tx.execute(LOCK_ORG, {"org_id": org_id})


def set_limits(tx: Tx, org_id: UUID, *, resource_quota: dict[str, Any]) -> None:
    tx.execute(SET_LIMITS, {"org_id": org_id, "resource_quota": Jsonb(resource_quota)})


def set_plan(tx: Tx, org_id: UUID, plan: str) -> None:
    tx.execute(SET_PLAN, {"org_id": org_id, "plan": plan})


def spend(tx: Tx, org_id: UUID, allowance: Allowance, *, month: date, amount: int) -> Spending | None:
    """Try to use up this much of the month's allowance; None when the org isn't there."""
    by_plan = _by_plan({name: plan.monthly[allowance] for name, plan in PLANS.items()})
    asked = {"org_id": org_id, "allowance": str(allowance), "month": month, "amount": amount, "by_plan": by_plan}
    row = tx.execute(SPEND, asked).fetchone()
    return None if row is None else Spending(row["plan"], row["most"], row["fitted"])


def spent(tx: Tx, org_id: UUID, *, month: date) -> dict[str, int]:
    """Return what was used of each allowance in this month."""
    return {row["allowance"]: row["used"] for row in tx.execute(SPENT, {"org_id": org_id, "month": month})}


def every_org(tx: Tx) -> list[UUID]:
    return [row["id"] for row in tx.execute(EVERY_ORG)]


def lock(tx: Tx, org_id: UUID, resource: Resource) -> None:
    """Let nobody else allocate or release this resource until the transaction ends."""
    tx.execute(ENSURE, _of(org_id, resource))
    tx.execute(LOCK, _of(org_id, resource))


def holders(
    tx: Tx,
    org_id: UUID,
    resource: Resource,
    *,
    grace: timedelta,
    after: str | None = None,
    until: str | None = None,
    among: list[str] | None = None,
) -> dict[str, Holder]:
    """Return what is counted, by holder: those beyond `after` up to and with `until`, or `among` these."""
    asked = {**_of(org_id, resource), "grace": grace, "after": after, "until": until, "among": among}
    return {row["holder"]: Holder(row["amount"], row["settled"]) for row in tx.execute(HOLDERS, asked)}


def put_holder(tx: Tx, org_id: UUID, resource: Resource, *, holder: str, amount: int) -> None:
    tx.execute(PUT_HOLDER, {**_of(org_id, resource), "holder": holder, "amount": amount})


def remove_holder(tx: Tx, org_id: UUID, resource: Resource, *, holder: str) -> None:
    tx.execute(REMOVE_HOLDER, {**_of(org_id, resource), "holder": holder})


def counted(tx: Tx, org_id: UUID, resource: Resource) -> tuple[int, int]:
    """Return what the org's row of usage says, and what its holders come to; they are the same unless damaged."""
    row = tx.execute(COUNTED, _of(org_id, resource)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate
    return int(row["used"]), int(row["held"])


def set_used(tx: Tx, org_id: UUID, resource: Resource, *, used: int) -> None:
    tx.execute(SET_USED, {**_of(org_id, resource), "used": used})


def _by_plan(limits: Mapping[str, int | None]) -> Jsonb:
    return Jsonb({plan: _UNLIMITED if limit is None else limit for plan, limit in limits.items()})


def _of(org_id: UUID, resource: Resource) -> dict[str, Any]:
    return {"org_id": org_id, "resource": str(resource)}
