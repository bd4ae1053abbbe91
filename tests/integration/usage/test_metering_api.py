"""What is metered elsewhere comes in over the API, waits on the queue, and ends in the ledger."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.api.metering import handler
from functions.queues import record_usage
from shared.audit import service as audit
from shared.kernel import clock, db, ids, settings
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from tests.api_gateway import Answer, Context
from tests.emulator import Emulator
from tests.integration.usage.messages import counted, furnished

type Call = Callable[..., Answer]
PATH = "/v1/usage/events"
COST = 250_000


def event(source: str, quantity: int = 1_000_000, **changes: Any) -> dict[str, Any]:
    told = {"kind": "tokens_input", "quantity": quantity, "source_id": source}
    return told | {"dimensions": {"model": "gpt-5-mini"}} | changes


def body(org: Caller, *events: dict[str, Any]) -> dict[str, Any]:
    return {"org_id": ids.show("org", org.org_id), "events": list(events)}


def consume(emulator: Emulator) -> int:
    """Let the queue's function have what waits; return how many messages those were."""
    waiting = emulator.usage_to_record()
    if waiting:
        assert record_usage.handler({"Records": waiting}, Context()) == {"batchItemFailures": []}
    return len(waiting)


def test_what_is_sent_is_accepted_queued_and_counted_once(
    call: Call, org: Caller, operator: Caller, emulator: Emulator
) -> None:
    furnished(org)
    for _ in range(2):
        answer = call(handler, "POST", PATH, operator, json=body(org, event("a"), event("b", 500_000)))
        assert (answer.status, answer.json) == (202, {"object": "usage_accepted", "events": 2})
    assert counted(org) == (0, 0)
    assert consume(emulator) == 2
    assert counted(org) == (1_500_000, COST * 3 // 2)


def test_the_same_idempotency_key_asks_once(call: Call, org: Caller, operator: Caller, emulator: Emulator) -> None:
    furnished(org)
    for _ in range(2):
        answer = call(handler, "POST", PATH, operator, json=body(org, event("a")), headers={"idempotency-key": "k"})
        assert answer.status == 202
    assert consume(emulator) == 1


def test_much_is_divided_into_messages_that_sqs_takes(
    call: Call, org: Caller, operator: Caller, emulator: Emulator
) -> None:
    furnished(org)
    long = {"model": "gpt-5-mini"} | {f"d{n}": "é" * 200 for n in range(15)}
    events = [event(f"s{n}", 4, dimensions=long) for n in range(500)]
    assert call(handler, "POST", PATH, operator, json=body(org, *events)).status == 202
    assert consume(emulator) > 1
    assert counted(org) == (2_000, 500)


def test_the_request_is_in_the_orgs_trail_with_its_count_alone(
    call: Call, org: Caller, operator: Caller, emulator: Emulator
) -> None:
    call(handler, "POST", PATH, operator, json=body(org, event("secret-source"), event("b")))
    with db.tenant(org) as tx:
        (found,) = [each for each in audit.list_events(tx, Slice()) if each.action == "usage.record"]
    assert found.actor == operator.actor_id
    assert found.new == {"events": 2}


def test_only_the_operator_may_say_what_was_used(call: Call, org: Caller, emulator: Emulator) -> None:
    assert call(handler, "POST", PATH, json=body(org, event("a"))).status == 401
    assert call(handler, "POST", PATH, org, json=body(org, event("a"))).status == 403
    assert consume(emulator) == 0


def test_an_org_that_does_not_exist_is_not_found(call: Call, org: Caller, operator: Caller, emulator: Emulator) -> None:
    nobody = replace(org, org_id=ids.new())
    assert call(handler, "POST", PATH, operator, json=body(nobody, event("a"))).status == 404
    assert consume(emulator) == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": -1}, "invalid_request"),
        ({"quantity": 2**63}, "invalid_request"),
        ({"quantity": 1.5}, "invalid_request"),
        ({"kind": "happiness"}, "invalid_request"),
        ({"source_id": ""}, "invalid_request"),
        ({"source_id": "\x00"}, "invalid_request"),
        ({"source_id": "\ud800"}, "invalid_request"),
        ({"dimensions": {"model": "\x00"}}, "invalid_request"),
        ({"dimensions": {"model": "nobody's"}}, "model_not_priced"),
        ({"dimensions": {}}, "not_priceable"),
        ({"occurred_at": "2020-01-01T00:00:00Z"}, "invalid_request"),
        ({"occurred_at": "9999-12-31T23:59:59-14:00"}, "invalid_request"),
        ({"cost_microusd": 1}, "invalid_request"),
    ],
    ids=str,
)
def test_what_could_not_be_counted_is_refused_at_once(
    call: Call, org: Caller, operator: Caller, emulator: Emulator, changes: dict[str, Any], code: str
) -> None:
    answer = call(handler, "POST", PATH, operator, json=body(org, event("a"), event("b") | changes))
    assert (answer.status, answer.error) == (400, code)
    assert consume(emulator) == 0


def test_as_many_as_a_message_holds_and_no_more(call: Call, org: Caller, operator: Caller, emulator: Emulator) -> None:
    assert call(handler, "POST", PATH, operator, json=body(org)).status == 400
    events = [event(f"s{n}") for n in range(501)]
    assert call(handler, "POST", PATH, operator, json=body(org, *events)).status == 400
    assert consume(emulator) == 0


def test_without_the_queue_the_request_fails_as_a_whole_and_may_be_sent_again(
    call: Call, org: Caller, operator: Caller, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnished(org)
    again = {"json": body(org, event("a")), "headers": {"idempotency-key": "k"}}
    with monkeypatch.context() as broken:
        broken.setenv("RUNYARD_USAGE_QUEUE", "gone")
        settings.forget()
        answer = call(handler, "POST", PATH, operator, **again)
    settings.forget()
    assert (answer.status, answer.json["error"]["retryable"]) == (503, True)
    with db.tenant(org) as tx:
        assert [each for each in audit.list_events(tx, Slice()) if each.action == "usage.record"] == []
    assert call(handler, "POST", PATH, operator, **again).status == 202
    assert consume(emulator) == 1
    assert counted(org) == (1_000_000, COST)


def test_an_event_is_priced_by_when_it_is_said_to_have_occurred(
    call: Call, org: Caller, operator: Caller, emulator: Emulator
) -> None:
    furnished(org)
    moment = clock.now() - timedelta(days=3)
    call(handler, "POST", PATH, operator, json=body(org, event("a", occurred_at=moment.isoformat())))
    consume(emulator)
    with db.tenant(org) as tx:
        row = tx.execute("SELECT occurred_at, unit_price_microusd, price_units FROM usage_events").fetchone()
    assert row == {"occurred_at": moment, "unit_price_microusd": 250_000, "price_units": 1_000_000}
