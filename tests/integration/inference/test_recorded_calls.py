"""Recorded calls: all of each is kept, found by what one looks for, newest first, and forgotten in time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.inference import retention_store, store
from shared.inference.calls import CacheStatus, Call, Operation, Outcome, Tokens
from shared.inference.store import Filter
from shared.kernel import db, ids
from shared.kernel.caller import Attribution, Caller
from shared.kernel.pagination import Slice

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def a_call(**facts: object) -> Call:
    call_id = ids.new()
    call = Call(
        id=call_id,
        source_id=f"req_{call_id.hex}",
        operation=Operation.CHAT,
        model="gpt-4o-mini",
        tokens=Tokens(input=10, cached=2, output=5),
        cost_microusd=7,
        latency_ms=12,
        answer={},
        created_at=NOON,
    )
    return replace(call, **facts)  # type: ignore[arg-type]


def record(caller: Caller, *calls: Call) -> list[object]:
    with db.tenant(caller) as tx:
        return [row["id"] for row in store.insert_calls(tx, caller.org_id, calls)]


def found(caller: Caller, wanted: Filter, asked: Slice | None = None) -> list[object]:
    with db.tenant(caller) as tx:
        return [call.id for call in store.list_calls(tx, asked or Slice(limit=100), wanted)]


def test_all_of_a_call_is_kept(org: Caller) -> None:
    whole = a_call(
        operation=Operation.EMBEDDINGS,
        tokens=Tokens(input=100, cached=20, output=30, written=40, reasoning=10),
        answer={"choices": [{"message": {"content": 'He said "\\{hi},\n" — ok'}}]},
        request_id="req-1",
        provider="anthropic",
        route='cheap, or "good"',
        cache=CacheStatus.STALE,
        outcome=Outcome.BROKEN,
        error_code="stream_broken",
        estimated=True,
        streamed=True,
        attempts=3,
        queue_ms=4,
        first_token_ms=120,
        finish_reason="stop",
        run_id="run_1",
        attribution=Attribution(agent_id="agent_1", person_id="user_1", key_id="key_1"),
        prompt={"messages": []},
    )
    plain = a_call()
    assert set(record(org, whole, plain)) == {whole.id, plain.id}
    with db.tenant(org) as tx:
        assert store.find_call(tx, whole.id) == whole
        assert store.find_call(tx, plain.id) == plain
        assert store.find_call(tx, ids.new()) is None


def test_a_source_has_one_call_whoever_of_a_batch_comes_first(org: Caller, rival: Caller) -> None:
    first, second, other = (a_call(source_id=source) for source in ("b", "b", "a"))
    assert set(record(org, first, second, other)) == {first.id, other.id}
    third = a_call(source_id="b")
    assert record(org, third) == []
    with db.tenant(org) as tx:
        assert [call.id for call in store.calls_of(store.ask_for_sources(tx, ["b", "unknown"]))] == [first.id]
    assert record(rival, replace(third, id=ids.new())) != []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), [3, 2, 1, 0]),
        (Filter(model="gpt-4o"), [1]),
        (Filter(outcome=Outcome.FAILED), [2]),
        (Filter(run_id="run_1"), [3, 0]),
        (Filter(since=NOON + timedelta(hours=1)), [3, 2, 1]),
        (Filter(until=NOON + timedelta(hours=1)), [0]),
        (Filter(run_id="run_1", since=NOON + timedelta(hours=1)), [3]),
    ],
    ids=["all", "model", "outcome", "run", "since", "until", "run since"],
)
def test_calls_are_found_newest_first(org: Caller, rival: Caller, wanted: Filter, expected: list[int]) -> None:
    calls = [
        a_call(run_id="run_1"),
        a_call(model="gpt-4o", created_at=NOON + timedelta(hours=1)),
        a_call(outcome=Outcome.FAILED, created_at=NOON + timedelta(hours=2)),
        a_call(run_id="run_1", created_at=NOON + timedelta(hours=3)),
    ]
    record(org, *calls)
    assert found(org, wanted) == [calls[n].id for n in expected]
    assert found(rival, wanted) == []


def test_a_page_ends_one_call_beyond_its_limit_and_the_next_begins_after_its_last(org: Caller) -> None:
    calls = [a_call() for _ in range(5)]
    record(org, *calls)
    newest_first = [call.id for call in reversed(calls)]
    assert found(org, Filter(), Slice(limit=2)) == newest_first[:3]
    assert found(org, Filter(), Slice(limit=2, before=newest_first[1])) == newest_first[2:5]


def test_what_was_said_is_forgotten_and_that_it_was_asked_is_not(org: Caller) -> None:
    old = a_call(answer={"said": "x"}, prompt={"messages": ["y"]})
    only_asked = a_call(prompt={"messages": ["y"]})
    new = a_call(answer={"said": "x"}, prompt={"messages": ["y"]}, created_at=NOON + timedelta(days=1))
    record(org, old, only_asked, new)
    with db.tenant(org) as tx:
        assert retention_store.forget_answers(tx, before=NOON + timedelta(hours=1), limit=10) == 2
        assert retention_store.forget_answers(tx, before=NOON + timedelta(hours=1), limit=10) == 0
        assert store.find_call(tx, old.id) == replace(old, answer={}, prompt=None)
        assert store.find_call(tx, only_asked.id) == replace(only_asked, prompt=None)
        assert store.find_call(tx, new.id) == new
