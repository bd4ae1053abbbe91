"""Forecast and advice over HTTP, from a tenant's own ledger, credits and sandboxes."""

from collections.abc import Callable
from datetime import datetime, time, timedelta
from uuid import UUID

import pytest

from functions.api.advice import handler
from shared.billing import service as billing
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.sandboxes import service as sandboxes
from shared.sandboxes import store as sandbox_store
from shared.usage import days
from shared.usage.model import Metered, UsageKind
from tests.api_gateway import Answer

type Call = Callable[..., Answer]
NOW = clock.now()
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The middle of a day in UTC, shortly ago: what is worked out doesn't depend on when the test runs."""
    found = datetime.combine((NOW - DAY).date(), time(12), NOW.tzinfo)
    monkeypatch.setattr(clock, "now", lambda: found)
    return found


def grant(caller: Caller, microusd: int, *, expires_at: datetime | None = None) -> None:
    with db.tenant(caller) as tx:
        billing.grant(
            tx, caller, amount_microusd=microusd, source_id=str(ids.new()), reason="test", expires_at=expires_at
        )


def use(caller: Caller, kind: UsageKind, quantity: int, at: datetime, **dimensions: str) -> None:
    with db.tenant(caller) as tx:
        assert billing.meter(tx, caller, [Metered(kind, quantity, str(ids.new()), at, dimensions)]) == 1


def test_the_forecast_of_a_tenant_that_has_used_nothing_has_no_end(call: Call, org: Caller, noon: datetime) -> None:
    grant(org, 5_000_000)
    assert call(handler, "GET", "/v1/reports/forecast", org).json == {
        "object": "credit_forecast",
        "as_of": noon.isoformat().replace("+00:00", "Z"),
        "available_microusd": 5_000_000,
        "per_day_microusd": 0,
        "runs_out_at": None,
        "earliest": None,
        "latest": None,
        "basis_days": 0,
    }


def test_the_forecast_is_worked_out_from_the_ledger_and_the_credits(call: Call, org: Caller, noon: datetime) -> None:
    grant(org, 100_000)
    # Ten cents a day, of today half: calls cost a cent a minute.
    for age in range(4):
        use(org, UsageKind.CALL_SECONDS, 600 if age else 300, noon - age * DAY)
    grant(org, 450_000)

    found = call(handler, "GET", "/v1/reports/forecast", org).json

    # 35 cents were used. 10 paid for a part at once, the 45 paid what was owed.
    assert (found["available_microusd"], found["per_day_microusd"], found["basis_days"]) == (200_000, 100_000, 4)
    assert datetime.fromisoformat(found["runs_out_at"]) == noon + 2 * DAY


def test_credits_that_end_before_they_are_spent_are_part_of_the_forecast(
    call: Call, org: Caller, noon: datetime
) -> None:
    grant(org, 100_000)
    use(org, UsageKind.CALL_SECONDS, 300, noon)
    grant(org, 1_000_000, expires_at=noon + DAY)

    found = call(handler, "GET", "/v1/reports/forecast", org).json

    # At ten cents a day the 5 that never end go after those that do.
    assert found["available_microusd"] == 1_050_000
    assert datetime.fromisoformat(found["runs_out_at"]) > noon + DAY


def test_the_forecast_knows_late_and_aggregated_days(call: Call, org: Caller, noon: datetime) -> None:
    grant(org, 10_000_000)
    use(org, UsageKind.CALL_SECONDS, 600, noon - DAY)
    with db.tenant(org) as tx:
        days.aggregate(tx, org, (noon - DAY).date())
    use(org, UsageKind.CALL_SECONDS, 600, noon - DAY)
    # Yesterday's 20 cents weigh 27 and today's nothing 28 half days: 27 x 200,000 / 41.
    assert call(handler, "GET", "/v1/reports/forecast", org).json["per_day_microusd"] == 131_707


def test_where_nothing_is_to_be_saved_there_is_no_advice(call: Call, org: Caller, noon: datetime) -> None:
    found = call(handler, "GET", "/v1/reports/advice", org).json
    since = datetime.combine(noon.date() - 29 * DAY, time.min, noon.tzinfo)
    assert (found["object"], found["data"]) == ("advice_report", [])
    assert (datetime.fromisoformat(found["since"]), datetime.fromisoformat(found["until"])) == (since, noon)


