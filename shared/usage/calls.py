"""Closes windows of counted requests: what was counted in five minutes leaves its counter and becomes usage."""

from datetime import datetime, timedelta
from uuid import UUID

from shared.kernel import counting, ids
from shared.kernel.db import Row, Tx
from shared.usage import calls_store as store
from shared.usage.model import Metered, UsageKind

# By then requests that ended in the window are counted, but for a few stragglers.
_GRACE = timedelta(minutes=1)
AT_ONCE = 1000


def closed_before(now: datetime) -> datetime:
    """Return the moment before which a window has begun that may be closed by now."""
    return now - counting.WINDOW - _GRACE


def orgs_to_close(tx: Tx, *, before: datetime) -> list[UUID]:
    """Return the tenants with counted requests of windows that began before then; `tx` may be anonymous."""
    return store.orgs_to_close(tx, before=before)


def take_closed(tx: Tx, *, before: datetime) -> list[Metered]:
    """Take up to `AT_ONCE` closed windows out of the counters: an event for each actor in each of them.

    `tx` must record all of them, or else roll back. What was counted after its window had been closed comes under a
    source of its own.
    """
    store.lock(tx)
    taken = store.take_closed(tx, before=before, limit=AT_ONCE)
    if not taken:
        return []
    names = [_name(row) for row in taken]
    before_this = store.times_claimed(tx, UsageKind.API_CALLS, names)
    return [
        Metered(
            kind=UsageKind.API_CALLS,
            quantity=row["calls"],
            source_id=f"{name}:{before_this[name]}" if before_this[name] else name,
            occurred_at=row["window_start"],
            dimensions=_dimensions(row),
        )
        for name, row in zip(names, taken, strict=True)
    ]


def _name(row: Row) -> str:
    return f"calls:{int(row['window_start'].timestamp())}:{row['actor_id']}"


def _dimensions(row: Row) -> dict[str, str]:
    found = {"key_id": row["actor_id"]} if row["actor_id"].startswith("key_") else {}
    if row["person_id"] is not None:
        found["person_id"] = ids.show("user", row["person_id"])
    return found
