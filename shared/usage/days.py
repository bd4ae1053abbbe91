"""Use cases of days of usage: add the ledger up by day, again and again without harm, and read what days came to."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.usage import days_store as store
from shared.usage.days_model import (
    MAX_DAYS,
    MAX_ROWS,
    UTC,
    DayOfUsage,
    Dimension,
    TooMuchUsage,
    UnknownTimeZone,
    Watermark,
    check_range,
    may_be_a_zone,
    recorded_since,
)
from shared.usage.model import UsageKind

_NOBODY = UUID(int=0)
# Postgres takes a tenth of a second to look one up in its files. There are some six hundred.
_KNOWN_ZONES = {UTC}


def aggregate(tx: Tx, caller: Caller, day: date) -> int:
    """Write the rows of this UTC day of the caller's org anew from the ledger; return how many there are.

    Done twice, or by two at once, it comes to the same: they take turns, and each writes what the ledger says.
    """
    return store.add_up_day(tx, caller.org_id, day)


def touched_days(tx: Tx, since: datetime | None) -> list[date]:
    """Return the UTC days with events that were recorded since then, late ones of long ago included; None: ever.

    Events that were recorded shortly before, but may have been committed only since, count as well.
    """
    return store.touched_days(tx, recorded_since(since) if since else _NOBODY)


def watermark(tx: Tx) -> Watermark:
    """Return up to when the tenant's days are added up."""
    return store.watermark(tx)


def days_to_add(tx: Tx, *, as_of: datetime, between: tuple[date, date] | None = None) -> list[date]:
    """Return the days that a job which began at `as_of` still has to add up: what it did before being killed is done.

    Without `between`, both included, these are the days touched since the tenant's watermark.
    """
    wanted = store.days_between(tx, *between) if between else touched_days(tx, store.watermark(tx).added_until)
    done = store.days_done(tx, as_of)
    return [day for day in wanted if day not in done]


def caught_up(tx: Tx, caller: Caller, *, as_of: datetime) -> None:
    """Note that every day touched before `as_of` is added up."""
    store.advance(tx, caller.org_id, as_of)


def orgs_to_aggregate(
    tx: Tx, *, after: UUID | None = None, amount: int, between: tuple[date, date] | None = None
) -> Sequence[UUID]:
    """Return the next tenants, in the order of their ids, of which a day must be added up; needs no tenant itself.

    Without `between`, both included, it is those with events recorded since their watermark, however old that is.
    """
    if between is None:
        return store.orgs_behind(tx, after=after or _NOBODY, amount=amount)
    since, until = between
    return store.orgs_used(tx, after=after or _NOBODY, amount=amount, since=since, until=until)


def today(tx: Tx, time_zone: str) -> date:
    """Return which day it is there; raise `UnknownTimeZone`."""
    _check_zone(tx, time_zone)
    return store.today(tx, time_zone)


def daily(
    tx: Tx,
    since: date,
    until: date,
    time_zone: str = UTC,
    group_by: frozenset[Dimension] = frozenset(),
    kind: UsageKind | None = None,
) -> list[DayOfUsage]:
    """Return what each day from `since` to `until`, both included, came to, in the order of days, kinds and groups.

    Right at once, whatever has been added up so far. Raises `UnknownTimeZone`, `TooMuchUsage`, and `InvalidRequest`
    for a range of more than 400 days.
    """
    check_range(since, until, most=MAX_DAYS)
    if time_zone == UTC:
        found = store.days_in_utc(tx, since, until, group_by, kind, limit=MAX_ROWS + 1)
    else:
        _check_zone(tx, time_zone)
        found = store.days_elsewhere(tx, since, until, time_zone, group_by, kind, limit=MAX_ROWS + 1)
    if len(found) > MAX_ROWS:
        raise TooMuchUsage(
            f"More than {MAX_ROWS} rows: ask for fewer days, for one kind, or group by less.", param="group_by"
        )
    return found


def _check_zone(tx: Tx, name: str) -> None:
    if name in _KNOWN_ZONES:
        return
    if not (may_be_a_zone(name) and store.knows_zone(tx, name)):
        raise UnknownTimeZone("time_zone: not a name of the IANA database, e.g. Europe/Berlin.", param="time_zone")
    _KNOWN_ZONES.add(name)
