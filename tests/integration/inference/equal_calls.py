"""Calls as the gateway makes them, of a provider that only counts: in a test, or as a worker of its own.

As a worker: `python -m tests.integration.inference.equal_calls ORG_ID PROMPT CALLS SLOW_S LEAD_S`. It prints what each
call was answered.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from redis import Redis

from shared.inference import caching, preflight
from shared.inference.asking import CacheControl
from shared.inference.caching import Entry
from shared.inference.calls import Operation, Tokens
from shared.inference.model import ChatRequest
from shared.inference.preflight import Asked
from shared.kernel import cache, clock
from shared.kernel.caller import Caller

TTL_S = 300
WAIT_S = 20.0
_REPOSITORY = Path(__file__).resolve().parents[3]


def key_of(org_id: UUID, prompt: str) -> str:
    request = ChatRequest([{"role": "user", "content": prompt}])
    return caching.key(org_id, operation=Operation.CHAT, model_or_route="m", request=request)


def entry_of(text: str) -> Entry:
    answer = {"choices": [{"finish_reason": "stop", "message": {"content": text}}]}
    tokens = Tokens(input=1, cached=0, output=1)
    return Entry(answer=answer, model="m", provider="p", tokens=tokens, stored_at=clock.now())


async def answered(
    caller: Caller,
    prompt: str,
    work: Callable[[], Awaitable[str]],
    *,
    control: CacheControl | None = None,
    lead_s: float = 30,
) -> str:
    """Return the text of the cached answer, of the one that another call got, or of `work`."""
    control = control or CacheControl()
    key, until = key_of(caller.org_id, prompt), time.monotonic() + WAIT_S
    fresh_s = caching.fresh_s(control, TTL_S)
    looked = await preflight.look(
        Asked(caller=caller, limited=False, cache_key=key, read=True, lead=True, fresh_s=fresh_s, lead_s=lead_s)
    )
    raw, leads = looked.entry, looked.leads
    while not (found := caching.read(raw, control=control, ttl_s=TTL_S)) and not leads:
        raw = await caching.follow(key, until=until)
        leads = raw is None and await caching.try_lead(key, lead_s=lead_s)
        assert time.monotonic() < until
    if found:
        assert not leads
        return str(found.entry.answer["choices"][0]["message"]["content"])
    try:
        text = await work()
        await caching.put(key, entry_of(text), TTL_S)
    finally:
        await caching.give_up(key)
    return text


class Work:
    """A provider that answers when it is let, and counts how often it was asked."""

    def __init__(self, *, slow_s: float = 0.05, fails: int = 0) -> None:
        self.paid = 0
        self.asked = asyncio.Event()
        self._slow_s = slow_s
        self._fails = fails

    async def __call__(self) -> str:
        self.paid += 1
        self.asked.set()
        number = self.paid
        await asyncio.sleep(self._slow_s)
        if number <= self._fails:
            raise ConnectionError(f"call {number}")
        return f"answer {number}"


def together(caller: Caller, work: Callable[[], Awaitable[str]], count: int = 10) -> list[str]:
    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(answered(caller, "Hello", work) for _ in range(count)))

    return asyncio.run(all_of_them())


def worker(caller: Caller, *, calls: int, slow_s: float, lead_s: float = 30) -> subprocess.Popen[str]:
    arguments = [str(caller.org_id), "Hello", str(calls), str(slow_s), str(lead_s)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.inference.equal_calls", *arguments],
        cwd=_REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    answers: list[str] = json.loads(out)
    return answers


def locks(redis: Redis) -> list[bytes]:
    return list(redis.scan_iter("*:lead"))


async def _main(org_id: str, prompt: str, calls: str, slow_s: str, lead_s: str) -> None:
    caller = Caller.system(UUID(org_id))

    async def work() -> str:
        paid = await asyncio.to_thread(cache.attempt, lambda client: client.incr("paid"))
        await asyncio.sleep(float(slow_s))
        return f"answer {paid}"

    several = (answered(caller, prompt, work, lead_s=float(lead_s)) for _ in range(int(calls)))
    print(json.dumps(await asyncio.gather(*several)))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
