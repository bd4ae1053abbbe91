"""Plans, overrides and the text of rates: pure rules."""

from datetime import date
from itertools import pairwise

import pytest

from shared.kernel import limiting, rates
from shared.kernel.rates import Rate, RateKind, Share
from shared.quotas import service
from shared.quotas.model import Limits, Overrides, UnknownPlan, exceeded, next_month, spent
from shared.quotas.plans import OFFERED, PLANS, Allowance, Feature, Resource

_ORDER = ("free", "pro", "team", "enterprise")


def test_each_plan_allows_more_than_the_one_before() -> None:
    for smaller, larger in pairwise(_ORDER):
        for resource in Resource:
            less, more = PLANS[smaller].quotas[resource], PLANS[larger].quotas[resource]
            assert more is None or (less is not None and less < more)
        for allowance in Allowance:
            less, more = PLANS[smaller].monthly[allowance], PLANS[larger].monthly[allowance]
            assert more is None or (less is not None and less < more)
        assert (PLANS[smaller].retention_days or 0) < (PLANS[larger].retention_days or 0)
        assert PLANS[smaller].features < PLANS[larger].features
        for kind in RateKind:
            assert PLANS[smaller].org[kind].per_minute < PLANS[larger].org[kind].per_minute


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", RateKind)
def test_a_caller_alone_never_has_more_than_the_whole_org(plan: str, kind: RateKind) -> None:
    org, actor = PLANS[plan].org[kind], PLANS[plan].actor[kind]
    assert (actor.per_minute, actor.burst) <= (org.per_minute, org.burst)


@pytest.mark.parametrize("per_minute", [1, 2, 7, 60, 60_000_000])
def test_an_org_with_a_rate_of_its_own_is_never_stopped_for_good(per_minute: int) -> None:
    limits = Limits.of("free", {"rates": {"read": per_minute}})
    for rate in (limits.org_rate(RateKind.READ), limits.actor_rate(RateKind.READ)):
        assert rate.per_minute >= 1
        assert rate.burst >= 1


@pytest.mark.parametrize("plan", PLANS)
def test_a_first_script_that_makes_a_dozen_things_at_once_is_let_through(plan: str) -> None:
    assert PLANS[plan].actor[RateKind.CREATE].burst >= 20


def test_overrides_go_before_the_plan_and_only_where_they_are_named() -> None:
    limits = Limits.of("pro", {"quotas": {"members": 7}, "rates": {"model": 90}})
    assert limits.quota(Resource.MEMBERS) == 7
    assert limits.quota(Resource.SANDBOXES) == PLANS["pro"].quotas[Resource.SANDBOXES]
    assert limits.org_rate(RateKind.MODEL) == Rate(90, 30)
    assert limits.actor_rate(RateKind.MODEL) == Rate(45, 20)
    assert limits.org_rate(RateKind.READ) == PLANS["pro"].org[RateKind.READ]


def test_a_quota_of_zero_is_not_the_plans_own() -> None:
    assert Limits.of("free", {"quotas": {"sandboxes": 0}}).quota(Resource.SANDBOXES) == 0


def test_overrides_are_read_as_they_were_stored_without_what_there_no_longer_is() -> None:
    own = Overrides({Resource.MEMORIES: 3}, {RateKind.CREATE: 5}, {Allowance.MEMORIES: 7}, 90)
    assert Overrides.read(own.to_json()) == own
    assert (
        Overrides.read({"quotas": {"dirigibles": 3}, "rates": {"teleport": 1}, "monthly": {"moons": 1}}) == Overrides()
    )
    assert Overrides.read({}) == Overrides()


def test_a_plan_that_there_is_not_is_refused_and_limits_as_the_smallest_does() -> None:
    with pytest.raises(UnknownPlan):
        Limits.of("platinum", {})
    assert service.rates_of("platinum", {}, None) == service.rates_of("free", {}, None)


@pytest.mark.parametrize("kind", RateKind)
def test_rates_are_read_as_they_were_shown(kind: RateKind) -> None:
    text = service.rates_of("team", {}, 30)
    assert rates.read(text, kind) == [
        ("key", Rate(30, 5)),
        (f"actor.{kind}", PLANS["team"].actor[kind]),
        (f"org.{kind}", PLANS["team"].org[kind]),
    ]


def test_no_text_is_no_limit() -> None:
    assert rates.read("", RateKind.READ) == []
    assert rates.show({}) == ""
    assert rates.show({(Share.KEY, None): Rate(60, 10)}) == "key=60/10"


