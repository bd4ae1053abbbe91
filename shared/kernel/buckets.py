"""Token buckets: which of them a request takes from, and what became of it; `limiting.py` takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from shared.kernel import rates
from shared.kernel.caller import Caller
from shared.kernel.errors import RateLimited, RateLimiterUnavailable
from shared.kernel.rates import Rate, RateKind

# For as long as cache.py leaves a Redis alone that was gone.
_UNAVAILABLE_S = 5


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket after a request: `full_in_s` and `retry_in_s` are seconds from now."""

    name: str
    rate: Rate
    refused: bool
    remaining: int
    full_in_s: float
    retry_in_s: float

    @property
    def policy(self) -> str:
        """Return the quota policy item: as many as the bucket holds, within the time that it takes to fill."""
        return f'"{self.name}";q={self.rate.burst};w={math.ceil(self.rate.burst * _interval_s(self.rate))}'

    @property
    def limit(self) -> str:
        """Return the service limit item: what is left, and the seconds until there is more."""
        more_in_s = self.retry_in_s if self.refused else self.full_in_s % _interval_s(self.rate)
        return f'"{self.name}";r={self.remaining};t={math.ceil(more_in_s)}'


@dataclass(frozen=True, slots=True)
class Counted:
    """What became of a request's count. `reached` is False while Redis can't be reached."""

    buckets: Sequence[Bucket] = ()
    reached: bool = True

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the answer's fields by draft-ietf-httpapi-ratelimit-headers; none where nothing was counted."""
        if not self.buckets:
            return []
        policy, limit = (", ".join(items) for items in zip(*((b.policy, b.limit) for b in self.buckets), strict=True))
        return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", limit.encode())]

    @property
    def refused(self) -> bool:
        return any(bucket.refused for bucket in self.buckets)

    def admit(self, *, spends: bool) -> None:
        """Raise `RateLimited`; and `RateLimiterUnavailable` for what spends credits and could not be counted."""
        if not self.reached and spends:
            raise RateLimiterUnavailable(
                "Requests can't be counted just now, and this one spends credits; try again shortly.",
                retry_after_s=_UNAVAILABLE_S,
            )
        if refusing := [bucket for bucket in self.buckets if bucket.refused]:
            last = max(refusing, key=lambda bucket: bucket.retry_in_s)
            seconds = max(1, math.ceil(last.retry_in_s))
            raise RateLimited(
                f"Too many requests ({last.name}: {last.rate.per_minute} a minute, at most {last.rate.burst} at once); "
                f"wait {seconds} s.",
                retry_after_s=seconds,
            )


@dataclass(frozen=True, slots=True)
class Limits:
    """The buckets that requests of one kind take from, and `take`'s arguments for them."""

    rates: Sequence[tuple[str, Rate]]
    arguments: Sequence[bytes]

    def keys(self, caller: Caller) -> list[str]:
        """Return the caller's buckets. The braces keep an org's on one node of a cluster, as a script needs them."""
        return [f"rate:{{{caller.org_id}}}:{name}{_whose(name, caller)}" for name, _ in self.rates]

    def buckets(self, states: Sequence[Sequence[bytes | int]]) -> list[Bucket]:
        """Return the buckets as `take` left them."""
        return [
            Bucket(name, rate, bool(int(refused)), int(remaining), float(full_in_s), float(retry_in_s))
            for (name, rate), (refused, remaining, full_in_s, retry_in_s) in zip(self.rates, states, strict=True)
        ]


@lru_cache(maxsize=1024)
def limits(text: str, kind: RateKind) -> Limits:
    """Return what `Caller.rates` says of a kind."""
    found = rates.read(text, kind)
    return Limits(found, [repr(value).encode() for _, rate in found for value in (_interval_s(rate), rate.burst)])


def _whose(name: str, caller: Caller) -> str:
    return "" if name.startswith(rates.Share.ORG) else f":{caller.actor_id}"


def _interval_s(rate: Rate) -> float:
    return 60 / rate.per_minute
