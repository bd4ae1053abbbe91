"""What a model call must know from Redis before it starts, in one round trip for all calls that start at the same time.

Rate limits, the cache's entry, who of equal requests leads, and the breakers of the models that may be asked.
"""

import asyncio
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import batched
from uuid import UUID

from shared.inference import flights
from shared.kernel import buckets, pipelining
from shared.kernel.batching import Batcher
from shared.kernel.buckets import Counted, Limits
from shared.kernel.caller import Caller
from shared.kernel.pipelining import Argument, Command, Script
from shared.kernel.rates import RateKind

# KEYS: of each call its buckets, and where it is cached its entry and its lock. ARGV: of each call the number of its
# buckets with their arguments, whether it is cached, whether to read, and to lead: the token or "", the lock's ms, and
# how old in seconds an entry may be, -1 for any. Returns of each call a line of numbers and its entry: whether it
# leads, and four numbers of each bucket. A refused call reads nothing and leads nothing.
_LOOK = f"""
local found, key, at = {{}}, 0, 0
local function argument() at = at + 1 return ARGV[at] end
local function next_key() key = key + 1 return KEYS[key] end
local function age_s(entry)
    local now = redis.call("TIME")
    return now[1] + now[2] / 1000000 - (tonumber(string.sub(entry, 1, {flights.STAMP_BYTES})) or 0) / 1000
end
while at < #ARGV do
    local keys, arguments, line, entry, leads = {{}}, {{}}, {{}}, false, 0
    for n = 1, tonumber(argument()) do
        keys[n], arguments[2 * n - 1], arguments[2 * n] = next_key(), argument(), argument()
    end
    local states, refused = take(keys, arguments)
    if argument() == "1" then
        local entry_key, lock_key = next_key(), next_key()
        local reads, token, lock_ms, fresh_s = argument(), argument(), argument(), tonumber(argument())
        if not refused then
            if reads == "1" then entry = redis.call("GET", entry_key) end
            if token ~= "" and not (entry and (fresh_s < 0 or age_s(entry) < fresh_s))
                and redis.call("SET", lock_key, token, "PX", lock_ms, "NX") then leads = 1 end
        end
    end
    line[1] = leads
    for _, state in ipairs(states) do
        for _, number in ipairs(state) do line[#line + 1] = number end
    end
    found[#found + 1] = table.concat(line, " ")
    found[#found + 1] = entry
end
return found
"""


_TAKE_NOTHING = "local function take() return {}, false end"


