"""The headers of every answer: what it cost, how long it took, where it came from, what is left of the rate limits."""

from collections.abc import Iterator

from shared.inference.trace import Trace
from shared.kernel.limiting import Counted

type Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
EVENTS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Whoever stands in between passes on what comes when it comes.
    (b"x-accel-buffering", b"no"),
]


def of(trace: Trace, *, request_id: str, elapsed_ms: int, cost_microusd: int | None) -> Headers:
    """Return what is known now. `cost_microusd` None: the answer goes on, and nobody knows yet what it will cost."""
    found = [
        (b"x-request-id", request_id.encode()),
        (b"x-runyard-overhead-ms", b"%d" % max(0, elapsed_ms - trace.provider_ms)),
        (b"x-runyard-cache", trace.cache.value.encode()),
    ]
    if cost_microusd is not None:
        found.append((b"x-runyard-cost-microusd", b"%d" % cost_microusd))
    if trace.provider:
        found.append((b"x-runyard-provider", trace.provider.encode("latin-1", "replace")))
    if trace.counted.buckets:
        found += trace.counted.headers
        found += _as_openai(trace.counted)
    return found


def _as_openai(counted: Counted) -> Iterator[tuple[bytes, bytes]]:
    """Yield OpenAI's fields for the bucket that will be empty first."""
    least = min(counted.buckets, key=lambda bucket: bucket.remaining)
    reset_s = least.retry_in_s if least.refused else least.full_in_s
    yield b"x-ratelimit-limit-requests", b"%d" % least.rate.burst
    yield b"x-ratelimit-remaining-requests", b"%d" % least.remaining
    yield b"x-ratelimit-reset-requests", _duration(reset_s)


def _duration(seconds: float) -> bytes:
    """Return e.g. `850ms`, `1s`, `6m0s`: durations as OpenAI writes them."""
    if seconds < 1:
        return b"%dms" % round(seconds * 1000)
    minutes, rest = divmod(round(seconds), 60)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
