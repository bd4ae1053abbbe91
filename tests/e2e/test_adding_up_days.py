"""Days of usage, added up by the deployed state machine: for every tenant, whatever becomes of one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

import psycopg

from local.parts.postgres import superuser_url
from shared.kernel import ids
from tests.e2e.deployed import Deployed
from tests.e2e.tenant import Tenant


@contextmanager
def broken(home: Deployed, org_id: UUID) -> Iterator[None]:
    """Let the database refuse this tenant's days within the block."""
    with psycopg.connect(superuser_url(home.home), autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION refuse_days() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'these days are broken'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refuse_days BEFORE INSERT ON usage_daily FOR EACH ROW "
            f"WHEN (NEW.org_id = '{org_id}') EXECUTE FUNCTION refuse_days()".encode()
        )
        try:
            yield
        finally:
            connection.execute("DROP FUNCTION refuse_days CASCADE")


def spoken(home: Deployed, org_id: UUID, table: str) -> int:
    """Return how many tokens the tenant's runs wrote, as this table has it."""
    [row] = home.rows(
        f"SELECT coalesce(sum(quantity), 0)::bigint AS quantity FROM {table} "
        "WHERE org_id = %s AND kind = 'tokens_output'",
        org_id,
    )
    return int(row["quantity"])


def test_one_tenant_that_cannot_be_added_up_stops_no_other_and_is_taken_up_again(
    home: Deployed, tenant: Tenant
) -> None:
    other = home.tenant()
    orgs = {name: ids.read("org", each.org_id) for name, each in (("broken", tenant), ("other", other))}
    for each in (tenant, other):
        each.ended_run(each.start_run("say hello", agent=each.agent("memory.search")))
    with broken(home, orgs["broken"]):
        failed = home.command("aggregate")
    assert failed.returncode == 1
    assert tenant.org_id in failed.stdout
    assert other.org_id not in failed.stdout
    assert spoken(home, orgs["broken"], "usage_daily") == 0
    assert spoken(home, orgs["other"], "usage_daily") == spoken(home, orgs["other"], "usage_events") > 0
    today = datetime.now(UTC).date().isoformat()
    repaired = home.command("aggregate", "--since", "2026-01-01", "--until", today, "--org", tenant.org_id)
    assert (repaired.returncode, repaired.stdout.strip().splitlines()[-1]) == (0, "aggregate: orgs=1 ok")
    written = spoken(home, orgs["broken"], "usage_events")
    assert spoken(home, orgs["broken"], "usage_daily") == written > 0
    days = tenant.get("/v1/usage/daily", kind="tokens_output", time_zone="Pacific/Auckland", group_by="agent")["data"]
    assert sum(day["quantity"] for day in days) == written
    assert all(day["agent_id"] for day in days)
