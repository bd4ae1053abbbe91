"""Counts requests in Redis against the caller's token buckets, all of them at once or none.

The algorithm is throttled-py's GCRA, a token bucket that keeps one number. Its own calls count one bucket each: two of
them would take from the first what the second refuses. Its scripts, put together into one, look at every bucket first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from throttled.rate_limiter.gcra import RedisLimitAtomicActionSpec, RedisPeekAtomicActionSpec

from shared.kernel import cache, rates
from shared.kernel.caller import Caller
from shared.kernel.errors import RateLimited, RateLimiterUnavailable
from shared.kernel.rates import Rate, RateKind

# KEYS: the buckets; ARGV: for each the seconds between two tokens, and how many it holds. A refused request writes
# nothing: `limit` on a bucket that is empty only tells when it no longer will be, which `peek` gets wrong.
_TAKE_ALL = f"""
local function peek(KEYS, ARGV) {RedisPeekAtomicActionSpec.SCRIPTS} end
local function limit(KEYS, ARGV) {RedisLimitAtomicActionSpec.SCRIPTS} end
local states, refused = {{}}, false
for at, key in ipairs(KEYS) do
    states[at] = peek({{key}}, {{ARGV[2 * at - 1], ARGV[2 * at]}})
    refused = refused or states[at][1] == 1
end
for at, key in ipairs(KEYS) do
    if states[at][1] == 1 or not refused then
        states[at] = limit({{key}}, {{ARGV[2 * at - 1], ARGV[2 * at], 1}})
    end
end
return states
"""
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


def kind_of(method: str, scope: str) -> RateKind:
    """Return which counter a request counts on, by its method and the scope that its route asks for."""
    if scope == "inference:write":
        return RateKind.MODEL
    return RateKind.READ if method in ("GET", "HEAD") else RateKind.CREATE


def count(caller: Caller, kind: RateKind) -> Counted:
    """Take one token from each of the caller's buckets of this kind, or none from any if one is empty."""
    limits = rates.read(caller.rates, kind)
    if not limits:
        return Counted()
    # The braces keep an org's buckets on one node of a cluster, as a script needs them.
    keys = [f"rate:{{{caller.org_id}}}:{name}{_whose(name, caller)}" for name, _ in limits]
    arguments = [value for _, rate in limits for value in (_interval_s(rate), rate.burst)]
    states = cache.attempt(lambda client: _take_all(client, keys, arguments))
    if states is None:
        return Counted(reached=False)
    return Counted(
        [
            Bucket(name, rate, bool(refused), int(remaining), float(full_in_s), float(retry_in_s))
            for (name, rate), (refused, remaining, full_in_s, retry_in_s) in zip(limits, states, strict=True)
        ]
    )


def _take_all(client: Redis, keys: list[str], arguments: list[float]) -> list[list[Any]]:
    states: list[list[Any]] = client.register_script(_TAKE_ALL)(keys, arguments)
    return states


def _whose(name: str, caller: Caller) -> str:
    return "" if name.startswith(rates.Share.ORG) else f":{caller.actor_id}"


def _interval_s(rate: Rate) -> float:
    return 60 / rate.per_minute
