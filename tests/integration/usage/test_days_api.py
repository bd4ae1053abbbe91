"""GET /v1/usage/daily: days in the caller's time zone, grouped as asked, right at once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from functions.api.usage import handler
from shared.kernel import clock, db, settings
from shared.kernel.caller import Caller
from shared.usage.model import UsageKind
from tests.api_gateway import Answer
from tests.integration.usage.metered import add_up, used

type Call = Callable[..., Answer]

# Half past midnight of the 16th in Berlin.
LATE = datetime(2026, 6, 15, 22, 30, tzinfo=UTC)
JUNE = "since=2026-06-01&until=2026-06-30"


def test_days_are_those_of_the_time_zone_asked_for(call: Call, org: Caller) -> None:
    used(org, LATE, 1_500, cost=375, model="gpt-5-mini")
    used(org, LATE + timedelta(hours=3), 60, UsageKind.SANDBOX_SECONDS, cost=165)
    answer = call(handler, "GET", f"/v1/usage/daily?{JUNE}&time_zone=Europe/Berlin", org)
    assert answer.status == 200
    data = answer.json["data"]
    assert [(row["day"], row["kind"], row["quantity"]) for row in data] == [
        ("2026-06-16", "sandbox_seconds", 60),
        ("2026-06-16", "tokens_input", 1_500),
    ]
    assert data[1] == {
        "object": "usage_day",
        "day": "2026-06-16",
        "kind": "tokens_input",
        "unit": "token",
        "quantity": 1_500,
        "cost_microusd": 375,
        "events": 1,
        "agent_id": None,
        "person_id": None,
        "key_id": None,
        "model": None,
    }
    assert (answer.json["object"], answer.json["time_zone"], answer.json["cost_microusd"]) == (
        "usage_days",
        "Europe/Berlin",
        540,
    )
    in_utc = call(handler, "GET", f"/v1/usage/daily?{JUNE}", org).json["data"]
    assert [row["day"] for row in in_utc] == ["2026-06-15", "2026-06-16"]


def test_days_are_told_apart_by_what_they_are_grouped_by(call: Call, org: Caller) -> None:
    used(org, LATE, 1, model="a", agent_id="agent_1")
    used(org, LATE, 2, model="b", agent_id="agent_1")
    used(org, LATE, 4, model="b", key_id="key_1", person_id="user_1")
    add_up(org)

    def by(group_by: str) -> list[tuple[object, ...]]:
        rows = call(handler, "GET", f"/v1/usage/daily?{JUNE}&group_by={quote(group_by)}", org).json["data"]
        return [(row["model"], row["agent_id"], row["key_id"], row["person_id"], row["quantity"]) for row in rows]

    assert by("model") == [("a", None, None, None, 1), ("b", None, None, None, 6)]
    assert by("agent") == [(None, None, None, None, 4), (None, "agent_1", None, None, 3)]
    assert by("key,person") == [(None, None, None, None, 3), (None, None, "key_1", "user_1", 4)]
    assert len(by("agent,key,model,person,model")) == 3


def test_only_the_kind_asked_for_is_told(call: Call, org: Caller) -> None:
    used(org, LATE, 1)
    used(org, LATE, 2, UsageKind.API_CALLS)
    for zone in ("UTC", "Asia/Kolkata"):
        path = f"/v1/usage/daily?{JUNE}&kind=api_calls&time_zone={zone}"
        assert [row["quantity"] for row in call(handler, "GET", path, org).json["data"]] == [2]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_by_default_it_is_the_last_thirty_days_there_with_today(call: Call, org: Caller, zone: str) -> None:
    used(org, clock.now(), 5)
    used(org, clock.now() - timedelta(days=31), 7)
    answer = call(handler, "GET", f"/v1/usage/daily?time_zone={quote(zone)}", org).json
    assert [(row["day"], row["quantity"]) for row in answer["data"]] == [(answer["until"], 5)]
    since, until = (datetime.fromisoformat(answer[end]) for end in ("since", "until"))
    assert until - since == timedelta(days=29)


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("since=2026-06-02&until=2026-06-01", "invalid_request", "until"),
        ("since=2025-01-01&until=2026-06-01", "invalid_request", "until"),
        ("since=0001-01-01&until=0001-01-02", "invalid_request", "since"),
        ("until=0001-01-01", "invalid_request", "until"),
        ("until=2000-01-10", "invalid_request", "since"),
        ("since=yesterday", "invalid_request", "since"),
        ("since=2026-06-01T10:00:00Z", "invalid_request", "since"),
        ("time_zone=Europe/Atlantis", "unknown_time_zone", "time_zone"),
        ("time_zone=X3&since=2026-06-01", "unknown_time_zone", "time_zone"),
        ("time_zone=%00", "unknown_time_zone", "time_zone"),
        ("group_by=colour", "invalid_request", "group_by"),
        ("group_by=model,,agent", "invalid_request", "group_by"),
        ("kind=nonsense", "invalid_request", "kind"),
    ],
)
def test_an_impossible_question_about_days_is_refused(
    call: Call, org: Caller, query: str, code: str, param: str
) -> None:
    answer = call(handler, "GET", f"/v1/usage/daily?{query}", org)
    assert (answer.status, answer.error, answer.json["error"]["param"]) == (400, code, param)


def test_another_tenants_days_are_not_told(call: Call, org: Caller, rival: Caller) -> None:
    used(org, LATE, 5)
    assert call(handler, "GET", f"/v1/usage/daily?{JUNE}", rival).json["data"] == []
    unscoped = replace(org, scopes=org.scopes - {"usage:read"})
    assert call(handler, "GET", f"/v1/usage/daily?{JUNE}", unscoped).status == 403


def test_days_are_read_at_the_replica_when_there_is_one(
    call: Call, org: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(handler, "GET", f"/v1/usage/daily?{JUNE}", org).status == 200
    monkeypatch.setenv("RUNYARD_DATABASE_READER_URL", "postgresql://runyard_app@127.0.0.1:9/nowhere")
    settings.forget()
    db.close()
    assert call(handler, "GET", f"/v1/usage/daily?{JUNE}", org).status == 503
    assert call(handler, "GET", "/v1/usage", org).status == 200
