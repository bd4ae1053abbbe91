"""HTTP API of what an org pays for models by agreement: set ahead by the operator, and never changed in hindsight."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from functions.api import org_prices as api
from shared.billing import service as billing
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from tests.api_gateway import Answer

type Call = Callable[..., Answer]
NOW = datetime(2026, 12, 5, 12, 0, tzinfo=UTC)
PRICE = {"input_microusd": 400, "cached_microusd": 100, "written_microusd": 500, "output_microusd": 900}
BODY = {"model": "gpt-5-mini", "price": PRICE}


class Clock:
    now = NOW

    def after(self, **time: float) -> str:
        return (self.now + timedelta(**time)).isoformat()


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(clock, "now", lambda: moved.now)
    return moved


@pytest.fixture
def ask(call: Call, org: Caller, operator: Caller) -> Call:
    def asked(method: str, path: str = "", caller: Caller = operator, of: Caller | None = None, **given: Any) -> Answer:
        shown = ids.show("org", (of or org).org_id)
        return call(api.handler, method, f"/v1/orgs/{shown}/prices{path}", caller, **given)

    return asked


def from_now_on(caller: Caller) -> list[tuple[str, datetime, int | None]]:
    with db.tenant(caller) as tx:
        found = billing.org_prices_from_now_on(tx)
    return [
        (each.model, each.effective_from, None if each.price is None else each.price.input_microusd) for each in found
    ]


def test_a_price_is_kept_as_it_was_set_and_begins_in_a_minute(ask: Call, org: Caller, operator: Caller) -> None:
    made = ask("POST", json=BODY)
    assert made.status == 201, made.text
    assert made.json["id"].startswith("price_")
    assert made.json == made.json | BODY | {
        "object": "org_price",
        "per_tokens": 1_000_000,
        "effective_from": "2026-12-05T12:01:00Z",
        "created_by": operator.actor_id,
    }
    assert ask("GET").json["data"] == [made.json]
    assert ask("GET", caller=org).json["data"] == [made.json]


def test_it_is_known_with_all_four_figures(ask: Call, org: Caller, rival: Caller) -> None:
    ask("POST", json=BODY)
    with db.tenant(org) as tx:
        (found,) = billing.org_prices_from_now_on(tx)
    assert found.price is not None
    assert (found.price.input_microusd, found.price.cached_microusd) == (400, 100)
    assert (found.price.written_microusd, found.price.output_microusd) == (500, 900)
    assert from_now_on(rival) == []


def test_without_figures_it_is_the_price_book_again(ask: Call, org: Caller) -> None:
    made = ask("POST", json=BODY | {"price": None})
    assert made.status == 201
    assert made.json["price"] is None
    assert from_now_on(org) == [("gpt-5-mini", NOW + timedelta(minutes=1), None)]


@pytest.mark.parametrize(("seconds", "status"), [(-3600, 400), (0, 400), (59, 400), (60, 201), (86400 * 30, 201)])
def test_a_price_is_set_a_minute_ahead(ask: Call, time: Clock, seconds: int, status: int) -> None:
    answer = ask("POST", json=BODY | {"effective_from": time.after(seconds=seconds)})
    assert answer.status == status, answer.text


@pytest.mark.parametrize(
    "given",
    [
        {"price": {"input_microusd": 1}},
        {"price": PRICE | {"input_microusd": -1}},
        {"price": PRICE | {"output_microusd": 10**10 + 1}},
        {"model": "gpt-unknown"},
        {"effective_from": "2026-12-06T00:00:00"},
    ],
    ids=["a part", "negative", "a slip", "no model", "no time zone"],
)
def test_what_is_no_price_is_refused(ask: Call, given: dict[str, Any]) -> None:
    assert ask("POST", json=BODY | given).status == 400
    assert ask("GET").json["data"] == []


def test_there_is_one_price_of_a_model_from_a_moment_on(ask: Call, time: Clock, rival: Caller) -> None:
    body = BODY | {"effective_from": time.after(hours=1)}
    assert ask("POST", json=body).status == 201
    again = ask("POST", json=body | {"price": None})
    assert (again.status, again.error) == (409, "price_exists")
    assert ask("POST", of=rival, json=body).status == 201


def test_a_price_to_come_can_be_taken_back(ask: Call, org: Caller, time: Clock) -> None:
    made = ask("POST", json=BODY).json
    time.now += timedelta(seconds=49)
    assert ask("DELETE", f"/{made['id']}").status == 204
    assert ask("DELETE", f"/{made['id']}").status == 404
    assert from_now_on(org) == []


@pytest.mark.parametrize("seconds", [51, 60, 86400])
def test_a_price_in_force_or_about_to_be_stays(ask: Call, org: Caller, time: Clock, seconds: int) -> None:
    made = ask("POST", json=BODY).json
    time.now += timedelta(seconds=seconds)
    refused = ask("DELETE", f"/{made['id']}")
    assert (refused.status, refused.error) == (409, "price_in_force")
    assert len(from_now_on(org)) == 1


def test_what_is_known_is_what_holds_and_what_is_to_come(ask: Call, org: Caller, time: Clock) -> None:
    for hours in (1, 3, 24):
        ask("POST", json=BODY | {"effective_from": time.after(hours=hours), "price": PRICE | {"input_microusd": hours}})
    ask("POST", json={"model": "gpt-5", "price": PRICE, "effective_from": time.after(hours=2)})

    def known() -> list[tuple[str, int | None]]:
        return [(model, price) for model, _, price in from_now_on(org)]

    assert known() == [("gpt-5-mini", 24), ("gpt-5-mini", 3), ("gpt-5", 400), ("gpt-5-mini", 1)]
    time.now = NOW + timedelta(hours=3, minutes=30)
    assert known() == [("gpt-5-mini", 24), ("gpt-5-mini", 3), ("gpt-5", 400), ("gpt-5-mini", 1)], "calls under way"
    time.now = NOW + timedelta(hours=4, minutes=1)
    assert known() == [("gpt-5-mini", 24), ("gpt-5-mini", 3), ("gpt-5", 400)]
    time.now = NOW + timedelta(days=300)
    assert known() == [("gpt-5-mini", 24), ("gpt-5", 400)], "for as long as nothing else begins"


def test_only_the_operator_sets_prices(ask: Call, org: Caller) -> None:
    owner = replace(org, role="owner")
    assert ask("POST", caller=owner, json=BODY).status == 403
    made = ask("POST", json=BODY).json
    assert ask("DELETE", f"/{made['id']}", caller=owner).status == 403


def test_another_orgs_prices_are_nobodys_business(ask: Call, org: Caller, rival: Caller) -> None:
    ask("POST", json=BODY)
    assert ask("GET", caller=rival).status == 404
    assert ask("GET", caller=rival, of=rival).json["data"] == []


def test_a_price_belongs_to_its_org(ask: Call, org: Caller, rival: Caller) -> None:
    made = ask("POST", json=BODY).json
    assert ask("DELETE", f"/{made['id']}", of=rival).status == 404
    assert len(from_now_on(org)) == 1


def test_an_org_that_is_not_there_has_no_prices(ask: Call, org: Caller) -> None:
    nobody = replace(org, org_id=ids.new())
    assert ask("POST", of=nobody, json=BODY).status == 404
    assert ask("GET", of=nobody).status == 404


def test_the_same_request_sent_again_sets_one_price(ask: Call) -> None:
    first, again = (ask("POST", json=BODY, headers={"idempotency-key": "k"}) for _ in range(2))
    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    assert len(ask("GET").json["data"]) == 1


def test_the_trail_of_the_org_tells_of_it(ask: Call, org: Caller, operator: Caller) -> None:
    made = ask("POST", json=BODY).json
    ask("DELETE", f"/{made['id']}")

    def events(tx: Tx) -> list[tuple[str, str]]:
        rows = tx.execute("SELECT action, actor FROM audit_events WHERE resource_id = %s ORDER BY id", (made["id"],))
        return [(row["action"], row["actor"]) for row in rows]

    with db.tenant(org) as tx:
        assert events(tx) == [("price.create", operator.actor_id), ("price.delete", operator.actor_id)]


def test_the_application_can_change_no_price(ask: Call, org: Caller) -> None:
    ask("POST", json=BODY)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.tenant(org) as tx:
        tx.execute("UPDATE org_prices SET input_microusd = 0")
