"""Estimates and dry runs over HTTP: from what the same thing cost before, within what is held, changing nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from functions.api import estimates, inference, memory, runs, sandboxes
from shared.agents import service as agents
from shared.agents.model import AgentConfig
from shared.billing import estimates_store
from shared.billing import service as billing
from shared.identity.policy import Role
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.telemetry import Handler
from shared.memory import service as memory_service
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.runs import ending
from shared.runs import estimating_store as runs_history
from shared.runs import service as runs_service
from shared.sandboxes import estimating_store as sandboxes_history
from shared.sandboxes import service as sandboxes_service
from shared.sandboxes import store as sandbox_store
from shared.sandboxes.model import SandboxStatus, StopReason
from tests.api_gateway import Answer
from tests.model_provider import Provider
from tests.people import joined
from tests.services import Services

type Call = Callable[..., Answer]
BUDGET = 100_000
CONFIG = AgentConfig(instructions="Be brief.", model=None, tools=(), max_steps=10, timeout_s=60, budget_microusd=BUDGET)


def enrich(caller: Caller, *, amount_microusd: int = 10_000_000) -> None:
    with db.tenant(caller) as tx:
        billing.grant(tx, caller, amount_microusd=amount_microusd, source_id=f"t:{ids.new()}", reason="to test with")


def agent_of(caller: Caller, config: AgentConfig = CONFIG) -> UUID:
    with db.tenant(caller) as tx:
        return agents.create_agent(tx, caller, name="A", config=config, metadata={}).id


def start_run(caller: Caller, agent_id: UUID) -> UUID:
    with db.tenant(caller) as tx:
        return runs_service.create_run(
            tx, caller, agent_id=agent_id, text="t", budget_microusd=None, timeout_s=None, metadata={}
        ).id


def run_costing(caller: Caller, agent_id: UUID, cost: int) -> UUID:
    run_id = start_run(caller, agent_id)
    ending.end(caller, run_id, lambda _, run, __: run.succeed(clock.now(), output="o", cost_microusd=cost))
    return run_id


def cancelled_run(caller: Caller, agent_id: UUID) -> UUID:
    run_id = start_run(caller, agent_id)
    ending.end(caller, run_id, lambda _, run, __: run.cancel(clock.now(), cost_microusd=0))
    return run_id


def old_runs(caller: Caller, agent_id: UUID, *, status: str, costs: LiteralString, first: int, last: int) -> None:
    """Ended runs of these numbers; `costs` is SQL of the number n."""
    with db.tenant(caller) as tx:
        tx.execute(
            "INSERT INTO runs (id, org_id, agent_id, agent_version, status, end_reason, input, budget_microusd,"
            " cost_microusd, timeout_s, metadata, ended_at)"
            " SELECT ('01890000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, %s, %s, 1, %s, 'completed',"
            " 't', 1000, " + costs + ", 60, '{}', now() FROM generate_series(%s::int, %s::int) n",
            (caller.org_id, agent_id, status, first, last),
        )


def sandbox_used_for(caller: Caller, used_s: int | None, *, ttl_s: int = 600) -> None:
    """An ended sandbox that was ready for so many seconds; None: it never was."""
    with db.tenant(caller) as tx:
        started = sandboxes_service.create(tx, caller, ttl_s=ttl_s, metadata={})
        stopped_at = started.created_at + timedelta(seconds=used_s or 0)
        ready_at = None if used_s is None else started.created_at
        sandbox_store.save(tx, replace(started, status=SandboxStatus.STOPPED, ready_at=ready_at, stopped_at=stopped_at))
        quotas.release(tx, caller.org_id, Resource.SANDBOXES, holder=ids.show("sbx", started.id))


@pytest.fixture
def estimate(call: Call, org: Caller, provider: Provider) -> Callable[..., Answer]:
    """`estimate("run", agent_id=…)`: the answer of POST /v1/estimates."""

    def ask(kind: str, *, caller: Caller = org, **fields: Any) -> Answer:
        return call(estimates.handler, "POST", "/v1/estimates", caller, json={"kind": kind, **fields})

    return ask


def test_a_run_of_a_new_agent_is_estimated_from_its_config(org: Caller, estimate: Callable[..., Answer]) -> None:
    answer = estimate("run", agent_id=ids.show("agent", agent_of(org)))
    assert answer.status == 200
    # Four steps of runyard-offline, $0.10 and $0.40 for a million: 4 x (3 + 250) + 750 x 6 tokens in, 4 x 250 out.
    assert answer.json["expected_microusd"] == 551 + 400
    assert answer.json | {"price_book": "", "expected_microusd": 0} == {
        "object": "estimate",
        "kind": "run",
        "expected_microusd": 0,
        "p90_microusd": BUDGET,
        "worst_microusd": BUDGET,
        "basis": "price_book",
        "samples": 0,
        "price_book": "",
    }


def test_the_worst_case_of_a_run_is_the_budget_that_is_given(org: Caller, estimate: Callable[..., Answer]) -> None:
    answer = estimate("run", agent_id=ids.show("agent", agent_of(org)), budget_microusd=700)
    assert [answer.json[name] for name in ("expected_microusd", "p90_microusd", "worst_microusd")] == [700, 700, 700]


def test_an_agent_s_sandbox_is_expected_for_two_minutes(org: Caller, estimate: Callable[..., Answer]) -> None:
    config = replace(CONFIG, tools=("sandbox.exec",), timeout_s=600)
    with_sandbox = estimate("run", agent_id=ids.show("agent", agent_of(org, config))).json["expected_microusd"]
    with_tool = replace(CONFIG, tools=("memory.save",), timeout_s=600)
    without = estimate("run", agent_id=ids.show("agent", agent_of(org, with_tool))).json["expected_microusd"]
    assert with_sandbox - without == sandboxes_service.worst_case_cost(120)


def test_a_model_without_a_price_may_cost_the_whole_budget(org: Caller, estimate: Callable[..., Answer]) -> None:
    config = replace(CONFIG, model="no-such-model")
    assert estimate("run", agent_id=ids.show("agent", agent_of(org, config))).json["expected_microusd"] == BUDGET


def test_five_runs_make_a_history_and_the_cancelled_are_no_part_of_it(
    org: Caller, estimate: Callable[..., Answer]
) -> None:
    enrich(org)
    agent_id = agent_of(org)
    for cost in (10, 20, 30, 40):
        run_costing(org, agent_id, cost)
    cancelled_run(org, agent_id)
    start_run(org, agent_id)
    assert estimate("run", agent_id=ids.show("agent", agent_id)).json["basis"] == "price_book"
    with db.tenant(org) as tx:
        agents.update_agent(
            tx, org, agent_id=agent_id, name=None, config=replace(CONFIG, instructions="Now!"), metadata=None
        )
    run_costing(org, agent_id, 50)
    run_costing(org, agent_of(org), 9_999)
    found = estimate("run", agent_id=ids.show("agent", agent_id)).json
    assert (found["basis"], found["samples"]) == ("history", 5)
    assert (found["expected_microusd"], found["p90_microusd"], found["worst_microusd"]) == (30, 50, BUDGET)


def test_the_newest_two_hundred_runs_count(org: Caller, estimate: Callable[..., Answer]) -> None:
    agent_id = agent_of(org)
    old_runs(org, agent_id, status="succeeded", costs="CASE WHEN n <= 50 THEN 900 ELSE 100 END", first=1, last=250)
    found = estimate("run", agent_id=ids.show("agent", agent_id)).json
    assert (found["samples"], found["expected_microusd"], found["p90_microusd"]) == (200, 100, 100)


def test_a_thousand_cancelled_runs_aren_t_looked_past(org: Caller, estimate: Callable[..., Answer]) -> None:
    agent_id = agent_of(org)
    old_runs(org, agent_id, status="failed", costs="100", first=1, last=6)
    old_runs(org, agent_id, status="cancelled", costs="0", first=7, last=1_001)
    assert estimate("run", agent_id=ids.show("agent", agent_id)).json["samples"] == 5


def test_a_sandbox_is_estimated_by_how_much_of_their_time_others_were_used(
    org: Caller, estimate: Callable[..., Answer]
) -> None:
    enrich(org)
    price = sandboxes_service.worst_case_cost
    first = estimate("sandbox", ttl_s=1_000).json
    assert (first["basis"], first["expected_microusd"]) == ("price_book", price(1_000))
    # Of ten minutes each: six were used for one of them, one to its end; one never was ready.
    for used_s in (60, 60, 60, 60, 60, 60, 600, None):
        sandbox_used_for(org, used_s)
    found = estimate("sandbox", ttl_s=1_000).json
    assert (found["basis"], found["samples"]) == ("history", 7)
    assert found["p90_microusd"] == found["worst_microusd"] == price(1_000)
    assert found["expected_microusd"] == round((6 * price(100) + price(1_000)) / 7)


def test_a_member_s_sandboxes_are_estimated_by_their_own(org: Caller, estimate: Callable[..., Answer]) -> None:
    enrich(org)
    ada, bob = joined(org, Role.MEMBER, name="Ada"), joined(org, Role.MEMBER, name="Bob")
    for _ in range(5):
        sandbox_used_for(ada, 60)
    samples = {
        name: estimate("sandbox", caller=caller).json["samples"] for name, caller in (("ada", ada), ("bob", bob))
    }
    assert samples == {"ada": 5, "bob": 0}
    assert estimate("sandbox").json["samples"] == 5


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("chat", {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 100}),
        ("embeddings", {"input": "blue"}),
        ("embeddings", {"input": ["blue", "green"]}),
        ("memory", {"content": "Ada prefers metric units."}),
    ],
    ids=str,
)
def test_a_call_is_estimated_from_the_price_book(
    estimate: Callable[..., Answer], kind: str, fields: dict[str, Any]
) -> None:
    answer = estimate(kind, **fields)
    assert answer.status == 200, answer.text
    found = answer.json
    assert (found["kind"], found["basis"], found["samples"]) == (kind, "price_book", 0)
    assert 0 <= found["expected_microusd"] <= found["p90_microusd"] == found["worst_microusd"] > 0
    assert found["price_book"].startswith("20")


@pytest.mark.parametrize(
    ("status", "code", "fields"),
    [
        pytest.param(400, "invalid_request", {"kind": "holiday"}, id="unknown kind"),
        pytest.param(400, "invalid_request", {}, id="no kind"),
        pytest.param(400, "invalid_request", {"kind": "sandbox", "ttl_s": 3_601}, id="too long"),
        pytest.param(400, "invalid_request", {"kind": "sandbox", "budget_microusd": 1}, id="another kind's field"),
        pytest.param(400, "invalid_request", {"kind": "memory", "content": "\u0000"}, id="NUL"),
        pytest.param(400, "invalid_request", {"kind": "memory", "content": " "}, id="empty"),
        pytest.param(413, "memory_too_large", {"kind": "memory", "content": "x" * 100_001}, id="too large"),
        pytest.param(404, "model_not_found", {"kind": "embeddings", "input": "a", "model": "none"}, id="no such model"),
        pytest.param(404, "not_found", {"kind": "run", "agent_id": ids.show("agent", UUID(int=7))}, id="no such agent"),
        pytest.param(
            400,
            "streaming_not_available",
            {"kind": "chat", "messages": [{"role": "user", "content": "a"}], "stream": True},
            id="a stream",
        ),
    ],
)
def test_what_can_t_be_started_has_no_estimate(
    call: Call, org: Caller, status: int, code: str, fields: dict[str, Any]
) -> None:
    answer = call(estimates.handler, "POST", "/v1/estimates", org, json=fields)
    assert (answer.status, answer.error) == (status, code)


def test_a_budget_that_the_sandbox_alone_could_use_up_has_no_estimate(
    org: Caller, estimate: Callable[..., Answer]
) -> None:
    agent_id = agent_of(org, replace(CONFIG, tools=("sandbox.exec",), timeout_s=3_000))
    assert estimate("run", agent_id=ids.show("agent", agent_id), budget_microusd=5).error == "budget_too_small"


def test_what_others_may_not_see_they_can_t_estimate(
    org: Caller, rival: Caller, estimate: Callable[..., Answer]
) -> None:
    agent_id = agent_of(joined(org, Role.MEMBER, name="Ada"))
    shown = ids.show("agent", agent_id)
    for stranger in (rival, joined(org, Role.MEMBER, name="Bob")):
        answer = estimate("run", caller=stranger, agent_id=shown)
        assert (answer.status, answer.error) == (404, "not_found")
    assert estimate("run", caller=joined(org, Role.VIEWER), agent_id=shown).status == 200


@pytest.mark.parametrize("kind", estimates.SCOPES)
def test_a_kind_needs_the_scope_to_read_such_things(org: Caller, estimate: Callable[..., Answer], kind: str) -> None:
    fields = {"run": {"agent_id": ids.show("agent", agent_of(org))}, "memory": {"content": "a"}}.get(kind, {})
    lacking = replace(org, scopes=org.scopes - {estimates.SCOPES[kind]})
    assert estimate(kind, **fields).status == 200
    assert estimate(kind, caller=lacking, **fields).error == "insufficient_scope"


# Dry runs


@dataclass(frozen=True, slots=True)
class Post:
    """A billable POST."""

    handler: Handler
    path: str
    body: dict[str, Any]
    # What counts it, where something does.
    resource: Resource | None = None


POSTS = {
    "run": Post(runs.handler, "/v1/agents/{agent}/runs", {"input": "t"}, Resource.CONCURRENT_RUNS),
    "sandbox": Post(sandboxes.handler, "/v1/sandboxes", {"ttl_s": 300}, Resource.SANDBOXES),
    "chat": Post(
        inference.handler, "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9}
    ),
    "embeddings": Post(inference.handler, "/v1/embeddings", {"input": ["blue", "green"]}),
    "memory": Post(memory.handler, "/v1/memories", {"content": "c" * 900, "subject": "s"}, Resource.MEMORIES),
    "memory_search": Post(memory.handler, "/v1/memories/search", {"query": "which?"}),
}
KINDS = pytest.mark.parametrize("kind", POSTS)


@pytest.fixture
def post(call: Call, org: Caller, provider: Provider) -> Callable[..., Answer]:
    """`post("run", dry=True)`: the answer to that POST."""
    agent_id = ids.show("agent", agent_of(org))

    def ask(kind: str, *, dry: bool = False, caller: Caller = org, **options: Any) -> Answer:
        found = POSTS[kind]
        path = found.path.format(agent=agent_id) + ("?dry_run=true" if dry else "")
        return call(found.handler, "POST", path, caller, json=found.body, **options)

    return ask


def rows(services: Services, database: str) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with psycopg.connect(services.superuser_url(database)) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        return {
            name: sorted(
                row[0] for row in connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name)))
            )
            # Requests are counted, dry or not.
            for (name,) in tables
            if name != "api_calls"
        }


@KINDS
def test_a_dry_run_tells_what_is_held_and_changes_nothing(
    post: Callable[..., Answer], org: Caller, services: Services, database: str, provider: Provider, kind: str
) -> None:
    enrich(org)
    before = rows(services, database)
    asked = len(provider.asked)
    answer = post(kind, dry=True, headers={"Idempotency-Key": "k"})
    assert answer.status == 200, answer.text
    assert (answer.json["kind"], answer.json["would_start"], answer.json["refusal"]) == (kind, True, None)
    assert rows(services, database) == before
    assert len(provider.asked) == asked
    # The same key was not used up.
    real = post(kind, headers={"Idempotency-Key": "k"})
    assert real.status in (200, 201, 202, 503), real.text
    with db.tenant(org) as tx:
        held = tx.execute("SELECT amount_microusd FROM credit_entries WHERE kind = 'hold'").fetchall()
    assert [row["amount_microusd"] for row in held] == [answer.json["worst_microusd"]]


@KINDS
def test_without_credits_a_dry_run_tells_the_refusal_that_the_real_one_meets(
    post: Callable[..., Answer], kind: str
) -> None:
    dry, real = post(kind, dry=True), post(kind)
    assert (real.status, real.error) == (402, "insufficient_credits")
    assert (dry.status, dry.json["would_start"]) == (200, False)
    assert dry.json["refusal"]["code"] == "insufficient_credits"
    assert dry.json["refusal"]["message"] == real.json["error"]["message"]


@KINDS
def test_credits_of_a_lot_that_is_over_pay_for_nothing(
    post: Callable[..., Answer], org: Caller, services: Services, database: str, kind: str
) -> None:
    enrich(org)
    with psycopg.connect(services.superuser_url(database), autocommit=True) as connection:
        connection.execute("UPDATE credit_lots SET expires_at = now()")
    dry, real = post(kind, dry=True), post(kind)
    assert dry.json["refusal"]["code"] == real.error == "insufficient_credits"


@pytest.mark.parametrize("kind", [kind for kind, found in POSTS.items() if found.resource])
def test_without_room_a_dry_run_tells_which_quota_it_is(
    post: Callable[..., Answer], org: Caller, operator: Caller, kind: str
) -> None:
    resource = POSTS[kind].resource
    assert resource is not None
    with db.tenant(org) as tx:
        quotas.set_limits(tx, operator, org.org_id, quotas={resource: 0})
    dry, real = post(kind, dry=True), post(kind)
    assert (real.status, real.error) == (403, "quota_exceeded")
    assert dry.json["refusal"]["code"] == "quota_exceeded"
    assert resource in dry.json["refusal"]["message"]


def test_the_month_s_allowance_of_memories_is_looked_at(
    post: Callable[..., Answer], org: Caller, services: Services, database: str
) -> None:
    enrich(org)
    with db.tenant(org) as tx:
        tx.execute(
            "INSERT INTO monthly_usage (org_id, month, allowance, used) VALUES (%s, %s, 'memories', 1000)",
            (org.org_id, clock.now().date().replace(day=1)),
        )
    dry, real = post("memory", dry=True), post("memory")
    assert dry.json["refusal"]["code"] == real.error == "plan_limit_reached"


def test_a_dry_run_needs_the_scope_of_the_real_one(post: Callable[..., Answer], org: Caller) -> None:
    lacking = replace(org, scopes=frozenset())
    assert {post(kind, dry=True, caller=lacking).error for kind in POSTS} == {"insufficient_scope"}


def test_a_dry_run_of_another_tenant_s_agent_is_refused_as_the_real_one(
    post: Callable[..., Answer], rival: Caller
) -> None:
    assert post("run", dry=True, caller=rival).status == post("run", caller=rival).status == 404


def test_a_dry_run_is_in_nobody_s_way(org: Caller, provider: Provider, services: Services, database: str) -> None:
    enrich(org)
    agent_id = agent_of(org)
    # Another's run has made the org's rows of quotas.
    start_run(org, agent_id)
    with db.tenant(org) as tx:
        runs_service.dry_run(tx, org, agent_id=agent_id, budget_microusd=None, timeout_s=None)
        sandboxes_service.dry_run(tx, org, ttl_s=60)
        memory_service.dry_run_save(tx, org, content="c", subject="s")
        with psycopg.connect(services.superuser_url(database)) as other:
            for table in ("orgs", "agents", "credit_accounts", "credit_lots", "quota_usage"):
                locked = other.execute(sql.SQL("SELECT 1 FROM {} FOR UPDATE NOWAIT").format(sql.Identifier(table)))
                assert locked.fetchall(), table


def test_a_dry_run_finds_the_faults_that_the_real_one_finds(call: Call, org: Caller) -> None:
    path = f"/v1/agents/{ids.show('agent', agent_of(org))}/runs?dry_run=true"
    assert call(runs.handler, "POST", path, org, json={"input": ""}).error == "invalid_request"
    assert call(runs.handler, "POST", path.replace("true", "maybe"), org, json={"input": "t"}).status == 400
    big = {"content": "x" * 100_001, "subject": "s"}
    assert call(memory.handler, "POST", "/v1/memories?dry_run=true", org, json=big).error == "memory_too_large"
    query = {"query": " "}
    assert call(memory.handler, "POST", "/v1/memories/search?dry_run=true", org, json=query).status == 400


# What came of them


@pytest.fixture
def report(call: Call, org: Caller) -> Callable[..., list[dict[str, Any]]]:
    """`report(since, until)`: the weeks of the report."""

    def ask(query: str = "", *, caller: Caller = org) -> list[dict[str, Any]]:
        answer = call(estimates.handler, "GET", f"/v1/reports/estimates{query}", caller)
        assert answer.status == 200, answer.text
        data: list[dict[str, Any]] = answer.json["data"]
        return data

    return ask


def test_a_run_s_estimate_is_noted_as_it_starts_and_closed_as_it_ends(
    org: Caller, rival: Caller, report: Callable[..., list[dict[str, Any]]]
) -> None:
    enrich(org)
    agent_id = agent_of(org)
    start_run(org, agent_id)
    assert report() == []
    for cost in (100, 0, BUDGET):
        run_costing(org, agent_id, cost)
    cancelled_run(org, agent_id)
    [week] = report()
    expected = week["expected_microusd"] // 3
    year, number, _ = clock.now().isocalendar()
    assert week == {
        "week": f"{year}-W{number:02d}",
        "week_begins": (clock.now().date() - timedelta(days=clock.now().weekday())).isoformat(),
        "kind": "run",
        "basis": "price_book",
        "count": 3,
        "free": 1,
        "error_percent": round(100 * ((expected - 100) / 100 + (BUDGET - expected) / BUDGET) / 2, 2),
        "within_p90": 1.0,
        "beyond_worst": 0.0,
        "expected_microusd": 3 * expected,
        "actual_microusd": 100 + BUDGET,
    }
    assert report(caller=rival) == []


def test_history_and_price_book_are_told_apart(org: Caller, report: Callable[..., list[dict[str, Any]]]) -> None:
    enrich(org)
    agent_id = agent_of(org)
    for cost in (10, 20, 30, 40, 50, 60, 20):
        run_costing(org, agent_id, cost)
    by_basis = {week["basis"]: week for week in report()}
    assert (by_basis["price_book"]["count"], by_basis["history"]["count"]) == (5, 2)
    # Of 10 to 50 the mean is 30 and p90 is 50, and 60 was beyond; of 10 to 60 it is 35, and 20 was within 60.
    assert by_basis["history"] | {"week": "", "week_begins": ""} == {
        "week": "",
        "week_begins": "",
        "kind": "run",
        "basis": "history",
        "count": 2,
        "free": 0,
        "error_percent": round(100 * (30 / 60 + 15 / 20) / 2, 2),
        "within_p90": 0.5,
        "beyond_worst": 0.0,
        "expected_microusd": 65,
        "actual_microusd": 80,
    }


def test_a_sandbox_s_estimate_is_closed_by_its_end_unless_it_never_was_ready(
    org: Caller, report: Callable[..., list[dict[str, Any]]]
) -> None:
    enrich(org)
    for ready in (True, False):
        with db.tenant(org) as tx:
            started = sandboxes_service.create(tx, org, ttl_s=600, metadata={})
            if ready:
                sandbox_store.save(tx, started.ready(started.created_at))
            sandboxes_service.end_in(tx, org, started.id, reason=StopReason.REQUESTED)
    [week] = report()
    assert (week["kind"], week["count"], week["expected_microusd"]) == (
        "sandbox",
        1,
        sandboxes_service.worst_case_cost(600),
    )
    assert 0 < week["actual_microusd"] <= week["expected_microusd"]


def test_weeks_begin_on_monday_in_utc_whatever_zone_is_asked_in(
    org: Caller, report: Callable[..., list[dict[str, Any]]]
) -> None:
    with db.tenant(org) as tx:
        for n, closed_at in enumerate(
            # The last second of ISO year 2026, which has 53 weeks, and the first of the next.
            ("2027-01-03T23:59:59Z", "2027-01-04T00:00:00Z", "2027-01-04T00:00:01Z")
        ):
            tx.execute(
                "INSERT INTO estimates (org_id, subject, kind, basis, samples, expected_microusd, p90_microusd,"
                " worst_microusd, actual_microusd, closed_at) VALUES (%s, %s, 'run', 'history', 9, 4, 5, 6, 5, %s)",
                (org.org_id, f"run_{n}", closed_at),
            )
    query = "?since=2027-01-01T00:00:00%2B02:00&until=2027-02-01T00:00:00Z"
    assert [(week["week"], week["week_begins"], week["count"]) for week in report(query)] == [
        ("2027-W01", "2027-01-04", 2),
        ("2026-W53", "2026-12-28", 1),
    ]
    assert [week["count"] for week in report("?since=2027-01-04T00:00:01Z&until=2027-01-04T00:00:02Z")] == [1]
    assert report("?since=2027-01-05T00:00:00Z&until=2027-01-04T00:00:00Z") == []
    with db.tenant(org) as tx:
        tx.execute("SET LOCAL TIME ZONE 'Pacific/Apia'")
        weeks = billing.accuracy(tx, datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC))
    assert [(week.week.isoformat(), week.count) for week in weeks] == [("2027-01-04", 2), ("2026-12-28", 1)]


def test_a_naive_moment_is_refused(call: Call, org: Caller) -> None:
    answer = call(estimates.handler, "GET", "/v1/reports/estimates?since=2027-01-01T00:00:00", org)
    assert (answer.status, answer.error) == (400, "invalid_request")


def test_an_estimate_is_noted_once_and_closed_once(org: Caller, report: Callable[..., list[dict[str, Any]]]) -> None:
    with db.tenant(org) as tx:
        for expected in (10, 20):
            billing.note_estimate(
                tx, org, subject="run_x", kind="run", estimate=billing.by_price_book(expected, worst_microusd=100)
            )
        for actual in (30, 40):
            billing.close_estimate(tx, subject="run_x", actual_microusd=actual)
        billing.close_estimate(tx, subject="run_from_before_there_were_estimates", actual_microusd=1)
    [week] = report()
    assert (week["count"], week["expected_microusd"], week["actual_microusd"]) == (1, 10, 30)


@pytest.mark.parametrize(
    ("table", "query", "index"),
    [
        ("runs", runs_history.COSTS, "runs_of_agent"),
        ("sandboxes", sandboxes_history.LIFETIMES, "sandboxes_of_template"),
        ("estimates", estimates_store.WEEKS, "estimates_closed"),
        ("estimates", estimates_store.CLOSE, "estimates_pkey"),
    ],
    ids=lambda value: value if " " not in value else "",
)
def test_an_index_answers(org: Caller, table: str, query: LiteralString, index: str) -> None:
    values = {
        "agent_id": ids.new(),
        "template": "python",
        "limit": 200,
        "looked_through": 1_000,
        "only_own": None,
        "since": clock.now(),
        "until": clock.now(),
        "now": clock.now(),
        "subject": "run_x",
        "actual_microusd": 1,
    }
    with db.tenant(org) as tx:
        tx.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(str(row) for row in tx.execute("EXPLAIN " + query, values))
    assert index in plan, plan
    assert "Seq Scan" not in plan
