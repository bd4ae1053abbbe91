"""Storage is metered by the hour: what is held shortly after an hour's end counts for all of that hour."""

from datetime import datetime, timedelta

from shared.kernel.db import Tx
from shared.usage import storage_store as store
from shared.usage.model import Metered, UsageKind

_HOUR = timedelta(hours=1)
# Hours that nobody metered are made up for with what is held now; older ones are given away.
MADE_UP_FOR = timedelta(hours=24)
_PREFIX = "storage:"


def hours(tx: Tx, *, stored_bytes: int, now: datetime) -> list[Metered]:
    """Return an event for each hour that ended and has not been metered, the oldest first.

    One hour without anything stored is put down, so that those after it are not taken for forgotten once there is
    something again; neither are the hours before the first.
    """
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    last = store.last_metered(tx, _PREFIX)
    if last is None or last[1] == 0:
        begin = this_hour - _HOUR if stored_bytes else this_hour
    elif stored_bytes:
        begin = this_hour - MADE_UP_FOR
    else:
        begin = this_hour - _HOUR
    if last is not None:
        begin = max(begin, last[0] + _HOUR)
    return [
        Metered(
            kind=UsageKind.STORAGE_BYTE_HOURS,
            quantity=stored_bytes,
            source_id=f"{_PREFIX}{int(hour.timestamp())}",
            occurred_at=hour,
            dimensions={},
        )
        for hour in (begin + n * _HOUR for n in range((this_hour - begin) // _HOUR))
    ]
