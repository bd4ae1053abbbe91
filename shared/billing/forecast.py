"""When the credits run out, if they are spent as they were of late."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

from shared.billing import lots_store
from shared.kernel.db import Tx
from shared.usage import days as usage

DAYS = 28
# Whatever lasts for longer than this can't be foretold from four weeks.
HORIZON = timedelta(days=3_650)
_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
# A day that has just begun is taken for this long at least, so that its first minutes aren't all of its pace.
_LEAST = timedelta(hours=1)
_WEEK = 7


@dataclass(frozen=True, slots=True)
class DaySpent:
    """What was used on one day in UTC."""

    day: date
    microusd: int


@dataclass(frozen=True, slots=True)
class Credits:
    """Credits that can be spent until `expires_at`, if that is set."""

    microusd: int
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a day costs, and when nothing is left.

    `earliest` and `latest` are of the dearest and the cheapest days or weeks seen. A moment is None where nothing is
    spent, or in ten years at the soonest. `basis_days` is on how many days all this rests.
    """

    per_day_microusd: int
    runs_out_at: datetime | None
    earliest: datetime | None
    latest: datetime | None
    basis_days: int


def forecast(days: Sequence[DaySpent], available: Sequence[Credits], now: datetime) -> Forecast:
    """Return the forecast from the last four weeks' days; `available` credits are in the order they are spent.

    A day weighs the more the later it is: today 28 times as much as the first of the four weeks. Days before the
    first use don't count, and of today only what has passed.
    """
    today = now.astimezone(UTC).date()
    # By weight, which is 28 today and 1 on the first day.
    spent = {DAYS - age: 0 for age in range(DAYS)}
    for each in days:
        if 0 <= (age := (today - each.day).days) < DAYS:
            spent[DAYS - age] += each.microusd
    first = max((DAYS - weight for weight, microusd in spent.items() if microusd), default=None)
    if first is None:
        return Forecast(0, None, None, None, 0)
    basis = {weight: microusd for weight, microusd in spent.items() if DAYS - weight <= first}
    begun = max(_LEAST, now - datetime.combine(today, datetime.min.time(), UTC))
    weighed = sum(weight * microusd for weight, microusd in basis.items())
    pace = weighed / (DAYS * _in_days(begun) + sum(weight for weight in basis if weight < DAYS))
    seen = [pace, *_paces([basis[weight] for weight in sorted(basis) if weight < DAYS])]
    return Forecast(
        per_day_microusd=round(pace),
        runs_out_at=_runs_out(available, pace, now),
        earliest=_runs_out(available, max(seen), now),
        latest=_runs_out(available, min(seen), now),
        basis_days=len(basis),
    )


def forecast_of(tx: Tx, now: datetime) -> tuple[Forecast, int]:
    """Return the tenant's forecast, and the credits available now, in micro-dollars."""
    today = now.astimezone(UTC).date()
    spent = [DaySpent(each.day, each.cost_microusd) for each in usage.daily(tx, today - (DAYS - 1) * _DAY, today)]
    lots = [Credits(lot.remaining_microusd, lot.expires_at) for lot in lots_store.to_spend(tx) if not lot.ended(now)]
    return forecast(spent, lots, now), sum(each.microusd for each in lots)


def _paces(days: Sequence[int]) -> list[Fraction]:
    """Return what a day cost in each week among these days, or each day by itself where there aren't two weeks."""
    width = _WEEK if len(days) >= 2 * _WEEK else 1
    return [Fraction(sum(days[start : start + width]), width) for start in range(len(days) - width + 1)]


def _runs_out(available: Sequence[Credits], pace: Fraction, now: datetime) -> datetime | None:
    """Return when the last of the credits is spent, or has expired unspent, at so many micro-dollars a day."""
    if not pace:
        return None
    at, spent_of_first = now, Fraction()
    left = [each for each in available if each.expires_at is None or each.expires_at > now]
    while left:
        rest = left[0].microusd - spent_of_first
        next_end = min((each.expires_at for each in left if each.expires_at is not None), default=None)
        lasts = rest / pace
        if next_end is not None and lasts >= _in_days(next_end - at):
            spent_of_first += pace * _in_days(next_end - at)
            at = next_end
            if left[0].expires_at == at:
                spent_of_first = Fraction()
            left = [each for each in left if each.expires_at != at]
        elif lasts > _in_days(now + HORIZON - at):
            return None
        else:
            at += round(lasts * (_DAY // _MICROSECOND)) * _MICROSECOND
            spent_of_first = Fraction()
            left = left[1:]
    return at if at <= now + HORIZON else None


def _in_days(time: timedelta) -> Fraction:
    return Fraction(time // _MICROSECOND, _DAY // _MICROSECOND)
