"""A platform without its home: real PostgreSQL and Redis, and a tenant with some data."""

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from bench.statements import RecordingCursor
from shared.agents import service as agents
from shared.agents.model import AgentConfig
from shared.billing import service as billing
from shared.identity import service as identity
from shared.identity.model import OPERATOR_ORG_ID
from shared.identity.policy import KEY_SCOPES, OPERATOR_SCOPES
from shared.kernel import db, ids, settings
from shared.kernel.caller import Caller
from shared.orgs import service as orgs
from shared.quotas import service as quotas
from shared.runs import service as runs
from tests.services import running

_SERVICE = "bench"
_VARIABLES = {
    "RUNYARD_PUBLIC_URL": "http://127.0.0.1",
    "RUNYARD_MODEL": "runyard-offline",
    "RUNYARD_EMBEDDING_MODEL": "runyard-offline-embed",
    "POWERTOOLS_SERVICE_NAME": _SERVICE,
    "POWERTOOLS_METRICS_NAMESPACE": "Runyard",
    "POWERTOOLS_TRACE_DISABLED": "1",
}
_AGENTS = 300
_RUNS = 300


@dataclass(frozen=True, slots=True)
class Platform:
    """A tenant with agents and runs, the operator, and how to reach the same database without the platform."""

    tenant: Caller
    operator: Caller
    agent_id: str
    run_id: str
    database_url: str


@contextmanager
def platform(*, durable: bool = False) -> Iterator[Platform]:
    """Bring up servers and data for the block. The functions' log lines are written, to nowhere.

    `durable`: Postgres waits for the disk at each commit, as it does at home.
    """
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="runyard-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own where root started it
        services = cleanup.enter_context(running(folder / "services", durable=durable))
        environment = services.environment("runyard") | _VARIABLES
        cleanup.enter_context(variables(environment))
        cleanup.callback(db.close)
        nowhere = cleanup.enter_context(Path(os.devnull).open("w"))
        _write_logs_to(nowhere)
        cleanup.enter_context(_recording_cursors())
        furnished = _furnish(environment["RUNYARD_DATABASE_URL"])
        _analyze(environment["RUNYARD_MIGRATION_DATABASE_URL"])
        yield furnished


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set these environment variables for the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    settings.forget()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        settings.forget()


@contextmanager
def _recording_cursors() -> Iterator[None]:
    plain = db._connection_parameters

    def parameters(database: settings.DatabaseSettings) -> dict[str, Any]:
        return plain(database) | {"cursor_factory": RecordingCursor}

    db._connection_parameters = parameters
    try:
        yield
    finally:
        db._connection_parameters = plain


def _write_logs_to(stream: Any) -> None:
    # Powertools' logger is named for the service, which another import may have fixed before us.
    for name in (_SERVICE, "service_undefined", "test"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(stream)


def _analyze(owner_url: str) -> None:
    """Collect the statistics that autovacuum would have collected a minute from now."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("ANALYZE")


def _furnish(database_url: str) -> Platform:
    identity.register_operator(identity.operator_key(""))
    tenant = _tenant()
    config = AgentConfig(
        instructions="Be brief.",
        model=None,
        tools=("memory.save", "memory.search"),
        max_steps=10,
        timeout_s=60,
        budget_microusd=1000,
    )
    with db.tenant(tenant) as tx:
        billing.grant(tx, tenant, amount_microusd=10**9, source_id="bench", reason="to measure with")
        made = [agents.create_agent(tx, tenant, name=f"Agent {n}", config=config, metadata={}) for n in range(_AGENTS)]
        queued = [_run(tx, tenant, made[0].id) for _ in range(_RUNS)]
    operator = Caller(
        org_id=OPERATOR_ORG_ID,
        actor_id=ids.show("key", ids.new()),
        role="operator",
        scopes=OPERATOR_SCOPES,
        plan="operator",
        request_id="bench",
    )
    return Platform(
        tenant=tenant,
        operator=operator,
        agent_id=ids.show("agent", made[0].id),
        run_id=ids.show("run", queued[0]),
        database_url=database_url,
    )


def _run(tx: db.Tx, tenant: Caller, agent_id: UUID) -> UUID:
    run = runs.create_run(
        tx, tenant, agent_id=agent_id, text="Say hello.", budget_microusd=None, timeout_s=None, metadata={}
    )
    return run.id


def _tenant() -> Caller:
    org_id = ids.new()
    system = Caller.system(org_id, request_id="bench")
    with db.tenant(system) as tx:
        orgs.create_org(tx, system, org_id=org_id, name="Bench")
        quotas.set_plan(tx, system, org_id, "enterprise")
        key, _ = identity.create_first_key(tx, system, org_id=org_id)
    return Caller(
        org_id=org_id,
        actor_id=ids.show("key", key.id),
        role="api",
        scopes=KEY_SCOPES,
        plan="enterprise",
        request_id="bench",
    )
