"""The credits API through its Lambda handler."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends

from functions.api.billing import handler
from shared.billing import service
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Output
from shared.kernel.http import lambda_handler, require
from tests.api_gateway import Answer

type Call = Callable[..., Answer]
GRANT = {"amount_microusd": 5_000_000, "reason": "Invoice 2026-17 paid"}


def test_a_new_tenant_has_no_credits(call: Call, org: Caller) -> None:
    answer = call(handler, "GET", "/v1/credits", org)
    assert answer.status == 200
    assert answer.json == {
        "object": "credit_balance",
        "available_microusd": 0,
        "available_credits": "0.0000",
        "held_microusd": 0,
        "granted_microusd": 0,
        "refunded_microusd": 0,
        "settled_microusd": 0,
        "expired_microusd": 0,
        "owed_microusd": 0,
        "expires_next": None,
    }


def test_the_operator_gives_a_tenant_credits(call: Call, operator: Caller, org: Caller) -> None:
    answer = call(handler, "POST", "/v1/credits/grants", operator, json=GRANT | {"org_id": ids.show("org", org.org_id)})
    assert answer.status == 201
    assert answer.json["kind"] == "grant"
    assert answer.json["available_after_microusd"] == 5_000_000
    balance = call(handler, "GET", "/v1/credits", org).json
    assert (balance["available_microusd"], balance["available_credits"]) == (5_000_000, "500.0000")
    listed = call(handler, "GET", "/v1/credits/entries", org).json
    assert listed == {"object": "list", "data": [answer.json], "has_more": False, "next_cursor": None}
    assert call(handler, "GET", "/v1/credits/entries", operator).json["data"] == []


def test_the_operator_s_own_org_is_given_them_by_default(call: Call, operator: Caller) -> None:
    assert call(handler, "POST", "/v1/credits/grants", operator, json=GRANT).status == 201
    assert call(handler, "GET", "/v1/credits", operator).json["available_microusd"] == 5_000_000


def test_a_grant_with_the_same_idempotency_key_is_answered_again_and_made_once(
    call: Call, operator: Caller, org: Caller
) -> None:
    body = GRANT | {"org_id": ids.show("org", org.org_id)}
    headers = {"Idempotency-Key": "invoice-17"}
    first = call(handler, "POST", "/v1/credits/grants", operator, json=body, headers=headers)
    again = call(handler, "POST", "/v1/credits/grants", operator, json=body, headers=headers)
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert call(handler, "GET", "/v1/credits", org).json["granted_microusd"] == 5_000_000


def test_the_same_idempotency_key_with_another_body_is_refused(call: Call, operator: Caller) -> None:
    headers = {"Idempotency-Key": "invoice-17"}
    call(handler, "POST", "/v1/credits/grants", operator, json=GRANT, headers=headers)
    other = call(handler, "POST", "/v1/credits/grants", operator, json=GRANT | {"amount_microusd": 1}, headers=headers)
    assert (other.status, other.error) == (409, "idempotency_key_reused")
    assert call(handler, "GET", "/v1/credits", operator).json["granted_microusd"] == 5_000_000


def test_a_source_is_granted_once_even_under_different_keys(call: Call, operator: Caller) -> None:
    body = GRANT | {"source_id": "invoice:2026-17"}
    answers = [
        call(handler, "POST", "/v1/credits/grants", operator, json=body, headers={"Idempotency-Key": key})
        for key in ("one", "two")
    ]
    assert answers[0].json == answers[1].json
    other = call(handler, "POST", "/v1/credits/grants", operator, json=body | {"amount_microusd": 7})
    assert (other.status, other.error) == (409, "source_id_reused")


def test_an_org_that_does_not_exist_can_be_given_nothing(call: Call, operator: Caller) -> None:
    answer = call(handler, "POST", "/v1/credits/grants", operator, json=GRANT | {"org_id": ids.show("org", ids.new())})
    assert (answer.status, answer.error) == (404, "not_found")


def test_a_tenant_can_grant_nothing_to_anybody(call: Call, org: Caller, rival: Caller) -> None:
    answer = call(handler, "POST", "/v1/credits/grants", org, json=GRANT)
    assert (answer.status, answer.error) == (403, "insufficient_scope")
    with_the_scope = replace(org, scopes=org.scopes | {"credits:grant"})
    body = GRANT | {"org_id": ids.show("org", rival.org_id)}
    answer = call(handler, "POST", "/v1/credits/grants", with_the_scope, json=body)
    assert (answer.status, answer.error) == (403, "insufficient_scope")
    assert call(handler, "GET", "/v1/credits", rival).json["granted_microusd"] == 0


@pytest.mark.parametrize("path", ["/v1/credits", "/v1/credits/entries"])
def test_reading_takes_a_key_with_the_scope(call: Call, org: Caller, path: str) -> None:
    assert call(handler, "GET", path).status == 401
    unscoped = replace(org, scopes=org.scopes - {"credits:read"})
    assert call(handler, "GET", path, unscoped).status == 403


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"amount_microusd": 0}, "amount_microusd"),
        ({"amount_microusd": -1}, "amount_microusd"),
        ({"amount_microusd": 1.5}, "amount_microusd"),
        ({"amount_microusd": 10**19}, "amount_microusd"),
        ({"reason": ""}, "reason"),
        ({"org_id": "org_nonsense"}, "org_id"),
        ({"amount_usd": 5}, "amount_usd"),
    ],
)
def test_a_malformed_grant_is_refused_and_its_field_named(
    call: Call, operator: Caller, change: dict[str, object], param: str
) -> None:
    answer = call(handler, "POST", "/v1/credits/grants", operator, json=GRANT | change)
    assert (answer.status, answer.error) == (400, "invalid_request")
    assert answer.json["error"]["param"] == param


def test_entries_are_paged_in_the_order_they_took_effect(call: Call, org: Caller) -> None:
    with db.tenant(org) as tx:
        for n in range(5):
            service.grant(tx, org, amount_microusd=n + 1, source_id=f"gift:{n}", reason="test")
    seen: list[int] = []
    cursor, pages = "", 0
    while True:
        page = call(handler, "GET", f"/v1/credits/entries?limit=2{cursor}", org).json
        seen += [entry["entry_no"] for entry in page["data"]]
        pages += 1
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert (seen, pages) == ([5, 4, 3, 2, 1], 3)


def test_another_tenant_s_cursor_shows_nothing(call: Call, org: Caller, rival: Caller) -> None:
    for caller in (org, rival):
        with db.tenant(caller) as tx:
            entry = service.grant(tx, caller, amount_microusd=1, source_id="gift", reason="test")
    answer = call(handler, "GET", f"/v1/credits/entries?cursor={ids.show('entry', entry.id)}", org)
    assert (answer.status, answer.json["data"]) == (200, [])


class Worked(Output):
    """The answer of a route that costs credits."""

    done: bool = True


paid = APIRouter()


@paid.post("/v1/paid-work")
def work(caller: Annotated[Caller, Depends(require("runs:write"))]) -> Worked:
    with db.tenant(caller) as tx:
        expires_at = clock.now() + timedelta(hours=1)
        service.hold(tx, caller, amount_microusd=1_000, source_id="work:1", expires_at=expires_at)
    return Worked()


def test_work_without_the_credits_for_it_is_answered_402(call: Call, org: Caller) -> None:
    answer = call(lambda_handler(paid), "POST", "/v1/paid-work", org)
    assert (answer.status, answer.error) == (402, "insufficient_credits")
    assert answer.json["error"]["type"] == "billing_error"
    assert "$0.001000" in answer.json["error"]["message"]
    with db.tenant(org) as tx:
        service.grant(tx, org, amount_microusd=1_000, source_id="gift", reason="test")
    assert call(lambda_handler(paid), "POST", "/v1/paid-work", org).status == 200
