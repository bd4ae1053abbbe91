"""Prices over HTTP, for everybody, and usage events that are priced by when they occurred."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from urllib.parse import quote

import pytest

from functions.api.inference import handler as inference
from functions.api.prices import handler
from shared.billing import service as billing
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from shared.sandboxes import service as sandboxes
from shared.sandboxes.model import StopReason
from shared.usage import service as usage
from shared.usage.model import Metered, UsageEvent, UsageKind
from tests.api_gateway import Answer
from tests.model_provider import Provider

type Call = Callable[..., Answer]


def test_the_prices_in_force_are_told_to_whoever_asks(call: Call) -> None:
    answer = call(handler, "GET", "/v1/price-book")
    assert answer.status == 200
    book = answer.json
    now = billing.prices_at(clock.now())
    assert (book["object"], datetime.fromisoformat(book["effective_from"])) == ("price_book", now.effective_from)
    first = call(handler, "GET", "/v1/price-book?at=2026-06-01T00:00:00Z").json
    assert (first["effective_from"], first["effective_until"]) == ("2025-01-01T00:00:00Z", "2026-11-22T00:00:00Z")
    assert book["sandbox"]["vcpu_hour_microusd"] == 32_380
    units = {unit["kind"]: (unit["microusd"], unit["per_units"], unit["unit"]) for unit in book["units"]}
    assert units == {
        "storage_byte_hours": (137, 2**30, "byte_hour"),
        "call_seconds": (10_000, 60, "second"),
        "memory_operations": (0, 1, "operation"),
        "api_calls": (0, 1, "call"),
    }
    names = [model["model"] for model in book["models"]]
    assert names == sorted(names)
    assert all(price["source"] for price in [*book["models"], *book["units"], book["sandbox"]])


def test_the_price_of_one_model_is_told(call: Call) -> None:
    assert call(handler, "GET", "/v1/price-book/models/gpt-5-mini").json == {
        "object": "model_price",
        "model": "gpt-5-mini",
        "family": "gpt-5",
        "per_tokens": 1_000_000,
        "input_microusd": 250_000,
        "cached_microusd": 25_000,
        "written_microusd": 250_000,
        "output_microusd": 2_000_000,
        "source": "https://platform.openai.com/docs/pricing",
    }


def test_a_model_without_a_price_is_not_found(call: Call) -> None:
    answer = call(handler, "GET", "/v1/price-book/models/no-such-model")
    assert (answer.status, answer.error) == (404, "not_found")
    assert "no-such-model" in answer.json["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/price-book", "/v1/price-book/models/gpt-5"], ids=["book", "model"])
@pytest.mark.parametrize(
    ("at", "status", "code"),
    [
        ("2025-01-01T00:00:00Z", 200, None),
        ("2999-12-31T00:00:00Z", 200, None),
        ("2024-12-31T23:59:59.999999Z", 400, "not_priced"),
        ("2025-01-01T00:59:59+01:00", 400, "not_priced"),
        ("2026-01-01T00:00:00", 400, "invalid_request"),
        ("0001-01-01T00:00:00Z", 400, "invalid_request"),
        ("yesterday", 400, "invalid_request"),
    ],
    ids=["first", "last", "before the first", "before in UTC", "no zone", "no year of ours", "no moment"],
)
def test_prices_are_those_of_the_moment_asked_for(
    call: Call, path: str, at: str, status: int, code: str | None
) -> None:
    answer = call(handler, "GET", f"{path}?at={quote(at)}")
    assert (answer.status, None if status == 200 else answer.error) == (status, code)


def events(caller: Caller) -> list[UsageEvent]:
    with db.tenant(caller) as tx:
        return usage.list_events(tx, Slice(before=None, limit=50))


def test_every_event_of_a_call_can_be_priced_again_from_what_the_ledger_says(
    call: Call, org: Caller, provider: Provider
) -> None:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id=str(ids.new()), reason="test")
    message = {"id": "x", "created": 1, "model": "m"}
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    counts = {"prompt_tokens": 17, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 6}}
    provider.answers(message | {"choices": [choice], "usage": counts | {"total_tokens": 20}})
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]}

    assert call(inference, "POST", "/v1/chat/completions", org, json=body).status == 200

    found = events(org)
    # 11 x 0.25 = 2.75, 6 x 0.025 = 0.15, 3 x 2 = 6
    assert {event.kind: event.cost_microusd for event in found} == {
        UsageKind.TOKENS_INPUT: 3,
        UsageKind.TOKENS_CACHED: 0,
        UsageKind.TOKENS_OUTPUT: 6,
    }
    for event in found:
        priced = billing.price_of(event.kind, event.quantity, event.dimensions, at=event.occurred_at)
        assert (priced.cost_microusd, priced.unit_price) == (event.cost_microusd, event.unit_price)
    with db.tenant(org) as tx:
        assert billing.balance(tx).settled_microusd == 9


def test_a_call_is_priced_by_when_it_was_asked_and_a_sandbox_by_when_it_was_started(
    call: Call, org: Caller, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each look at the clock finds it a minute later: what was asked for first was asked for earlier.
    began, ticks = clock.now(), count()
    monkeypatch.setattr(clock, "now", lambda: began + next(ticks) * timedelta(minutes=1))
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id=str(ids.new()), reason="test")
        sandbox_id = sandboxes.create(tx, org, ttl_s=60, metadata={}).id
        tx.execute("UPDATE sandboxes SET ready_at = created_at, expires_at = created_at + interval '1 minute'")
    body = {"model": "runyard-offline", "messages": [{"role": "user", "content": "hello"}]}
    assert call(inference, "POST", "/v1/chat/completions", org, json=body).status == 200
    sandbox = sandboxes.end(org, sandbox_id, reason=StopReason.REQUESTED)

    with db.tenant(org) as tx:
        held = {row["source_id"]: row["created_at"] for row in tx.execute("SELECT * FROM credit_holds")}
    found = {event.kind: event for event in events(org)}
    asked_at = found[UsageKind.TOKENS_INPUT].occurred_at
    assert asked_at < min(at for source, at in held.items() if source != f"sandbox:{ids.show('sbx', sandbox_id)}")
    seconds = found[UsageKind.SANDBOX_SECONDS]
    assert (seconds.occurred_at, seconds.quantity) == (sandbox.created_at, 60)
    for event in found.values():
        priced = billing.price_of(event.kind, event.quantity, event.dimensions, at=event.occurred_at)
        assert (priced.cost_microusd, priced.unit_price) == (event.cost_microusd, event.unit_price)


def test_what_occurred_long_ago_and_is_metered_now_has_the_price_of_then(org: Caller) -> None:
    then = datetime(2025, 1, 1, tzinfo=UTC)
    with db.tenant(org) as tx:
        metered = [Metered(UsageKind.CALL_SECONDS, 61, "call-1", then + timedelta(hours=1), {})]
        assert billing.meter(tx, org, metered) == 1
        assert billing.meter(tx, org, metered) == 0
    (event,) = events(org)
    assert (event.cost_microusd, event.unit_price.microusd, event.unit_price.units) == (10_167, Decimal(10_000), 60)


def test_what_cannot_be_priced_is_not_recorded_at_all(org: Caller) -> None:
    now = clock.now()
    good = Metered(UsageKind.CALL_SECONDS, 61, "call-1", now, {})
    bad = Metered(UsageKind.SANDBOX_SECONDS, 61, "call-2", now, {"cpu_units": "256"})
    with pytest.raises(billing.CannotPrice), db.tenant(org) as tx:
        billing.meter(tx, org, [good, bad])
    assert events(org) == []
