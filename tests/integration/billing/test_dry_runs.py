"""Dry runs over HTTP: they tell what the real request would, and change nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from functions.api import inference, memory, runs, sandboxes
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.telemetry import Handler
from shared.memory import service as memory_service
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.runs import service as runs_service
from shared.sandboxes import service as sandboxes_service
from tests.api_gateway import Answer
from tests.integration.billing.estimated import (
    Call,
    agent_of,
    enrich,
    start_run,
)
from tests.model_provider import Provider
from tests.services import Services


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
