"""Today's figures in Redis, which may lose them, and the SQL that brings them back."""

from datetime import date, datetime, timedelta
from typing import LiteralString
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, NonNegativeInt, ValidationError

from shared.kernel import cache
from shared.kernel.db import Tx
from shared.usage.model import UsageKind, UsageTotal

# One statement sees a request either in its counter or in the ledger.
TODAY: LiteralString = """
    SELECT kind, sum(quantity)::bigint AS quantity, sum(cost_microusd)::bigint AS cost_microusd
      FROM (
        SELECT kind, quantity, cost_microusd FROM usage_events
         WHERE occurred_at >= %(since)s AND occurred_at < %(until)s
        UNION ALL
        SELECT %(calls)s, calls, 0 FROM api_calls
         WHERE window_start >= %(since)s AND window_start < %(until)s
      ) used
     GROUP BY kind
"""


class _Kept(BaseModel):
    """What stands in Redis; anything else there is as good as nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    as_of: AwareDatetime
    used: dict[str, tuple[NonNegativeInt, NonNegativeInt]]


def totals(tx: Tx, *, since: datetime, until: datetime) -> dict[UsageKind, UsageTotal]:
    """Return what is in the ledger, with requests whose window isn't closed yet: those have no cost so far."""
    rows = tx.execute(TODAY, {"since": since, "until": until, "calls": UsageKind.API_CALLS})
    found = (UsageTotal(UsageKind(row["kind"]), row["quantity"], row["cost_microusd"]) for row in rows)
    return {total.kind: total for total in found}


def keep(org_id: UUID, day: date, *, as_of: datetime, used: list[UsageTotal], ttl: timedelta) -> None:
    kept = _Kept(as_of=as_of, used={total.kind: (total.quantity, total.cost_microusd) for total in used})
    cache.put(_key(org_id, day), kept.model_dump_json().encode(), ttl_s=round(ttl.total_seconds()))


def kept(org_id: UUID, day: date) -> tuple[datetime, list[UsageTotal]] | None:
    """Return what was kept and when, or None: not there, not readable, or Redis is gone."""
    raw = cache.get(_key(org_id, day))
    if raw is None:
        return None
    try:
        found = _Kept.model_validate_json(raw)
    except ValidationError:
        return None
    if found.used.keys() != set(UsageKind):
        return None
    return found.as_of, [UsageTotal(kind, *found.used[kind]) for kind in UsageKind]


def _key(org_id: UUID, day: date) -> str:
    return f"usage:today:{org_id}:{day}"
