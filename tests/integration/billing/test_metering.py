"""Metering: what is new is charged once, by one entry that leads back to it, priced by when it occurred."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from shared.billing import service
from shared.billing.model import Balance, Entry
from shared.kernel import clock, db, ids
from shared.kernel.caller import Attribution, Caller
from shared.kernel.pagination import Slice
from shared.usage import service as usage
from shared.usage.model import Metered, UsageEvent, UsageKind

MODEL = {"model": "gpt-5-mini"}


def used(source: str, tokens: int = 1_000_000, *, at: datetime | None = None) -> Metered:
    return Metered(UsageKind.TOKENS_INPUT, tokens, source, at or clock.now(), MODEL)


def meter(caller: Caller, *events: Metered) -> int:
    with db.tenant(caller) as tx:
        return service.meter(tx, caller, events)


def grant(caller: Caller, amount_microusd: int) -> None:
    with db.tenant(caller) as tx:
        service.grant(tx, caller, amount_microusd=amount_microusd, source_id=f"g:{ids.new()}", reason="test")


def state(caller: Caller) -> tuple[Balance, list[Entry], list[UsageEvent]]:
    with db.tenant(caller) as tx:
        assert service.check(tx) == []
        return service.balance(tx), service.list_entries(tx, Slice()), usage.list_events(tx, Slice())


def test_only_what_is_new_is_charged(org: Caller) -> None:
    grant(org, 1_000_000)
    assert meter(org, used("a"), used("b")) == 2
    assert meter(org, used("a"), used("b"), used("c")) == 1
    assert meter(org, used("c")) == 0
    balance, entries, events = state(org)
    assert (balance.settled_microusd, balance.available_microusd) == (750_000, 250_000)
    assert [entry.amount_microusd for entry in entries if entry.kind == "settle"] == [250_000, 500_000]
    assert len(events) == 3


def test_a_charge_names_an_event_of_the_ledger_as_its_cause(org: Caller) -> None:
    grant(org, 1_000_000)
    meter(org, Metered(UsageKind.API_CALLS, 1, "free", clock.now(), {}), used("a"), used("b"))
    _, entries, events = state(org)
    (source,) = {entry.source_id for entry in entries if entry.kind == "settle"}
    assert source in {f"usage:{ids.show('usage', event.id)}" for event in events if event.cost_microusd}


def test_what_costs_nothing_makes_no_entry(org: Caller) -> None:
    assert meter(org, used("a", 1), used("b", 0)) == 2
    balance, entries, _ = state(org)
    assert (balance.settled_microusd, balance.owed_microusd, entries) == (0, 0, [])
    assert meter(org) == 0


def test_each_event_is_rounded_by_itself(org: Caller) -> None:
    # 6 tokens cost 1.5 micro-dollars and 10 cost 2.5: both are rounded to the even 2.
    assert meter(org, used("a", 6), used("b", 10), used("c", 6)) == 3
    _, _, events = state(org)
    assert [event.cost_microusd for event in events] == [2, 2, 2]
    assert {event.unit_price.units for event in events} == {1_000_000}


def test_what_the_credits_do_not_cover_is_owed_and_paid_by_the_next(org: Caller) -> None:
    grant(org, 100_000)
    meter(org, used("a"))
    assert state(org)[0].owed_microusd == 150_000
    grant(org, 200_000)
    balance, _, _ = state(org)
    assert (balance.owed_microusd, balance.available_microusd, balance.settled_microusd) == (0, 50_000, 250_000)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Metered(UsageKind.TOKENS_INPUT, 1, "x", clock.now(), {"model": "nobody's"}), service.ModelNotPriced),
        (Metered(UsageKind.TOKENS_INPUT, 1, "x", clock.now(), {}), service.CannotPrice),
        (Metered(UsageKind.TOKENS_INPUT, 1, "x", datetime(1990, 1, 1, tzinfo=UTC), MODEL), service.NotPriced),
    ],
    ids=["model", "dimension", "moment"],
)
def test_what_has_no_price_keeps_all_from_being_counted(org: Caller, event: Metered, error: type[Exception]) -> None:
    grant(org, 1_000_000)
    with pytest.raises(error):
        meter(org, used("a"), event)
    balance, _, events = state(org)
    assert (balance.settled_microusd, events) == (0, [])
    assert meter(org, used("a")) == 1


def test_many_at_once_charge_what_each_counted(org: Caller) -> None:
    grant(org, 100_000_000)

    def some(number: int) -> int:
        # Each batch shares events with its neighbours, in another order.
        sources = [f"s{n}" for n in range(number, number + 20)]
        return meter(org, *(used(source) for source in (sources if number % 2 else reversed(sources))))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(some, range(40))) == 59
    assert state(org)[0].settled_microusd == 59 * 250_000


def test_an_event_recorded_late_counts_in_the_month_it_occurred(org: Caller) -> None:
    moment = clock.now() - timedelta(days=200)
    assert meter(org, used("a", at=moment)) == 1
    assert meter(org, used("a")) == 0, "counted once over all months"
    _, _, (event,) = state(org)
    assert event.occurred_at == moment


def test_whose_use_it_is_comes_from_the_caller_unless_the_event_says_so(org: Caller) -> None:
    meter(org, used("a"))
    at_work = Caller.system(org.org_id)
    meter(at_work, used("b"))
    behalf = Attribution(agent_id="agent_1", key_id="key_1")
    acting = Caller(org_id=org.org_id, actor_id="system", role="system", scopes=frozenset(), plan="", behalf=behalf)
    meter(acting, used("c"), Metered(UsageKind.API_CALLS, 1, "d", clock.now(), {"key_id": "key_2"}))
    _, _, events = state(org)
    found = {event.source_id: event.dimensions for event in events}
    assert found == {
        "a": MODEL | {"key_id": org.actor_id},
        "b": MODEL,
        "c": MODEL | {"agent_id": "agent_1", "key_id": "key_1"},
        "d": {"agent_id": "agent_1", "key_id": "key_2"},
    }
