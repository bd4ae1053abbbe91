"""Subscriptions over HTTP and by use case: opening, previewing, changing up and down, by whom and how often at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from psycopg import OperationalError

from functions.api import orgs as orgs_api
from functions.api import quotas as quotas_api
from functions.api import subscriptions as api
from shared.audit import service as audit
from shared.billing import service as billing
from shared.billing.lots import LotKind
from shared.identity.policy import Role
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import QuotaExceeded
from shared.kernel.pagination import Slice
from shared.quotas import service as quotas
from shared.quotas.plans import PLANS, Resource
from tests.api_gateway import Answer
from tests.integration.billing.months import age, while_open
from tests.people import joined

type Call = Callable[..., Answer]
_ALL = Slice(limit=100, before=None)
_PATH = "/v1/subscription"


def path(org: Caller) -> str:
    return f"/v1/orgs/{ids.show('org', org.org_id)}/subscription"


def opened(org: Caller, plan: str = "free") -> None:
    with db.tenant(org) as tx:
        quotas.set_plan(tx, org, org.org_id, plan)
        billing.open_account(tx, org.org_id, plan=plan)


def moved(call: Call, org: Caller, operator: Caller, plan: str) -> Any:
    answer = call(api.handler, "PUT", path(org), operator, json={"plan": plan})
    assert answer.status == 200, answer.text
    return answer.json


def granted(org: Caller) -> int:
    with db.tenant(org) as tx:
        assert billing.check(tx) == []
        return billing.balance(tx).granted_microusd


def hold_seats(org: Caller, count: int) -> None:
    with db.tenant(org) as tx:
        for _ in range(count):
            quotas.allocate(tx, org.org_id, Resource.MEMBERS, holder=ids.show("user", ids.new()))


def trail(org: Caller, action: str) -> list[Any]:
    with db.tenant(org) as tx:
        return audit.list_events(tx, _ALL, action=action, resource_id=None)


# --- opening -----------------------------------------------------------------------------------------------------


def test_a_free_org_begins_with_its_credits_once_and_for_good(org: Caller) -> None:
    for _ in range(2):
        opened(org)
    with db.tenant(org) as tx:
        (lot,) = billing.lots(tx, _ALL)
    assert (lot.kind, lot.amount_microusd, lot.expires_at, lot.source_id) == (
        LotKind.PLAN,
        5_000_000,
        None,
        "plan:free",
    )


def test_a_paid_plans_credits_end_with_its_month(org: Caller) -> None:
    opened(org, "team")
    with db.tenant(org) as tx:
        (lot,) = billing.lots(tx, _ALL)
        found = billing.subscription(tx, org.org_id)
    assert (lot.amount_microusd, lot.expires_at) == (60_000_000, found.period_end)
    assert found.period_start <= clock.now() < found.period_end


def test_further_orgs_are_no_source_of_credits(call: Call, org: Caller) -> None:
    person = joined(org, Role.OWNER)
    answer = call(orgs_api.handler, "POST", "/v1/orgs", person, json={"name": "Second"})
    assert answer.status == 201, answer.text
    second = replace(org, org_id=ids.read("org", answer.json["org"]["id"]))
    assert granted(second) == 0
    with db.tenant(second) as tx:
        row = tx.execute("SELECT period_end > now() AS running FROM subscriptions").fetchone()
    assert row == {"running": True}


def test_the_operators_new_org_begins_with_its_plans_credits(call: Call, operator: Caller, org: Caller) -> None:
    answer = call(orgs_api.handler, "POST", "/v1/orgs", operator, json={"name": "New"})
    new = replace(org, org_id=ids.read("org", answer.json["org"]["id"]))
    assert granted(new) == 5_000_000


# --- what there is -----------------------------------------------------------------------------------------------


def test_plans_are_listed_for_anybody(call: Call) -> None:
    answer = call(api.handler, "GET", "/v1/plans", None)
    assert answer.status == 200
    plans = {plan["id"]: plan for plan in answer.json["data"]}
    assert list(plans) == ["free", "pro", "team", "enterprise"]
    assert plans["free"]["monthly"] == {"memories": 1000}
    assert plans["pro"]["quotas"]["memories"] is None
    assert plans["enterprise"]["price_month_microusd"] is None
    assert (plans["free"]["included"], plans["team"]["included"]) == ("once", "monthly")


def test_an_org_sees_its_plan_and_its_month(call: Call, org: Caller) -> None:
    opened(org)
    answer = call(api.handler, "GET", _PATH, org)
    assert answer.status == 200
    assert (answer.json["plan"], answer.json["price_month_microusd"], answer.json["retention_days"]) == ("free", 0, 7)
    assert answer.json["period_start"] < answer.json["period_end"]


def test_an_org_from_before_there_were_subscriptions_has_one_all_the_same(
    call: Call, org: Caller, operator: Caller
) -> None:
    assert call(api.handler, "GET", _PATH, org).json["plan"] == "free"
    assert moved(call, org, operator, "pro")["plan"] == "pro"
    assert call(api.handler, "GET", _PATH, org).json["plan"] == "pro"


# --- previews ----------------------------------------------------------------------------------------------------


def test_a_preview_tells_the_price_and_changes_nothing(call: Call, org: Caller) -> None:
    opened(org)
    answer = call(api.handler, "POST", f"{_PATH}/preview", org, json={"plan": "pro"})
    assert answer.status == 200
    told = answer.json
    assert (told["plan_before"], told["plan"], told["obstacles"]) == ("free", "pro", [])
    # The month has just begun.
    assert 28_999_000 < told["due_microusd"] == told["charge_microusd"] <= 29_000_000
    assert 19_999_000 < told["included_microusd"] <= 20_000_000
    assert call(api.handler, "GET", _PATH, org).json["plan"] == "free"
    assert granted(org) == 5_000_000


def test_a_preview_lists_what_stands_in_the_way(call: Call, org: Caller) -> None:
    opened(org, "team")
    hold_seats(org, 7)
    answer = call(api.handler, "POST", f"{_PATH}/preview", org, json={"plan": "pro"})
    lift = "Remove one or make one a viewer"
    assert answer.json["obstacles"] == [{"resource": "members", "limit": 5, "used": 7, "lift": lift}]
    assert answer.json["due_microusd"] == 0


# --- changes -----------------------------------------------------------------------------------------------------


def test_an_upgrade_that_costs_is_refused_until_it_is_paid(call: Call, org: Caller) -> None:
    opened(org)
    answer = call(api.handler, "PUT", _PATH, org, json={"plan": "pro"})
    assert (answer.status, answer.error) == (402, "payment_required")
    assert 28_999_000 < answer.json["error"]["details"]["due_microusd"] <= 29_000_000
    assert call(api.handler, "GET", _PATH, org).json["plan"] == "free"
    assert granted(org) == 5_000_000


def test_an_upgrade_counts_at_once(call: Call, org: Caller, operator: Caller) -> None:
    opened(org)
    hold_seats(org, 1)
    with pytest.raises(QuotaExceeded):
        hold_seats(org, 1)
    told = moved(call, org, operator, "pro")
    hold_seats(org, 4)
    assert granted(org) == 5_000_000 + told["included_microusd"]
    assert "org.read=3000/500" in quotas.rates_of("pro", {}, None)
    (event,) = trail(org, "subscription.change")
    assert (event.actor, event.old, event.new["plan"]) == (operator.actor_id, {"plan": "free"}, "pro")
    assert event.new["due_microusd"] == told["due_microusd"]


def test_a_payment_providers_word_changes_the_plan(org: Caller) -> None:
    opened(org)
    system = Caller.system(org.org_id)
    with db.tenant(system) as tx:
        change = billing.change_plan(tx, system, org.org_id, plan="team", paid=True)
    assert change.due_microusd > 98_000_000
    assert granted(org) == 5_000_000 + change.included_microusd


def test_a_downgrade_is_refused_with_all_that_stands_in_the_way(call: Call, org: Caller) -> None:
    opened(org, "pro")
    hold_seats(org, 3)
    with db.tenant(org) as tx:
        quotas.allocate(tx, org.org_id, Resource.MEMORIES, holder="mem_1", amount=10_001)
    answer = call(api.handler, "PUT", _PATH, org, json={"plan": "free"})
    assert (answer.status, answer.error) == (409, "plan_downgrade_blocked")
    obstacles = answer.json["error"]["details"]["obstacles"]
    assert [(each["resource"], each["limit"], each["used"]) for each in obstacles] == [
        ("members", 1, 3),
        ("memories", 10_000, 10_001),
    ]
    assert call(api.handler, "GET", _PATH, org).json["plan"] == "pro"


def test_a_downgrade_with_nothing_in_its_way_counts_at_once_and_keeps_the_credits(call: Call, org: Caller) -> None:
    opened(org, "pro")
    answer = call(api.handler, "PUT", _PATH, org, json={"plan": "free"})
    assert (answer.status, answer.json["plan"], answer.json["due_microusd"]) == (200, "free", 0)
    assert granted(org) == 20_000_000
    hold_seats(org, 1)
    with pytest.raises(QuotaExceeded):
        hold_seats(org, 1)


def test_going_down_and_up_again_brings_no_credits_twice(call: Call, org: Caller, operator: Caller) -> None:
    opened(org, "pro")
    for plan in ("free", "pro", "free", "pro"):
        moved(call, org, operator, plan)
    assert granted(org) == 20_000_000
    moved(call, org, operator, "team")
    assert 59_999_000 < granted(org) <= 60_000_000


def test_the_plan_an_org_has_is_no_change(call: Call, org: Caller) -> None:
    opened(org, "pro")
    answer = call(api.handler, "PUT", _PATH, org, json={"plan": "pro"})
    assert (answer.status, answer.json["due_microusd"], answer.json["included_microusd"]) == (200, 0, 0)
    assert trail(org, "subscription.change") == []


@pytest.mark.parametrize(
    ("plan", "error"),
    [("platinum", "unknown_plan"), ("enterprise", "plan_not_offered"), ("operator", "plan_not_offered")],
)
def test_a_plan_that_is_not_for_sale_is_refused(call: Call, org: Caller, plan: str, error: str) -> None:
    opened(org)
    answer = call(api.handler, "PUT", _PATH, org, json={"plan": plan})
    assert (answer.status, answer.error, answer.json["error"]["param"]) == (400, error, "plan")


@pytest.mark.parametrize("body", [{}, {"plan": ""}, {"plan": 7}, {"plan": "pro", "paid": True}, {"plan": "\u0000"}])
def test_a_change_that_makes_no_sense_is_refused(call: Call, org: Caller, body: dict[str, Any]) -> None:
    opened(org)
    assert call(api.handler, "PUT", _PATH, org, json=body).status == 400


def test_the_operator_moves_no_org_that_there_is_not(call: Call, operator: Caller) -> None:
    nowhere = replace(operator, org_id=ids.new())
    assert call(api.handler, "PUT", path(nowhere), operator, json={"plan": "pro"}).status == 404


@pytest.mark.parametrize(("role", "status"), [(Role.OWNER, 402), (Role.ADMIN, 403), (Role.MEMBER, 403)])
def test_only_owners_change_the_plan(call: Call, org: Caller, role: Role, status: int) -> None:
    opened(org)
    assert call(api.handler, "PUT", _PATH, joined(org, role), json={"plan": "pro"}).status == status


def test_nobody_moves_another_org_or_pays_by_asking(call: Call, org: Caller, rival: Caller) -> None:
    opened(org)
    assert call(api.handler, "PUT", path(org), rival, json={"plan": "pro"}).status == 403
    assert call(api.handler, "PUT", path(org), org, json={"plan": "pro"}).status == 403


def test_quota_no_longer_changes_a_plan(call: Call, org: Caller, operator: Caller) -> None:
    answer = call(quotas_api.handler, "PUT", path(org).replace("subscription", "quota"), operator, json={"plan": "pro"})
    assert answer.status == 400


def test_many_changes_at_once_grant_each_plans_credits_once(org: Caller, operator: Caller) -> None:
    opened(org)
    system = Caller.system(org.org_id)

    def change(number: int) -> int:
        plan = ("pro", "team", "pro", "free")[number % 4]
        with db.tenant(system) as tx:
            return billing.change_plan(tx, system, org.org_id, plan=plan, paid=True).included_microusd

    with ThreadPoolExecutor(8) as pool:
        included = sum(pool.map(change, range(32)))
    assert granted(org) == 5_000_000 + included
    assert included <= PLANS["team"].included_credits_microusd
    with db.tenant(org) as tx:
        sources = [lot.source_id for lot in billing.lots(tx, _ALL)]
    assert len(sources) == len(set(sources)) <= 3


def test_a_change_waits_for_another_and_counts_with_what_that_left(org: Caller) -> None:
    opened(org)
    system = Caller.system(org.org_id)

    def change(tx: db.Tx, plan: str) -> int:
        return billing.change_plan(tx, system, org.org_id, plan=plan, paid=True).included_microusd

    def other() -> int:
        with db.tenant(system) as tx:
            return change(tx, "team")

    pro, team = while_open(system, lambda tx: change(tx, "pro"), other)
    assert granted(org) == 5_000_000 + pro + team
    assert pro + team <= PLANS["team"].included_credits_microusd


def test_a_change_killed_before_its_commit_leaves_nothing(org: Caller) -> None:
    opened(org)

    def killed() -> None:
        with db.tenant(org) as tx:
            billing.change_plan(tx, org, org.org_id, plan="pro", paid=True)
            tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(OperationalError):
        killed()
    with db.tenant(org) as tx:
        assert billing.subscription(tx, org.org_id).plan == "free"
    assert granted(org) == 5_000_000


def test_another_orgs_subscription_is_out_of_sight(org: Caller, rival: Caller) -> None:
    opened(org)
    with db.tenant(rival) as tx:
        assert tx.execute("SELECT count(*) AS n FROM subscriptions").fetchone() == {"n": 0}


def test_a_month_that_is_over_begins_anew_before_the_plan_changes(org: Caller) -> None:
    opened(org, "pro")
    age(org, timedelta(days=45))
    system = Caller.system(org.org_id)
    with db.tenant(system) as tx:
        change = billing.change_plan(tx, system, org.org_id, plan="team", paid=True)
        found = billing.subscription(tx, org.org_id)
        sources = {lot.source_id: lot.amount_microusd for lot in billing.lots(tx, _ALL)}
    start = found.period_start.date().isoformat()
    assert sources[f"plan:pro:{start}"] == 20_000_000
    assert sources[f"plan:team:{start}"] == change.included_microusd
    assert found.period_end == change.period_end > clock.now()