def test_a_cheaper_model_and_caching_are_advised_from_the_tokens_of_thirty_days(
    call: Call, org: Caller, rival: Caller, noon: datetime
) -> None:
    use(org, UsageKind.TOKENS_INPUT, 600_000, noon, model="gpt-5")
    use(org, UsageKind.TOKENS_INPUT, 400_000, noon - 29 * DAY, model="gpt-5", operation="chat")
    use(org, UsageKind.TOKENS_OUTPUT, 100_000, noon, model="gpt-5")
    # What was used before, for something else or by somebody else, doesn't count.
    use(org, UsageKind.TOKENS_INPUT, 10**9, noon - 30 * DAY, model="gpt-5")
    use(org, UsageKind.CALL_SECONDS, 10**6, noon)
    use(rival, UsageKind.TOKENS_INPUT, 10**9, noon, model="gpt-5")

    found = call(handler, "GET", "/v1/reports/advice", org).json["data"]

    # $1.25 + $1 with gpt-5, $0.25 + $0.2 with gpt-5-mini; 500,000 x $1.125 / M cached.
    assert [(each["kind"], each["subject"], each["saves_microusd"]) for each in found] == [
        ("cheaper_model", "gpt-5", 1_800_000),
        ("prompt_caching", "gpt-5", 562_500),
    ]


def sandbox_of(caller: Caller, *, paid_s: int, commands: list[tuple[int, int | None]], started: datetime) -> UUID:
    """Return an ended sandbox with commands that ran from and to these seconds of it."""
    with db.tenant(caller) as tx:
        found = sandboxes.create(tx, caller, ttl_s=3_600, metadata={}).id
        tx.execute(
            """
            UPDATE sandboxes SET created_at = %(at)s, ready_at = %(at)s, expires_at = %(at)s + interval '1 hour',
                   stopped_at = %(at)s + make_interval(secs => %(paid)s), status = 'stopped', cost_microusd = 1000
             WHERE id = %(id)s
            """,
            {"id": found, "at": started, "paid": paid_s},
        )
        for begun, ended in commands:
            command = sandbox_store.insert_command(
                tx, command_id=ids.new(), sandbox_id=found, source_id=str(ids.new()), command={"shell": "x"}
            )
            assert command is not None
            tx.execute(
                """
                UPDATE sandbox_commands SET created_at = %(at)s + make_interval(secs => %(begun)s), status = 'exited',
                       ended_at = %(at)s + make_interval(secs => %(ended)s) WHERE id = %(id)s
                """,
                {"id": command.id, "at": started, "begun": begun, "ended": ended},
            )
    return found


@pytest.mark.parametrize(
    ("commands", "busy_s"),
    [
        ([], 0),
        ([(0, 10)], 10),
        ([(0, 10), (5, 20)], 20),
        ([(0, 10), (20, 30)], 20),
        ([(0, 10), (0, 10), (2, 3)], 10),
        ([(90, 200)], 10),
        ([(-20, 10)], 10),
        ([(200, 300)], 0),
        ([(5, None)], 0),
        ([(5, 5)], 0),
    ],
    ids=["none", "one", "two at once", "two in turn", "within", "too long", "too early", "after", "running", "instant"],
)
def test_a_sandbox_is_busy_while_at_least_one_command_runs(
    org: Caller, noon: datetime, commands: list[tuple[int, int | None]], busy_s: int
) -> None:
    grant(org, 1_000_000)
    sandbox_of(org, paid_s=100, commands=commands, started=noon)
    with db.tenant(org) as tx:
        assert sandboxes.time_used(tx, noon) == billing.SandboxTime(1, 100, busy_s, 1_000)


def test_idle_sandboxes_are_told_and_only_ended_ones_of_the_tenant_s_own_thirty_days(
    call: Call, org: Caller, rival: Caller, noon: datetime
) -> None:
    for tenant in (org, rival):
        grant(tenant, 1_000_000)
        sandbox_of(tenant, paid_s=100, commands=[(0, 25)], started=noon - DAY)
        sandbox_of(tenant, paid_s=300, commands=[], started=noon - 31 * DAY)
    with db.tenant(org) as tx:
        sandboxes.create(tx, org, ttl_s=3_600, metadata={})

    (found,) = call(handler, "GET", "/v1/reports/advice", org).json["data"]

    assert (found["kind"], found["subject"], found["saves_microusd"]) == ("idle_sandboxes", "sandboxes", 750)
    assert found["basis"].startswith("Sandboxes of 30 days that have ended (1) were paid for 100 s")
