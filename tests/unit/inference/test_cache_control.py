"""What a request's headers allow the cache, and which entries are given: fresh, stale, never what can't be read."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inference import caching, flights
from shared.inference.asking import NO_CACHE, CacheControl
from shared.inference.caching import Entry
from shared.inference.calls import Tokens
from shared.kernel import clock

_NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
_ANSWER = {"id": "chatcmpl-1", "choices": [{"finish_reason": "stop", "message": {"content": "Hi, Zoë \ud83d"}}]}
_ENTRY = Entry(
    answer=_ANSWER,
    model="gpt-4o",
    provider="openai",
    tokens=Tokens(input=12, cached=4, output=7, written=3, reasoning=2),
    stored_at=_NOON,
)


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 0)


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make it this many seconds past noon."""
    monkeypatch.setattr(clock, "now", lambda: _NOON + timedelta(seconds=seconds))


def kept(monkeypatch: pytest.MonkeyPatch, entry: Entry = _ENTRY, *, ttl_s: int = 300) -> bytes | None:
    """Return what `put` hands to Redis, or None when it keeps nothing."""
    handed: list[tuple[bytes, int]] = []

    async def land(cache_key: str, raw: bytes, *, keep_s: int) -> None:
        handed.append((raw, keep_s))

    monkeypatch.setattr(flights, "land", land)
    asyncio.run(caching.put("key", entry, ttl_s))
    assert all(keep_s == ttl_s + 3600 for _, keep_s in handed)
    return handed[0][0] if handed else None


@pytest.mark.parametrize(
    ("headers", "control"),
    [
        ({}, CacheControl()),
        ({"cache-control": "no-cache"}, CacheControl(read=False)),
        ({"cache-control": "No-Cache, max-age=5"}, CacheControl(read=False, max_age_s=5)),
        ({"cache-control": "no-store"}, NO_CACHE),
        ({"cache-control": "max-age=60, no-store"}, NO_CACHE),
        ({"cache-control": "max-age=0"}, CacheControl(max_age_s=0)),
        ({"cache-control": 'max-age="60" , stale-if-error=600'}, CacheControl(max_age_s=60, stale_if_error_s=600)),
        ({"cache-control": "max-age=60, max-age=90"}, CacheControl(max_age_s=60)),
        ({"cache-control": "max-age=soon"}, CacheControl(max_age_s=0)),
        ({"cache-control": "max-age=-1"}, CacheControl(max_age_s=0)),
        ({"cache-control": "max-age=²"}, CacheControl(max_age_s=0)),
        ({"cache-control": "max-age=" + "9" * 30}, CacheControl(max_age_s=2**31)),
        ({"cache-control": "max-age=" + "9" * 6_000}, CacheControl(max_age_s=2**31)),
        ({"cache-control": "stale-if-error"}, CacheControl()),
        ({"cache-control": ",, =,private"}, CacheControl()),
        ({"x-runyard-cache": "off"}, NO_CACHE),
        ({"x-runyard-cache": " OFF ", "cache-control": "max-age=60"}, NO_CACHE),
        ({"x-runyard-cache": "on"}, CacheControl()),
        ({"cache-control": "max-age=" + "0" * 20 + "60"}, CacheControl(max_age_s=60)),
    ],
)
def test_headers_say_what_the_cache_may_do(headers: dict[str, str], control: CacheControl) -> None:
    assert caching.cache_control(headers) == control


@given(st.text())
def test_no_header_is_too_odd(text: str) -> None:
    caching.cache_control({"cache-control": text, "x-runyard-cache": text})