@pytest.mark.parametrize("per_minute", [1, 5, 6, 60])
def test_a_keys_own_limit_lets_at_least_one_request_through(per_minute: int) -> None:
    [(name, rate), *_] = rates.read(service.rates_of("free", {}, per_minute), RateKind.READ)
    assert (name, rate.per_minute) == ("key", per_minute)
    assert 1 <= rate.burst <= per_minute


@pytest.mark.parametrize(
    ("method", "scope", "kind"),
    [
        ("GET", "agents:read", RateKind.READ),
        ("HEAD", "agents:read", RateKind.READ),
        ("POST", "memories:read", RateKind.CREATE),
        ("DELETE", "agents:write", RateKind.CREATE),
        ("POST", "inference:write", RateKind.MODEL),
        ("GET", "inference:read", RateKind.READ),
    ],
)
def test_a_request_counts_by_its_method_and_scope(method: str, scope: str, kind: RateKind) -> None:
    assert limiting.kind_of(method, scope) is kind


def test_a_refusal_says_which_limit_what_is_used_and_how_to_lift_it() -> None:
    one = exceeded(Resource.CONCURRENT_RUNS, plan="free", limit=5, used=5, wanted=1)
    assert (one.code, one.param, one.retryable) == ("quota_exceeded", "concurrent_runs", False)
    assert one.message == (
        "concurrent_runs: this org may have 5 runs at once and has 5. "
        "Wait for one to end, cancel one, move to a larger plan, or ask the operator for a larger quota."
    )
    assert one.details == {
        "resource": "concurrent_runs",
        "limit": 5,
        "used": 5,
        "plan": "free",
        "lift": "Wait for one to end, cancel one, move to a larger plan, or ask the operator for a larger quota",
    }
    larger = exceeded(Resource.STORAGE_BYTES, plan="free", limit=100, used=90, wanted=20)
    assert "has 90, and this needs 20 more" in larger.message


def test_a_spent_allowance_says_when_there_is_more() -> None:
    refusal = spent(Allowance.MEMORIES, plan="free", limit=1000, used=1000, wanted=1, until=date(2027, 1, 1))
    assert (refusal.code, refusal.param) == ("plan_limit_reached", "memories")
    assert refusal.message == (
        "memories: this org may have 1000 new memories a month and had 1000. "
        "Wait until 2027-01-01 (UTC), move to a larger plan, or ask the operator for a larger quota."
    )
    assert refusal.details is not None
    assert refusal.details["resource"] == "monthly_memories"
    assert refusal.details["resets_at"] == "2027-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("day", "following"),
    [
        (date(2026, 1, 31), date(2026, 2, 1)),
        (date(2026, 12, 1), date(2027, 1, 1)),
        (date(2028, 2, 29), date(2028, 3, 1)),
    ],
    ids=["january", "december", "leap"],
)
def test_the_month_after_begins_on_its_first(day: date, following: date) -> None:
    assert next_month(day) == following


def test_the_plans_are_those_that_were_promised() -> None:
    promised = {
        # members, memories a month, days kept, dollars a month, dollars of credits, each month
        "free": (1, 1000, 7, 0, 5, False),
        "pro": (5, None, 30, 29, 20, True),
        "team": (20, None, 90, 99, 60, True),
    }
    found = {
        name: (
            PLANS[name].quotas[Resource.MEMBERS],
            PLANS[name].monthly[Allowance.MEMORIES],
            PLANS[name].retention_days,
            (PLANS[name].price_month_microusd or 0) / 1_000_000,
            PLANS[name].included_credits_microusd / 1_000_000,
            PLANS[name].included_every_month,
        )
        for name in promised
    }
    assert found == promised
    assert PLANS["pro"].features == {Feature.PRIORITY}
    assert {Feature.DEDICATED_CAPACITY, Feature.CUSTOM_INTEGRATIONS} <= PLANS["team"].features
    assert {Feature.SLA, Feature.OWN_RETENTION} <= PLANS["enterprise"].features
    assert PLANS["enterprise"].price_month_microusd is None
    assert [plan.name for plan in OFFERED] == list(_ORDER)


def test_an_orgs_own_retention_and_allowance_go_before_the_plans() -> None:
    assert Limits.of("free", {}).retention_days == 7
    assert Limits.of("operator", {}).retention_days is None
    own = Limits.of("free", {"retention_days": 400, "monthly": {"memories": 3}})
    assert (own.retention_days, own.allowance(Allowance.MEMORIES)) == (400, 3)
    assert Limits.of("pro", {}).allowance(Allowance.MEMORIES) is None
