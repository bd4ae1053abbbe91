"""Counts requests in Redis against the caller's token buckets, all of them at once or none.

The algorithm is throttled-py's GCRA, a token bucket that keeps one number. Its own calls count one bucket each: two of
them would take from the first what the second refuses. Its scripts, put together into one, look at every bucket first.
"""

from collections.abc import Sequence
from typing import Any

from redis import Redis
from throttled.rate_limiter.gcra import RedisLimitAtomicActionSpec, RedisPeekAtomicActionSpec

from shared.kernel import buckets, cache
from shared.kernel.buckets import Bucket as Bucket
from shared.kernel.buckets import Counted as Counted
from shared.kernel.caller import Caller
from shared.kernel.rates import RateKind

# `take(keys, arguments)`: the buckets; for each the seconds between two tokens, and how many it holds. A refused
# request writes nothing: `limit` on a bucket that is empty only tells when it no longer will be, which `peek` gets
# wrong.
TAKE = f"""
local function peek(KEYS, ARGV) {RedisPeekAtomicActionSpec.SCRIPTS} end
local function limit(KEYS, ARGV) {RedisLimitAtomicActionSpec.SCRIPTS} end
local function take(keys, arguments)
    local states, refused = {{}}, false
    for at, key in ipairs(keys) do
        states[at] = peek({{key}}, {{arguments[2 * at - 1], arguments[2 * at]}})
        refused = refused or states[at][1] == 1
    end
    for at, key in ipairs(keys) do
        if states[at][1] == 1 or not refused then
            states[at] = limit({{key}}, {{arguments[2 * at - 1], arguments[2 * at], 1}})
        end
    end
    return states, refused
end
"""
_TAKE_ALL = f"{TAKE} return (take(KEYS, ARGV))"


def kind_of(method: str, scope: str) -> RateKind:
    """Return which counter a request counts on, by its method and the scope that its route asks for."""
    if scope == "inference:write":
        return RateKind.MODEL
    return RateKind.READ if method in ("GET", "HEAD") else RateKind.CREATE


def count(caller: Caller, kind: RateKind) -> Counted:
    """Take one token from each of the caller's buckets of this kind, or none from any if one is empty."""
    limits = buckets.limits(caller.rates, kind)
    if not limits.rates:
        return Counted()
    states = cache.attempt(lambda client: _take_all(client, limits.keys(caller), limits.arguments))
    return Counted(reached=False) if states is None else Counted(limits.buckets(states))


def _take_all(client: Redis, keys: list[str], arguments: Sequence[bytes]) -> list[list[Any]]:
    states: list[list[Any]] = client.register_script(_TAKE_ALL)(keys, arguments)
    return states
