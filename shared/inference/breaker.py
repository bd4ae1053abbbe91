"""How a model at a provider has lately done, as workers share it; and the rule by which its breaker opens and closes.

Pure: time is handed in, in milliseconds since 1970. A state is written by whoever saw something, and read by all.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median_low
from typing import Final, Self

from shared.inference.policy import BreakerState, Health

# A row of failures that nobody added to for as long is over.
KEPT_MS: Final = 600_000
_SLOT_MS: Final = 10_000
_SLOTS: Final = 6
# Latencies kept of each slot: enough for a median.
_SAMPLES: Final = 8
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Opens after so many failures in a row, or at this share of at least so many calls in the last minute."""

    in_a_row: int = 5
    error_rate: float = 0.5
    of_at_least: int = 20
    open_ms: int = 10_000


@dataclass(slots=True)
class Seen:
    """One or more calls in a row that ended alike: `good`, the provider is well, or not. `at` is the last one's end.

    `counted` of them belong into the figures: a refused request shows that the provider is there, and no more.
    """

    good: bool
    at: int
    counted: int = 1
    latencies: list[int] = field(default_factory=list)
    first_tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Slot:
    """The figures of ten seconds."""

    number: int
    good: int = 0
    bad: int = 0
    latencies: tuple[int, ...] = ()
    first_tokens: tuple[int, ...] = ()

    def plus(self, seen: Seen) -> Self:
        if not seen.good:
            return replace(self, bad=self.bad + seen.counted)
        return replace(
            self,
            good=self.good + seen.counted,
            latencies=(*self.latencies, *seen.latencies)[-_SAMPLES:],
            first_tokens=(*self.first_tokens, *seen.first_tokens)[-_SAMPLES:],
        )


@dataclass(frozen=True, slots=True)
class State:
    """`at` grows with each change, whichever worker makes it. `open_until` 0: closed; in the past: half open."""

    at: int = 0
    in_a_row: int = 0
    failed_at: int = 0
    open_until: int = 0
    slots: tuple[Slot, ...] = ()

    def plus(self, seen: Seen, rule: Rule) -> Self:
        """Return the state after these calls."""
        new = replace(self, at=max(self.at + 1, seen.at), slots=_added(self.slots, seen))
        return new._after_good(seen) if seen.good else new._after_bad(seen, rule)

    def _after_good(self, seen: Seen) -> Self:
        # What was well before the last failure says nothing of the time after it.
        if not self.in_a_row or seen.at < self.failed_at or seen.at < self.open_until:
            return self
        if self.open_until:
            return replace(self, in_a_row=0, open_until=0, slots=_added((), seen))
        return replace(self, in_a_row=0)

    def _after_bad(self, seen: Seen, rule: Rule) -> Self:
        before = self.in_a_row if seen.at - self.failed_at < KEPT_MS else 0
        new = replace(self, in_a_row=before + seen.counted, failed_at=max(self.failed_at, seen.at))
        if seen.at < self.open_until:
            # Asked before it opened.
            return new
        good, bad = new._counts(seen.at)
        often = good + bad >= rule.of_at_least and bad >= rule.error_rate * (good + bad)
        if self.open_until or new.in_a_row >= rule.in_a_row or often:
            return replace(new, open_until=seen.at + rule.open_ms)
        return new

    def health(self, now: int) -> Health:
        """Return what is to be gone by at this moment."""
        good, bad = self._counts(now)
        slots = [slot for slot in self.slots if _is_recent(slot, now)]
        return Health(
            breaker=self.breaker(now),
            error_rate=bad / (good + bad) if good + bad else None,
            latency_ms=_median([ms for slot in slots for ms in slot.latencies]),
            first_token_ms=_median([ms for slot in slots for ms in slot.first_tokens]),
            retry_in_s=max(0, self.open_until - now) / 1000,
        )

    def breaker(self, now: int) -> BreakerState:
        if not self.open_until:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.open_until else BreakerState.HALF_OPEN

    def _counts(self, now: int) -> tuple[int, int]:
        slots = [slot for slot in self.slots if _is_recent(slot, now)]
        return sum(slot.good for slot in slots), sum(slot.bad for slot in slots)

    def encode(self) -> bytes:
        slots = [[slot.number, slot.good, slot.bad, slot.latencies, slot.first_tokens] for slot in self.slots]
        fields = [_FORMAT, self.at, self.in_a_row, self.failed_at, self.open_until, slots]
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Self | None:
        """Return the state; None for what is none, or another release's."""
        try:
            found = json.loads(raw)
            match found:
                case [1, int(at), int(in_a_row), int(failed_at), int(open_until), list(slots)]:
                    read = tuple(
                        Slot(int(number), int(good), int(bad), tuple(map(int, ms)), tuple(map(int, first)))
                        for number, good, bad, ms, first in slots
                    )
                    return cls(at, in_a_row, failed_at, open_until, read)
        except (ValueError, TypeError):
            pass
        return None


def after(state: State, seen: Iterable[Seen], rule: Rule) -> State:
    """Return the state after all of these, in their order."""
    for each in seen:
        state = state.plus(each, rule)
    return state


def _added(slots: Sequence[Slot], seen: Seen) -> tuple[Slot, ...]:
    number = seen.at // _SLOT_MS
    kept = {slot.number: slot for slot in slots if _is_recent(slot, seen.at)}
    kept[number] = kept.get(number, Slot(number)).plus(seen)
    return tuple(kept[each] for each in sorted(kept))


def _is_recent(slot: Slot, now: int) -> bool:
    return slot.number > now // _SLOT_MS - _SLOTS


def _median(values: Sequence[int]) -> int | None:
    return median_low(values) if values else None