@cache
def _script(*, limited: bool) -> Script:
    if not limited:
        return Script(_TAKE_NOTHING + _LOOK)
    # Only what is asked over HTTPS is limited: the steps have no such library.
    from shared.kernel import limiting

    return Script(limiting.TAKE + _LOOK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a call wants to know. `limited`: it counts on its caller's limits of model calls.

    `cache_key` None: it isn't cached. `read`: give its entry; `lead`: lead unless there is an entry younger than
    `fresh_s` (None: any), for `lead_s` seconds at most. `watch` are Redis keys of breakers.
    """

    caller: Caller
    limited: bool
    cache_key: str | None = None
    read: bool = False
    lead: bool = False
    watch: Sequence[str] = ()
    fresh_s: float | None = None
    lead_s: float = flights.LEAD_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What is known. Whoever `leads` must end it with `caching.put` or `caching.give_up`; who is refused never does.

    `reached` is False while Redis can't be reached: then there is no entry and no state, and a caller without limits
    leads within its worker.
    """

    counted: Counted
    entry: bytes | None
    leads: bool
    states: Mapping[str, bytes | None]
    reached: bool


@dataclass(slots=True, eq=False)
class _Turn:
    """A caller's question in a batch. `left`: who asked has gone, and must not be left leading."""

    asked: Asked
    limits: Limits | None
    token: str = ""
    leads: bool = False
    left: bool = False

    def led(self) -> None:
        self.leads = True
        if self.left:
            self.leave()

    def leave(self) -> None:
        self.left = True
        if self.leads and self.asked.cache_key is not None:
            flights.drop(self.asked.cache_key)


async def look(asked: Asked) -> Looked:
    """Look everything up at once. A Redis that is gone raises nothing, and is waited for as rarely as cache.py does."""
    limits = buckets.limits(asked.caller.rates, RateKind.MODEL) if asked.limited and asked.caller.rates else None
    turn = _Turn(asked, limits if limits and limits.rates else None)
    if turn.limits is None and asked.cache_key is None and not asked.watch:
        return Looked(counted=Counted(), entry=None, leads=False, states={}, reached=True)
    try:
        return await _batcher.do(None, turn)
    except asyncio.CancelledError:
        turn.leave()
        raise


def _look(_: Hashable, turns: list[_Turn]) -> list[Looked]:
    by_org: defaultdict[UUID, list[_Turn]] = defaultdict(list)
    for turn in turns:
        if turn.limits is not None or turn.asked.cache_key is not None:
            by_org[turn.asked.caller.org_id].append(turn)
    watched = list(dict.fromkeys(key for turn in turns for key in turn.asked.watch))
    replies = pipelining.send(
        [*(_question(of_org) for of_org in by_org.values()), *(Command(("GET", key)) for key in watched)]
    )
    told: dict[_Turn, tuple[bytes, bytes | None]] = {}
    if replies is not None:
        for of_org, reply in zip(by_org.values(), replies, strict=False):
            if reply is not None:
                told.update(zip(of_org, zip(reply[::2], reply[1::2], strict=True), strict=True))
    states = {} if replies is None else dict(zip(watched, replies[len(by_org) :], strict=True))
    return [_looked(turn, told.get(turn), states, reached=replies is not None) for turn in turns]


def _question(turns: Sequence[_Turn]) -> Command:
    """Return what is asked for callers of one org, as `_LOOK` reads it."""
    keys: list[str] = []
    arguments: list[Argument] = []
    for turn in turns:
        asked, limits = turn.asked, turn.limits
        if limits is None:
            arguments.append(b"0")
        else:
            keys += limits.keys(asked.caller)
            arguments += (len(limits.rates), *limits.arguments)
        if asked.cache_key is None:
            arguments.append(b"0")
            continue
        if asked.lead and not flights.leads_here(asked.cache_key):
            turn.token = flights.new_token()
        keys += (asked.cache_key, flights.lock_key(asked.cache_key))
        lock_ms = max(1, round(asked.lead_s * 1000))
        arguments += (
            b"1",
            b"1" if asked.read else b"0",
            turn.token,
            lock_ms,
            b"-1" if asked.fresh_s is None else asked.fresh_s,
        )
    return _script(limited=any(turn.limits for turn in turns)).command(keys, arguments)


def _looked(
    turn: _Turn, told: tuple[bytes, bytes | None] | None, states: Mapping[str, bytes | None], *, reached: bool
) -> Looked:
    asked, limits, counted, entry, leads = turn.asked, turn.limits, Counted(), None, False
    if told is not None:
        line, entry = told
        numbers = line.split()
        leads = numbers[0] == b"1"
        if limits is not None:
            counted = Counted(limits.buckets(tuple(batched(numbers[1:], 4, strict=True))))
        if leads and asked.cache_key is not None:
            flights.took(asked.cache_key, turn.token, asked.lead_s)
            if entry is not None and asked.fresh_s is not None and flights.age_s(entry) < asked.fresh_s:
                # By this worker's clock it is fresh, and will be given: nobody would end the flight.
                flights.drop(asked.cache_key)
                leads = False
    elif limits is not None:
        counted = Counted(reached=False)
    elif not reached and asked.lead and asked.cache_key is not None:
        leads = flights.take_here(asked.cache_key, flights.new_token(), asked.lead_s)
    if leads:
        turn.led()
    watched = {key: states[key] for key in asked.watch} if states else states
    return Looked(counted=counted, entry=entry, leads=leads, states=watched, reached=reached)


_batcher: Batcher[_Turn, Looked] = Batcher("preflight", _look, at_most=64, threads=1)
