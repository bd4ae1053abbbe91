"""The edge: every error in the one envelope, nothing of the inside in it, bad input refused clearly."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter

from functions.api.agents import handler as agents
from functions.api.audit import handler as audit
from functions.api.identity import handler as identity
from shared.kernel.caller import Caller
from shared.kernel.http import lambda_handler
from tests.api_gateway import Answer
from tests.services import Services

Call = Callable[..., Answer]


def test_an_answer_names_its_request(call: Call, org: Caller) -> None:
    answer = call(agents, "GET", "/v1/agents", org)
    assert answer.headers["x-request-id"]


def test_an_error_has_every_field_of_the_envelope(call: Call, org: Caller) -> None:
    answer = call(agents, "POST", "/v1/agents", org, json={"name": ""})
    error = answer.json["error"]
    assert set(error) == {"type", "code", "message", "param", "request_id", "retryable", "doc_url"}
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "invalid_request"
    assert error["param"] == "name"
    assert error["request_id"] == answer.headers["x-request-id"]
    assert error["doc_url"].endswith("/errors#invalid_request")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"name": "a\x00b"}', b'{"name": "\\ud800"}']
)
def test_a_malformed_body_is_a_400_in_our_envelope(call: Call, org: Caller, content: bytes) -> None:
    answer = call(agents, "POST", "/v1/agents", org, content=content, headers={"Content-Type": "application/json"})
    assert answer.status == 400
    assert answer.error == "invalid_request"


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", {"a": "\x00"}])
def test_text_that_can_not_be_stored_is_refused_wherever_it_stands(call: Call, org: Caller, value: Any) -> None:
    body = {"name": "A", "metadata": value} if isinstance(value, dict) else {"name": value}
    assert call(agents, "POST", "/v1/agents", org, json=body).status == 400


def test_an_unexpected_error_is_a_500_in_our_envelope_that_tells_nothing(
    call: Call, org: Caller, logged: Callable[[], str]
) -> None:
    router = APIRouter()

    @router.get("/v1/broken")
    def broken() -> None:
        raise RuntimeError("password=hunter2")

    answer = call(lambda_handler(router), "GET", "/v1/broken", org)
    assert (answer.status, answer.error) == (500, "internal")
    assert "hunter2" not in answer.text
    assert "RuntimeError" in logged()


@pytest.mark.parametrize(
    "path",
    ["/v1/audit-events?action=a%00b", "/v1/audit-events?resource_id=%00", "/v1/audit-events?action=%ff"],
)
def test_a_query_that_postgres_can_not_hold_is_no_fault_of_ours(call: Call, org: Caller, path: str) -> None:
    assert call(audit, "GET", path, org).status in (200, 400)


def test_a_number_beyond_what_a_column_holds_is_a_400(call: Call, org: Caller) -> None:
    made = call(agents, "POST", "/v1/agents", org, json={"name": "A"}).json
    answer = call(agents, "GET", f"/v1/agents/{made['id']}/versions?cursor=99999999999", org)
    assert (answer.status, answer.error) == (400, "invalid_request")


def test_an_unknown_field_is_refused_by_name(call: Call, org: Caller) -> None:
    answer = call(agents, "POST", "/v1/agents", org, json={"name": "A", "colour": "red"})
    assert (answer.status, answer.json["error"]["param"]) == (400, "colour")


def test_an_unknown_route_and_a_wrong_method_are_in_our_envelope(call: Call, org: Caller) -> None:
    assert call(agents, "GET", "/v1/agents/x/y/z", org).error == "route_not_found"
    assert call(agents, "DELETE", "/v1/agents", org).error == "method_not_allowed"


@pytest.mark.parametrize(
    "shown", ["x", "run_01h455vb4pex5vsknk084sn02q", "agent_", "agent_" + "9" * 26, "agent_" + "é" * 26]
)
def test_an_id_of_another_kind_is_a_400(call: Call, org: Caller, shown: str) -> None:
    assert call(agents, "GET", f"/v1/agents/{shown}", org).status == 400


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "cursor=x", "cursor=run_01h455vb4pex5vsknk084sn02q"]
)
def test_a_page_beyond_the_bounds_is_a_400(call: Call, org: Caller, query: str) -> None:
    assert call(agents, "GET", f"/v1/agents?{query}", org).status == 400


def test_pages_follow_each_other_without_a_gap_or_a_repeat(call: Call, org: Caller) -> None:
    made = [call(agents, "POST", "/v1/agents", org, json={"name": f"A{n}"}).json["id"] for n in range(7)]
    seen: list[str] = []
    query = "limit=3"
    while True:
        page = call(agents, "GET", f"/v1/agents?{query}", org).json
        seen += [agent["id"] for agent in page["data"]]
        if not page["has_more"]:
            break
        query = f"limit=3&cursor={page['next_cursor']}"
    assert seen == made[::-1]
    assert page["next_cursor"] is None


def test_with_postgres_gone_the_answer_is_a_retryable_503_and_all_is_well_once_it_is_back(
    call: Call, org: Caller, services: Services
) -> None:
    services.postgres.kill()
    try:
        answer = call(agents, "GET", "/v1/agents", org)
        assert (answer.status, answer.error) == (503, "unavailable")
        assert answer.json["error"]["retryable"] is True
        assert answer.headers["retry-after"] == "1"
    finally:
        services.postgres.start()
    assert call(agents, "GET", "/v1/agents", org).status == 200


def test_with_redis_gone_the_health_page_says_degraded(call: Call, services: Services) -> None:
    assert call(identity, "GET", "/v1/health").json["status"] == "ok"
    services.redis.stop()
    try:
        assert call(identity, "GET", "/v1/health").json == {
            "object": "health",
            "status": "degraded",
            "postgres": "ok",
            "redis": "down",
        }
    finally:
        services.redis.start()