def test_an_entry_is_given_as_it_was_put(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = kept(monkeypatch)
    at(monkeypatch, 299.4)
    found = caching.read(raw, control=CacheControl(), ttl_s=300)
    assert found is not None
    assert (found.entry, found.age_s) == (_ENTRY, 299)


@pytest.mark.parametrize(
    ("age_s", "control", "ttl_s", "fresh", "stale"),
    [
        (0, CacheControl(), 300, True, False),
        (299, CacheControl(), 300, True, False),
        (300, CacheControl(), 300, False, False),
        (299, CacheControl(), 100, False, False),
        (59, CacheControl(max_age_s=60), 300, True, False),
        (60, CacheControl(max_age_s=60), 300, False, False),
        (400, CacheControl(max_age_s=600), 300, False, False),
        (0, CacheControl(max_age_s=0), 300, False, False),
        (0, CacheControl(read=False, stale_if_error_s=600), 300, False, False),
        (300, CacheControl(stale_if_error_s=600), 300, False, True),
        (899, CacheControl(stale_if_error_s=600), 300, False, True),
        (900, CacheControl(stale_if_error_s=600), 300, False, False),
        (100, CacheControl(max_age_s=60, stale_if_error_s=60), 300, False, True),
        (120, CacheControl(max_age_s=60, stale_if_error_s=60), 300, False, False),
        (10, CacheControl(stale_if_error_s=60), 300, True, True),
        (-30, CacheControl(), 300, True, False),
    ],
    ids=str,
)
def test_how_old_an_answer_may_be(
    monkeypatch: pytest.MonkeyPatch, age_s: int, control: CacheControl, ttl_s: int, fresh: bool, stale: bool
) -> None:
    raw = kept(monkeypatch)
    at(monkeypatch, age_s)
    found, old = caching.read(raw, control=control, ttl_s=ttl_s), caching.stale(raw, control=control, ttl_s=ttl_s)
    assert (found is not None, old is not None) == (fresh, stale)
    for one in (found, old):
        assert one is None or one.age_s == max(0, age_s)


def _choice(reason: str | None) -> dict[str, Any]:
    return {"finish_reason": reason, "message": {"content": "Hi"}}


@pytest.mark.parametrize(
    ("answer", "is_kept"),
    [
        ({"choices": [_choice("stop")]}, True),
        ({"choices": [_choice("tool_calls"), _choice("stop")]}, True),
        ({"choices": [_choice("length")]}, False),
        ({"choices": [_choice("stop"), _choice("length")]}, False),
        ({"choices": [_choice("content_filter")]}, False),
        ({"choices": [_choice("error")]}, False),
        ({"choices": [_choice(None)]}, False),
        ({"choices": []}, False),
        ({}, False),
        ({"choices": None}, False),
        ({"error": {"message": "no"}, "choices": [_choice("stop")]}, False),
        ({"choices": [{"finish_reason": "stop", "message": {"content": "x" * 999_000}}]}, True),
        ({"choices": [{"finish_reason": "stop", "message": {"content": "x" * 1_000_000}}]}, False),
    ],
    ids=[
        "stop",
        "tools",
        "length",
        "one-of-two",
        "filtered",
        "error-reason",
        "no-reason",
        "no-choice",
        "nothing",
        "null",
        "error",
        "large",
        "too-large",
    ],
)
def test_only_whole_answers_of_a_size_are_kept(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], is_kept: bool
) -> None:
    entry = Entry(answer=answer, model="m", provider="p", tokens=_ENTRY.tokens, stored_at=_NOON)
    assert (kept(monkeypatch, entry) is not None) is is_kept


def test_an_org_without_a_cache_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(monkeypatch, ttl_s=0) is None


def _damaged(raw: bytes) -> list[bytes]:
    head, body = raw[:14], raw[14:]
    return [
        b"",
        b"\x00",
        head,
        raw[:-1],
        body,
        b"never-a-number" + body,
        b"99999999999999" + b"{}",
        head + b"null",
        head + b"[]",
        head + b'["m","p",[1,2,3,4,5]]',
        head + b'["m","p",[1,2],{}]',
        head + b'["m","p",["a",0,0,0,0],{}]',
        head + b'["m","p",null,{}]',
        head + b'["m","p",[1,2,3,4,5],"text"]',
        head + b'[1,"p",[1,2,3,4,5],{}]',
        head + b'["m",null,[1,2,3,4,5],{}]',
        head + b'["m","p",[1e999,2,3,4,5],{}]',
        head + b'["m","p",[1,2,3,4,5,6],{}]',
        head + b"[" * 100_000,
        head + b"\xff\xfe",
    ]


@pytest.mark.parametrize("at_index", range(20))
def test_an_entry_that_was_tampered_with_is_a_miss(monkeypatch: pytest.MonkeyPatch, at_index: int) -> None:
    raw = kept(monkeypatch)
    assert raw is not None
    damaged = _damaged(raw)
    assert len(damaged) == 20
    control = CacheControl(stale_if_error_s=10**9)
    assert caching.read(damaged[at_index], control=control, ttl_s=300) is None
    assert caching.stale(damaged[at_index], control=control, ttl_s=300) is None


@given(st.binary())
def test_no_bytes_in_redis_break_a_request(raw: bytes) -> None:
    assert caching.read(b"00000000000000" + raw, control=CacheControl(), ttl_s=10**12) is None


def test_no_entry_is_a_miss() -> None:
    assert caching.read(None, control=CacheControl(), ttl_s=300) is None
    assert caching.stale(None, control=CacheControl(stale_if_error_s=60), ttl_s=300) is None
