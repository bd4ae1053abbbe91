"""The exact cache: the same request of the same org gets the answer that it got before, and costs nothing.

Entries are plain JSON: deflating 4 KB of it takes longer than sending it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared.inference import flights
from shared.inference.asking import NO_CACHE, CacheControl
from shared.inference.calls import Operation, Tokens
from shared.inference.flights import follow as follow
from shared.inference.flights import give_up as give_up
from shared.inference.flights import try_lead as try_lead
from shared.inference.model import ChatRequest

_VERSION = 1
_MOST_BYTES = 1_000_000
# An old answer is kept a while longer, for when no provider can give a new one.
_KEPT_LONGER_S = 3_600
# What only says how an answer is sent, not what is in it.
_OF_THE_WIRE = frozenset({"stream", "stream_options"})
# An answer that was cut short, held back or broken isn't given a second time.
_WHOLE = frozenset({"stop", "tool_calls", "function_call"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A whole chat completion in OpenAI's format, who gave it, and what it took then."""

    answer: Mapping[str, Any]
    model: str
    provider: str
    tokens: Tokens
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that may be given as the answer, and how old it is."""

    entry: Entry
    age_s: int


def cache_control(headers: Mapping[str, str]) -> CacheControl:
    """Return what a request's headers, by lower-case names, allow the cache. What can't be read allows the least."""
    if headers.get("x-runyard-cache", "").strip().lower() == "off":
        return NO_CACHE
    said: dict[str, str] = {}
    for directive in headers.get("cache-control", "").split(","):
        name, _, value = directive.partition("=")
        said.setdefault(name.strip().lower(), value.strip().strip('"'))
    if "no-store" in said:
        return NO_CACHE
    return CacheControl(
        read="no-cache" not in said,
        max_age_s=_seconds(said["max-age"]) if "max-age" in said else None,
        stale_if_error_s=_seconds(said.get("stale-if-error", "")),
    )


def key(org_id: UUID, *, operation: Operation, model_or_route: str, request: ChatRequest) -> str:
    """Return where the answer is kept; another org, or anything else in the request, makes it another place."""
    options = {name: value for name, value in request.options.items() if name not in _OF_THE_WIRE}
    asked = [operation, model_or_route, request.messages, request.tools, request.max_output_tokens, options]
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"), default=_plain)
    # The braces keep an org's entries on one node of a cluster, with its token buckets.
    return f"answer{_VERSION}:{{{org_id}}}:{hashlib.sha256(canonical.encode('ascii')).hexdigest()}"


def fresh_s(control: CacheControl, ttl_s: int) -> int:
    """Return how many seconds an answer may be given for."""
    return ttl_s if control.max_age_s is None else min(ttl_s, control.max_age_s)


def read(raw: bytes | None, *, control: CacheControl, ttl_s: int) -> Found | None:
    """Return an entry that is fresh enough; None for one that isn't, or can't be read."""
    return _younger(raw, fresh_s(control, ttl_s)) if control.read else None


def stale(raw: bytes | None, *, control: CacheControl, ttl_s: int) -> Found | None:
    """Return an entry that the caller takes when no provider answers. Source: RFC 5861, section 4."""
    if not control.read or not control.stale_if_error_s:
        return None
    return _younger(raw, fresh_s(control, ttl_s) + control.stale_if_error_s)


async def put(cache_key: str, entry: Entry, ttl_s: int) -> None:
    """Keep an answer, and give it to those who follow.

    An answer that isn't worth keeping helps nobody: it ends no flight, so that who leads calls `give_up` after all.
    """
    if ttl_s > 0 and _is_whole(entry.answer):
        raw = _packed(entry)
        if len(raw) <= _MOST_BYTES:
            await flights.land(cache_key, raw, keep_s=ttl_s + _KEPT_LONGER_S)


def _is_whole(answer: Mapping[str, Any]) -> bool:
    choices = answer.get("choices") or ()
    return bool(choices) and "error" not in answer and all(one.get("finish_reason") in _WHOLE for one in choices)


def _packed(entry: Entry) -> bytes:
    tokens = entry.tokens
    counts = [tokens.input, tokens.cached, tokens.output, tokens.written, tokens.reasoning]
    body = json.dumps([entry.model, entry.provider, counts, entry.answer], separators=(",", ":"))
    return flights.stamp(entry.stored_at) + body.encode("ascii")


def _younger(raw: bytes | None, seconds: int) -> Found | None:
    if raw is None or (age_s := flights.age_s(raw)) >= seconds:
        return None
    entry = _unpacked(raw)
    return None if entry is None else Found(entry, int(age_s))


def _unpacked(raw: bytes) -> Entry | None:
    try:
        stored_at = datetime.fromtimestamp(flights.stamped_ms(raw) / 1000, UTC)
        model, provider, counts, answer = json.loads(raw[flights.STAMP_BYTES :])
        tokens = Tokens(*map(int, counts))
        if not (isinstance(model, str) and isinstance(provider, str) and isinstance(answer, dict)):
            return None
        return Entry(answer=answer, model=model, provider=provider, tokens=tokens, stored_at=stored_at)
    except (ValueError, TypeError, OverflowError, OSError, RecursionError):
        return None


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no part of a request")


def _seconds(text: str) -> int:
    # RFC 9111, section 1.2.2: a number too large to hold is read as 2^31.
    return min(int(text.lstrip("0")[:12] or "0"), 2**31) if text.isascii() and text.isdigit() else 0
