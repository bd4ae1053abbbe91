"""The embedding cache: a text's vector is kept for its org, model and dimensions, and found again in one look."""

import asyncio
import struct
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from shared.inference import embedding_cache
from shared.inference.embedding_cache import Vector
from shared.kernel import cache, ids, pipelining
from tests.services import Services


@pytest.fixture
def org_id(redis: Redis) -> UUID:
    return ids.new()


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test starts and ends as a process that has had no trouble with Redis."""
    cache._breaker.succeeded()
    yield
    cache._breaker.succeeded()


def got(org_id: UUID, texts: list[str], *, model: str = "small", dimensions: int | None = None) -> list[Vector | None]:
    return asyncio.run(embedding_cache.get(org_id, model, dimensions, texts))


def put(org_id: UUID, new: dict[str, Vector], *, model: str = "small", dimensions: int | None = None) -> None:
    asyncio.run(embedding_cache.put(org_id, model, dimensions, new))


def test_a_vector_comes_back_as_it_was_and_in_the_texts_order(org_id: UUID) -> None:
    exact: Vector = struct.unpack("<3f", struct.pack("<3f", 0.1, -2.5e-7, 3e38))
    put(org_id, {"a": exact, "b": (1.0, 2.0), "": (4.0,), "Zoë \ud83d": (5.0,)})
    found = got(org_id, ["b", "never", "a", "b", "", "Zoë \ud83d"])
    assert found == [(1.0, 2.0), None, exact, (1.0, 2.0), (4.0,), (5.0,)]


def test_org_model_dimensions_and_text_all_count(org_id: UUID) -> None:
    put(org_id, {"a": (1.0,)}, dimensions=256)
    assert got(org_id, ["a"], dimensions=256) == [(1.0,)]
    assert got(ids.new(), ["a"], dimensions=256) == [None]
    assert got(org_id, ["a"], dimensions=512) == got(org_id, ["a"]) == [None]
    assert got(org_id, ["a"], model="large", dimensions=256) == [None]
    assert got(org_id, ["A", "a "], dimensions=256) == [None, None]


def test_a_text_given_twice_is_looked_up_and_embedded_once(org_id: UUID, redis: Redis) -> None:
    texts = ["a", "b", "a", "c", "b"]
    put(org_id, {"c": (3.0,)})
    before = redis.info("stats")["keyspace_misses"]
    found = got(org_id, texts)
    assert redis.info("stats")["keyspace_misses"] - before == 2
    assert embedding_cache.missing(texts, found) == ["a", "b"]
    new: dict[str, Vector] = {"a": (1.0,), "b": (2.0,)}
    assert embedding_cache.complete(texts, found, new) == [(1.0,), (2.0,), (1.0,), (3.0,), (2.0,)]


def test_many_texts_are_one_look_and_too_many_a_few(org_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {number}" for number in range(600)]
    put(org_id, {text: (float(number),) for number, text in enumerate(texts)})
    sent: list[int] = []
    execute = pipelining._execute

    def counting(client: Redis, commands: Any) -> list[Any]:
        sent.append(len(commands))
        return execute(client, commands)

    monkeypatch.setattr(pipelining, "_execute", counting)
    assert got(org_id, texts[:256]) == [(float(number),) for number in range(256)]
    assert sent == [1]
    assert got(org_id, texts) == [(float(number),) for number in range(600)]
    assert sent == [1, 1, 1, 1]


def test_a_vector_is_kept_for_a_week(org_id: UUID, redis: Redis) -> None:
    put(org_id, {"Confidential": (1.0,)})
    [key] = redis.scan_iter(f"*{org_id}*")
    assert b"Confidential" not in key
    assert 7 * 24 * 3_600 - 5 < redis.ttl(key) <= 7 * 24 * 3_600
    redis.pexpire(key, 1)
    time.sleep(0.01)
    assert got(org_id, ["Confidential"]) == [None]


@pytest.mark.parametrize(
    "raw", [b"", b"!", b"AAA=", b"\xff\xfe", b"AACAPw"], ids=["empty", "junk", "short", "raw", "cut"]
)
def test_what_can_not_be_read_is_embedded_again(org_id: UUID, redis: Redis, raw: bytes) -> None:
    put(org_id, {"a": (1.0,)})
    [key] = redis.scan_iter(f"*{org_id}*")
    redis.set(key, raw)
    assert got(org_id, ["a", "b"]) == [None, None]


def test_no_texts_are_no_look(org_id: UUID) -> None:
    assert got(org_id, []) == []
    put(org_id, {})


def test_without_redis_everything_is_embedded(org_id: UUID, services: Services) -> None:
    put(org_id, {"a": (1.0,)})
    services.redis.kill()
    began = time.monotonic()
    assert got(org_id, ["a", "b"]) == [None, None]
    put(org_id, {"b": (2.0,)})
    assert time.monotonic() - began < 2
