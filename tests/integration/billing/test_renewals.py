"""The hourly renewal: each month begins once, brings its credits once, and what was missed brings nothing."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.schedules import renew_subscriptions
from shared.audit import service as audit
from shared.billing import service as billing
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from shared.quotas import service as quotas
from tests.api_gateway import Context
from tests.integration.billing.months import age, while_open

_ALL = Slice(limit=100, before=None)
_EVENT = json.loads(Path("events/schedules/renew_subscriptions.json").read_text())


def opened(org: Caller, plan: str) -> None:
    with db.tenant(org) as tx:
        quotas.set_plan(tx, org, org.org_id, plan)
        billing.open_account(tx, org.org_id, plan=plan)


def renewed() -> int:
    return int(renew_subscriptions.handler(_EVENT, Context())["renewed"])


def period(org: Caller) -> tuple[datetime, datetime]:
    """The period as it is stored: what a look without renewing tells is calculated."""
    with db.tenant(org) as tx:
        row = tx.execute("SELECT period_start, period_end FROM subscriptions").fetchone()
    assert row is not None
    return row["period_start"].astimezone(UTC), row["period_end"].astimezone(UTC)


def grants(org: Caller) -> dict[str, Any]:
    """The amount and the end of each lot, by its cause."""
    with db.tenant(org) as tx:
        assert billing.check(tx) == []
        return {lot.source_id: (lot.amount_microusd, lot.expires_at) for lot in billing.lots(tx, _ALL)}


def test_a_month_that_runs_is_left_alone(org: Caller) -> None:
    opened(org, "pro")
    before = period(org)
    assert renewed() == 0
    assert (period(org), len(grants(org))) == (before, 1)


def test_a_new_month_brings_the_plans_credits_once(org: Caller, rival: Caller) -> None:
    opened(org, "pro")
    opened(rival, "pro")
    age(org, timedelta(days=40))
    assert [renewed(), renewed()] == [1, 0]
    start, end = period(org)
    assert start <= clock.now() < end
    assert grants(org)[f"plan:pro:{start.date().isoformat()}"] == (20_000_000, end)
    assert len(grants(org)) == 2
    assert len(grants(rival)) == 1


def test_months_that_were_missed_bring_nothing(org: Caller) -> None:
    opened(org, "team")
    age(org, timedelta(days=200))
    assert renewed() == 1
    start, end = period(org)
    assert start <= clock.now() < end
    assert len(grants(org)) == 2
    with db.tenant(org) as tx:
        (event,) = audit.list_events(tx, _ALL, action="subscription.renew", resource_id=None)
    assert (event.actor, event.new) == ("system", {"plan": "team", "period_start": start.isoformat()})


def test_a_free_orgs_month_begins_and_brings_nothing(org: Caller) -> None:
    opened(org, "free")
    age(org, timedelta(days=70))
    assert renewed() == 1
    assert grants(org) == {"plan:free": (5_000_000, None)}


def test_what_a_new_month_brings_goes_by_the_plan_of_now(org: Caller) -> None:
    opened(org, "pro")
    system = Caller.system(org.org_id)
    with db.tenant(system) as tx:
        billing.change_plan(tx, system, org.org_id, plan="free", paid=True)
    age(org, timedelta(days=40))
    assert renewed() == 1
    assert len(grants(org)) == 1
    # A new month's upgrade is a new one, though its plan was had in the month before.
    with db.tenant(system) as tx:
        change = billing.change_plan(tx, system, org.org_id, plan="pro", paid=True)
    assert 0 < change.included_microusd < 20_000_000
    assert len(grants(org)) == 2


def test_renewals_at_once_bring_the_credits_once(org: Caller) -> None:
    opened(org, "pro")
    age(org, timedelta(days=40))

    def renew(_: int) -> bool:
        with db.tenant(Caller.system(org.org_id)) as tx:
            return billing.renew(tx, org.org_id)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(renew, range(16))) == 1
    assert len(grants(org)) == 2


def test_a_renewal_waits_for_another_and_finds_nothing_to_do(org: Caller) -> None:
    opened(org, "pro")
    age(org, timedelta(days=40))
    system = Caller.system(org.org_id)

    def other() -> bool:
        with db.tenant(system) as tx:
            return billing.renew(tx, org.org_id)

    assert while_open(system, lambda tx: billing.renew(tx, org.org_id), other) == (True, False)


def test_a_renewal_killed_before_its_commit_is_made_by_the_next_one(org: Caller) -> None:
    opened(org, "pro")
    age(org, timedelta(days=40))
    before = period(org)
    with db.tenant(Caller.system(org.org_id)) as tx:
        assert billing.renew(tx, org.org_id)
        tx.rollback()
    assert (period(org), len(grants(org))) == (before, 1)
    assert renewed() == 1
    assert len(grants(org)) == 2


def test_one_orgs_fault_stops_no_other(org: Caller, rival: Caller, logged: Callable[[], str]) -> None:
    for each in (org, rival):
        opened(each, "pro")
        age(each, timedelta(days=40))
    with db.tenant(org) as tx:
        tx.execute("UPDATE orgs SET plan = 'platinum'")
    with pytest.raises(ExceptionGroup):
        renewed()
    assert len(grants(rival)) == 2
    assert str(org.org_id) in logged()
    with db.tenant(org) as tx:
        tx.execute("UPDATE orgs SET plan = 'pro'")
    assert renewed() == 1
    assert len(grants(org)) == 2


def test_credits_of_the_month_before_are_spent_before_they_end(org: Caller) -> None:
    opened(org, "pro")
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000, source_id="bought", reason="bought")
        billing.hold(tx, org, amount_microusd=500, source_id="run:1", expires_at=clock.now() + timedelta(hours=1))
        billing.settle(tx, org, source_id="run:1", amount_microusd=500)
        left = {lot.source_id: lot.remaining_microusd for lot in billing.lots(tx, _ALL)}
    assert left.pop("bought") == 1_000
    assert list(left.values()) == [20_000_000 - 500]
