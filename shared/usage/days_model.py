"""What each day came to: an event belongs to the day it occurred on, in whichever time zone is asked for."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from shared.kernel.errors import InvalidRequest, Kind, RunyardError
from shared.usage.model import UsageKind

UTC = "UTC"
MAX_DAYS = 400
MAX_ROWS = 10_000
MAX_BACKFILL_DAYS = 3_700
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2999, 12, 31)
# An event's id tells when it was recorded, by the clock of who recorded it, some time before it could be seen. No
# function of ours runs for longer than 15 minutes, and no clock of ours is wrong by 5.
UNSEEN_FOR = timedelta(minutes=20)

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
# Postgres lists the tree of zones it has; these of it are no names of IANA's.
_NO_ZONES = re.compile(r"(?i)posix/.*|right/.*|localtime|posixrules|factory|posix")


class Dimension(StrEnum):
    """What a day's usage can be told apart by, besides its kind."""

    AGENT = "agent"
    PERSON = "person"
    KEY = "key"
    MODEL = "model"


class UnknownTimeZone(InvalidRequest):
    """The time zone is none of the IANA database: send a name such as `Europe/Berlin`, `America/New_York` or `UTC`."""

    code = "unknown_time_zone"


class TooMuchUsage(InvalidRequest):
    """The answer would be too long: ask for fewer days, one kind, or fewer things to group by."""

    code = "too_much_usage"


class AggregationIncomplete(RunyardError):
    """Some tenants' days could not be added up; the next run takes them up again."""

    kind = Kind.INTERNAL
    code = "aggregation_incomplete"


class DaysLeft(RunyardError):
    """There was no time for all of a tenant's days; starting over goes on with those that are left."""

    kind = Kind.INTERNAL
    code = "days_left"
    retryable = True


@dataclass(frozen=True, slots=True)
class DayOfUsage:
    """All of one kind on one day. A dimension is empty where it wasn't asked for, or where the events have none."""

    day: date
    kind: UsageKind
    quantity: int
    cost_microusd: int
    events: int
    agent_id: str = ""
    person_id: str = ""
    key_id: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Watermark:
    """Up to when a tenant's days are added up: what was recorded before is in them. `now` is the database's time."""

    now: datetime
    added_until: datetime | None


def dimensions_of(text: str | None) -> frozenset[Dimension]:
    """Return what `model,agent` names; raise `InvalidRequest` for anything else."""
    known = {dimension.value: dimension for dimension in Dimension}
    names = text.split(",") if text else []
    if unknown := [name for name in names if name not in known]:
        raise InvalidRequest(f"group_by: any of {', '.join(known)}, not {unknown[0][:40]!r}.", param="group_by")
    return frozenset(known[name] for name in names)


def may_be_a_zone(name: str) -> bool:
    """Tell whether this is worth asking Postgres for. It would take a POSIX rule such as `X3` for a zone as well."""
    return len(name) <= 64 and bool(_ZONE.fullmatch(name)) and not _NO_ZONES.fullmatch(name)


def recorded_since(moment: datetime) -> UUID:
    """Return the least id of an event recorded then or later, or seen then for the first time."""
    return UUID(int=max(0, int((moment - UNSEEN_FOR).timestamp() * 1000)) << 80)


def check_range(since: date, until: date, *, most: int = MAX_DAYS) -> None:
    """Raise `InvalidRequest` unless these are days in their order, and not too many of them; both are included."""
    if until < since:
        raise InvalidRequest("until: must not be earlier than since.", param="until")
    if (until - since).days >= most:
        raise InvalidRequest(f"until: at most {most} days can be asked for at once.", param="until")
    for name, day in (("since", since), ("until", until)):
        if not FIRST_DAY <= day <= LAST_DAY:
            raise InvalidRequest(f"{name}: must be between {FIRST_DAY} and {LAST_DAY}.", param=name)
