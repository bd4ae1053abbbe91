"""The audit trail over HTTP: listed, filtered, looked at, taken away as JSON Lines."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.api import audit as function
from shared.audit import schemas
from shared.audit import service as audit
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from tests.api_gateway import Answer

type Call = Callable[..., Answer]
_PATH = "/v1/audit-events"


@pytest.fixture
def visitor(org: Caller) -> Caller:
    """A caller of the tenant whose address is known."""
    return replace(org, ip="203.0.113.9")


def write(caller: Caller, action: str, *, resource: str = "thing_1", kind: str = "thing", **facts: Any) -> None:
    with db.tenant(caller) as tx:
        audit.record(tx, caller, action=action, resource_type=kind, resource_id=resource, **facts)


def listed(call: Call, caller: Caller, query: str = "") -> list[dict[str, Any]]:
    answer = call(function.handler, "GET", f"{_PATH}?{query}", caller)
    assert answer.status == 200, answer.text
    found: list[dict[str, Any]] = answer.json["data"]
    return found


def exported(call: Call, caller: Caller, query: str = "") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    answer = call(function.handler, "GET", f"{_PATH}/export?{query}", caller)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer.text
    assert answer.text.endswith("\n")
    *events, end = [json.loads(line) for line in answer.text.splitlines()]
    return events, end


def test_an_event_says_who_did_what_from_where_and_is_chained(call: Call, visitor: Caller) -> None:
    write(visitor, "thing.rename", old={"name": "a"}, new={"name": "b", "password": "hunter2"})
    event = listed(call, visitor)[0]
    with db.tenant(visitor) as tx:
        head = audit.verify(tx).head
    assert {name: event[name] for name in event if name not in ("id", "created_at")} == {
        "object": "audit_event",
        "actor": visitor.actor_id,
        "actor_ip": "203.0.113.9",
        "action": "thing.rename",
        "resource_type": "thing",
        "resource_id": "thing_1",
        "old": {"name": "a"},
        "new": {"name": "b", "password": "[redacted]"},
        "request_id": "test",
        "seq": head.seq,
        "hash": head.hash.hex(),
    }
    assert call(function.handler, "GET", f"{_PATH}/{event['id']}", visitor).json == event


def test_another_tenants_event_does_not_exist(call: Call, org: Caller, rival: Caller) -> None:
    event = listed(call, org)[0]
    answer = call(function.handler, "GET", f"{_PATH}/{event['id']}", rival)
    assert (answer.status, answer.error) == (404, "not_found")
    assert event["id"] not in {each["id"] for each in listed(call, rival)}
    assert event["id"] not in {each["id"] for each in exported(call, rival)[0]}


def test_each_filter_leaves_what_it_names(call: Call, org: Caller) -> None:
    other = replace(org, actor_id="user_other")
    write(org, "a.do", resource="a_1", kind="a")
    write(other, "a.do", resource="a_2", kind="a")
    write(other, "b.do", resource="b_1", kind="b")
    for query, expected in {
        "actor=user_other": ["b_1", "a_2"],
        "action=a.do": ["a_2", "a_1"],
        "resource_type=b": ["b_1"],
        "resource_id=a_1": ["a_1"],
        "action=a.do&actor=user_other": ["a_2"],
        "action=nothing.do": [],
    }.items():
        assert [event["resource_id"] for event in listed(call, org, query)] == expected, query
        assert [event["resource_id"] for event in exported(call, org, query)[0]] == expected[::-1], query


def test_a_period_begins_with_since_and_ends_before_until(call: Call, org: Caller) -> None:
    write(org, "thing.do")
    at = listed(call, org, "action=thing.do")[0]["created_at"]
    after = (datetime.fromisoformat(at) + timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")
    at = at.replace("+00:00", "Z")
    for query, count in {
        f"since={at}": 1,
        f"since={after}": 0,
        f"until={at}": 0,
        f"until={after}": 1,
        f"since={at}&until={after}": 1,
    }.items():
        assert len(listed(call, org, f"action=thing.do&{query}")) == count, query
        assert len(exported(call, org, f"action=thing.do&{query}")[0]) == count, query


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "since=2026-01-01T00:00:00", "cursor=audit_x", "cursor=-1", "cursor=99999999999999999999"],
)
def test_a_query_that_makes_no_sense_is_refused(call: Call, org: Caller, query: str) -> None:
    answer = call(function.handler, "GET", f"{_PATH}/export?{query}", org)
    assert (answer.status, answer.error) == (400, "invalid_request")


def test_pages_of_the_list_meet(call: Call, org: Caller) -> None:
    for number in range(5):
        write(org, f"thing.do_{number}")
    seen, cursor = list[str](), ""
    while True:
        page = call(function.handler, "GET", f"{_PATH}?limit=2{cursor}", org).json
        seen += [event["action"] for event in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [f"thing.do_{number}" for number in reversed(range(5))] + ["api_key.create", "org.create"]


def test_an_export_comes_in_pages_that_meet_and_is_itself_written_down(
    call: Call, org: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "MAX_EXPORT_LINES", 3)
    for number in range(5):
        write(org, f"thing.do_{number}")
    first, end = exported(call, org)
    assert [event["seq"] for event in first] == [1, 2, 3]
    assert end == {"object": "audit_export_end", "lines": 3, "has_more": True, "next_cursor": 3}
    second, end = exported(call, org, "cursor=3")
    assert [event["seq"] for event in second] == [4, 5, 6]
    third, end = exported(call, org, "cursor=6")
    # The two pages before are events too; this one isn't in itself.
    assert [event["action"] for event in third] == ["thing.do_4", "audit.export", "audit.export"]
    assert end == {"object": "audit_export_end", "lines": 3, "has_more": False, "next_cursor": 9}
    event = listed(call, org, "action=audit.export")[0]
    assert event["new"] == {"after": 6, "lines": 3}
    assert [event["action"] for event in exported(call, org, "cursor=9")[0]] == ["audit.export"]


def test_an_export_says_in_the_trail_what_was_asked_for(call: Call, org: Caller) -> None:
    exported(call, org, "since=2020-01-01T00:00:00Z&actor=user_x")
    event = listed(call, org, "action=audit.export")[0]
    assert event["new"] == {"since": "2020-01-01 00:00:00+00:00", "actor": "user_x", "after": 0, "lines": 0}


def test_a_page_of_an_export_fits_into_lambdas_answer(call: Call, org: Caller) -> None:
    with db.tenant(org) as tx:
        for number in range(350):
            audit.record(
                tx,
                org,
                action="thing.do",
                resource_type="thing",
                resource_id=str(number),
                new={f"text_{each}": "é" * 1_000 for each in range(7)},
            )
    seen, cursor, more = list[str](), 0, True
    while more:
        answer = call(function.handler, "GET", f"{_PATH}/export?action=thing.do&cursor={cursor}", org)
        assert len(answer.text.encode()) * 4 / 3 < 6_000_000
        *events, end = [json.loads(line) for line in answer.text.splitlines()]
        seen += [event["resource_id"] for event in events]
        cursor, more = end["next_cursor"], end["has_more"]
    assert seen == [str(number) for number in range(350)]


def test_the_export_follows_the_order_of_commits_so_that_nothing_is_missed(call: Call, org: Caller) -> None:
    with db.tenant(org) as slow:
        audit.record(slow, org, action="thing.slow", resource_type="thing", resource_id="x")
        write(org, "thing.quick")
        events, end = exported(call, org, "action=thing.quick")
        assert len(events) == 1
    later, _ = exported(call, org, f"cursor={end['next_cursor']}")
    assert "thing.slow" in {event["action"] for event in later}


def test_an_unknown_event_is_not_found(call: Call, org: Caller) -> None:
    answer = call(function.handler, "GET", f"{_PATH}/{ids.show('audit', ids.new())}", org)
    assert (answer.status, answer.error) == (404, "not_found")


def test_no_event_is_from_the_future(call: Call, org: Caller) -> None:
    assert all(datetime.fromisoformat(event["created_at"]) <= datetime.now(UTC) for event in listed(call, org))
