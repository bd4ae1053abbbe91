"""Grants as lots, refunds and adjustments over HTTP."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from functions.api.billing import handler
from shared.billing import service
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from tests.api_gateway import Answer

type Call = Callable[..., Answer]
GRANT = {"amount_microusd": 5_000_000, "reason": "Invoice 2026-17 paid"}
END = "2100-01-01T00:00:00Z"


def charged(org: Caller, amount: int, source: str = "usage:1") -> None:
    with db.tenant(org) as tx:
        service.charge(tx, org, amount_microusd=amount, source_id=source, reason="test")


def post(call: Call, operator: Caller, org: Caller, what: str, **body: Any) -> Answer:
    body = {"org_id": ids.show("org", org.org_id), "reason": "test"} | body
    return call(handler, "POST", f"/v1/credits/{what}", operator, json=body)


def test_a_grant_is_listed_with_what_is_left_of_it(call: Call, operator: Caller, org: Caller) -> None:
    post(call, operator, org, "grants", amount_microusd=100, source_id="bought")
    post(call, operator, org, "grants", amount_microusd=50, source_id="given", kind="promo", expires_at=END, priority=7)
    charged(org, 70)
    given, bought = call(handler, "GET", "/v1/credits/grants", org).json["data"]
    assert given.pop("id").startswith("lot_")
    assert given.pop("created_at")
    assert given == {
        "object": "credit_grant",
        "kind": "promo",
        "amount_microusd": 50,
        "remaining_microusd": 0,
        "priority": 7,
        "expires_at": END,
        "source_id": "given",
    }
    assert (bought["kind"], bought["priority"], bought["expires_at"]) == ("purchase", 200, None)
    assert (bought["amount_microusd"], bought["remaining_microusd"]) == (100, 80)
    assert call(handler, "GET", "/v1/credits/grants", operator).json["data"] == []


def test_grants_are_paged_newest_first(call: Call, org: Caller) -> None:
    with db.tenant(org) as tx:
        for number in range(5):
            service.grant(tx, org, amount_microusd=1, source_id=f"gift:{number}", reason="test")
    seen, cursor = [], ""
    while True:
        page = call(handler, "GET", f"/v1/credits/grants?limit=2{cursor}", org).json
        seen += [lot["source_id"] for lot in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [f"gift:{number}" for number in (4, 3, 2, 1, 0)]


def test_the_balance_tells_what_is_owed_and_what_is_lost_next(call: Call, operator: Caller, org: Caller) -> None:
    for source, end in (("a", END), ("b", END), ("c", "2101-01-01T00:00:00Z"), ("d", None)):
        post(call, operator, org, "grants", amount_microusd=10, source_id=source, expires_at=end)
    balance = call(handler, "GET", "/v1/credits", org).json
    assert balance["expires_next"] == {"amount_microusd": 20, "at": END}
    charged(org, 45)
    balance = call(handler, "GET", "/v1/credits", org).json
    assert (balance["available_microusd"], balance["owed_microusd"], balance["expires_next"]) == (0, 5, None)


def test_each_entry_tells_from_where_to_where_it_moved(call: Call, operator: Caller, org: Caller) -> None:
    post(call, operator, org, "grants", amount_microusd=100, source_id="g")
    charged(org, 30)
    post(call, operator, org, "refunds", amount_microusd=10, source_id="r")
    post(call, operator, org, "adjustments", amount_microusd=-5, source_id="a")
    entries = call(handler, "GET", "/v1/credits/entries", org).json["data"]
    assert [(entry["kind"], entry["moved_from"], entry["moved_to"]) for entry in reversed(entries)] == [
        ("grant", "outside", "available"),
        ("hold", "available", "held"),
        ("settle", "held", "spent"),
        ("refund", "spent", "available"),
        ("adjust_down", "available", "outside"),
    ]
    assert [entry["available_after_microusd"] for entry in reversed(entries)] == [100, 70, 70, 80, 75]


@pytest.mark.parametrize("what", ["refunds", "adjustments"])
def test_one_source_takes_effect_once_under_whatever_key(call: Call, operator: Caller, org: Caller, what: str) -> None:
    post(call, operator, org, "grants", amount_microusd=100)
    charged(org, 30)
    first = post(call, operator, org, what, amount_microusd=10, source_id="s")
    assert first.status == 201
    assert post(call, operator, org, what, amount_microusd=10, source_id="s").json == first.json
    other = post(call, operator, org, what, amount_microusd=11, source_id="s")
    assert (other.status, other.error) == (409, "source_id_reused")
    assert call(handler, "GET", "/v1/credits", org).json["available_microusd"] == 80


@pytest.mark.parametrize(
    ("what", "amount", "code"),
    [
        ("refunds", 31, "refund_exceeds_settled"),
        ("adjustments", -71, "adjustment_exceeds_available"),
    ],
    ids=["refund", "adjustment"],
)
def test_what_the_account_does_not_allow_is_a_conflict(
    call: Call, operator: Caller, org: Caller, what: str, amount: int, code: str
) -> None:
    post(call, operator, org, "grants", amount_microusd=100)
    charged(org, 30)
    answer = post(call, operator, org, what, amount_microusd=amount)
    assert (answer.status, answer.error) == (409, code)
    assert call(handler, "GET", "/v1/credits", org).json["available_microusd"] == 70


@pytest.mark.parametrize(
    ("what", "change", "param"),
    [
        ("grants", {"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ("grants", {"expires_at": "2100-01-01T00:00:00"}, "expires_at"),
        ("grants", {"kind": "refund"}, "kind"),
        ("grants", {"priority": -1}, "priority"),
        ("grants", {"priority": 1001}, "priority"),
        ("refunds", {"amount_microusd": 0}, "amount_microusd"),
        ("refunds", {"amount_microusd": -1}, "amount_microusd"),
        ("refunds", {"kind": "refund"}, "kind"),
        ("adjustments", {"amount_microusd": 0}, "amount_microusd"),
        ("adjustments", {"amount_microusd": 10**13}, "amount_microusd"),
        ("adjustments", {"amount_microusd": -(10**13)}, "amount_microusd"),
        ("adjustments", {"source_id": "nul\x00"}, ""),
    ],
    ids=[
        "past end",
        "end without zone",
        "kind of its own route",
        "priority below",
        "priority above",
        "refund of nothing",
        "refund below nothing",
        "unknown field",
        "adjustment by nothing",
        "adjustment above",
        "adjustment below",
        "text that can't be stored",
    ],
)
def test_a_malformed_request_is_refused_and_its_field_named(
    call: Call, operator: Caller, org: Caller, what: str, change: dict[str, object], param: str
) -> None:
    answer = post(call, operator, org, what, **(GRANT | change))
    assert (answer.status, answer.error) == (400, "invalid_request")
    assert (answer.json["error"]["param"] or "") == param
    assert call(handler, "GET", "/v1/credits", org).json["granted_microusd"] == 0


@pytest.mark.parametrize(
    ("what", "scope"), [("refunds", "credits:grant"), ("adjustments", "credits:adjust")], ids=["refund", "adjustment"]
)
def test_a_tenant_can_neither_refund_nor_adjust(call: Call, org: Caller, rival: Caller, what: str, scope: str) -> None:
    answer = post(call, org, org, what, amount_microusd=1)
    assert (answer.status, answer.error) == (403, "insufficient_scope")
    with_the_scope = replace(org, scopes=org.scopes | {scope})
    assert post(call, with_the_scope, rival, what, amount_microusd=1).status == 403


@pytest.mark.parametrize("what", ["refunds", "adjustments"])
def test_an_org_that_does_not_exist_is_404(call: Call, operator: Caller, what: str) -> None:
    nobody = replace(operator, org_id=ids.new())
    answer = post(call, operator, nobody, what, amount_microusd=1)
    assert (answer.status, answer.error) == (404, "not_found")
