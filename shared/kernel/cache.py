"""Redis: a cache that may be lost at any moment. A failed look-up is a miss, and a breaker keeps it cheap."""

from collections.abc import Callable
from functools import cache as once

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from shared.kernel import settings
from shared.kernel.resilience import Breaker

_TIMEOUT_S = 0.25
# While Redis is gone each worker tries it once in this many seconds, so that no request pays the timeout twice.
_breaker = Breaker(name="redis", failures=1, reset_s=5)


@once
def _client() -> Redis:
    return Redis.from_url(
        settings.redis_url(),
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), retries=1),
        health_check_interval=30,
    )


def attempt[T](action: Callable[[Redis], T]) -> T | None:
    """Return what `action(client)` returns, or None when Redis can't be reached, or couldn't a moment ago."""
    if not _breaker.allows():
        return None
    try:
        value = action(_client())
    except RedisError:
        _breaker.failed()
        return None
    _breaker.succeeded()
    return value


def get(key: str) -> bytes | None:
    """Return the value, or None when it isn't there or Redis can't be reached."""
    value = attempt(lambda client: client.get(key))
    return value if isinstance(value, bytes) else None


def put(key: str, value: bytes, *, ttl_s: int) -> None:
    """Store a value for `ttl_s` seconds, or don't, when Redis can't be reached."""
    attempt(lambda client: client.set(key, value, ex=ttl_s))


def is_up() -> bool:
    """Return whether Redis answers just now: for the health page."""
    try:
        return bool(_client().ping())
    except RedisError:
        return False
