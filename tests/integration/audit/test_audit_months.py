"""The audit trail's months: made ahead, nothing lost without one, and the rows of before moved in and chained."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from functions.schedules import partition
from shared.audit import service as audit
from shared.kernel import db, ids, migrating, settings
from shared.kernel.caller import Caller
from shared.kernel.settings import SchemaOwnerSettings
from tests.api_gateway import Context
from tests.http_server import listening
from tests.model_provider import forgotten, secrets_manager
from tests.services import Services

_MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"
_MONTHS = (
    "SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
    " WHERE inhparent = 'audit_events'::regclass ORDER BY 1"
)


def months(services: Services, database: str) -> list[str]:
    with psycopg.connect(services.superuser_url(database)) as connection:
        return [name.removeprefix("audit_events_") for (name,) in connection.execute(_MONTHS)]


def ahead(count: int) -> list[str]:
    now = datetime.now(UTC)
    numbers = [now.year * 12 + now.month - 1 + each for each in range(count)]
    return [f"{number // 12}_{number % 12 + 1:02}" for number in numbers]


def place_in_default(services: Services, database: str, org: Caller, *moments: str) -> list[UUID]:
    """Write events at moments that have no month, as happens when nobody made months for long."""
    made = [ids.new() for _ in moments]
    with psycopg.connect(services.superuser_url(database)) as connection:
        for event_id, moment in zip(made, moments, strict=True):
            connection.execute(
                "INSERT INTO audit_events (id, org_id, actor, action, resource_type, resource_id, request_id,"
                " created_at) VALUES (%s, %s, 'key_1', 'thing.do', 'thing', 'x', '', %s)",
                (event_id, org.org_id, moment),
            )
    return made


def test_this_month_and_the_next_three_are_there_from_the_beginning(services: Services, database: str) -> None:
    assert months(services, database) == [*ahead(4), "default"]


def test_an_event_lands_in_its_month(services: Services, database: str, org: Caller) -> None:
    with psycopg.connect(services.superuser_url(database)) as connection:
        rows = connection.execute("SELECT DISTINCT tableoid::regclass::text FROM audit_events").fetchall()
    assert rows == [(f"audit_events_{ahead(1)[0]}",)]


def test_events_without_a_month_are_kept_and_moved_once_it_is_made(
    services: Services, database: str, org: Caller
) -> None:
    made = place_in_default(
        services, database, org, "2020-01-31T23:59:59.999999Z", "2020-02-01T00:00:00Z", "2020-02-29T12:00:00+14:00"
    )
    with db.tenant(org) as tx:
        assert audit.verify(tx).faults == ()
    assert partition.handler({}, Context())["audit_events"] == 2
    assert months(services, database) == ["2020_01", "2020_02", *ahead(4), "default"]
    with psycopg.connect(services.superuser_url(database)) as connection:
        rows = connection.execute(
            "SELECT id, tableoid::regclass::text FROM audit_events WHERE id = ANY(%s) ORDER BY created_at", (made,)
        ).fetchall()
    assert rows == [
        (made[0], "audit_events_2020_01"),
        (made[1], "audit_events_2020_02"),
        (made[2], "audit_events_2020_02"),
    ]
    with db.tenant(org) as tx:
        found = audit.verify(tx)
    assert (found.events, found.faults) == (5, ())
    assert partition.handler({}, Context())["audit_events"] == 0


def test_a_new_month_is_as_closed_as_the_others_and_chains_what_it_is_given(
    services: Services, database: str, org: Caller
) -> None:
    place_in_default(services, database, org, "2020-01-01T00:00:00Z")
    partition.handler({}, Context())
    with psycopg.connect(services.superuser_url(database)) as connection:
        closed = connection.execute(
            "SELECT relname, relrowsecurity AND relforcerowsecurity, relacl IS NULL FROM pg_class"
            " WHERE relname LIKE 'audit_events_%' AND relkind = 'r' ORDER BY 1"
        ).fetchall()
    assert {(secured, ungranted) for _, secured, ungranted in closed} == {(True, True)}
    assert "audit_events_2020_01" in {name for name, *_ in closed}
    place_in_default(services, database, org, "2020-01-02T00:00:00Z")
    with db.tenant(org) as tx:
        assert audit.verify(tx).head.seq == 4
        assert audit.verify(tx).faults == ()


def test_the_owners_password_comes_from_its_secret_in_aws(
    services: Services, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = psycopg.conninfo.conninfo_to_dict(services.environment(database)["RUNYARD_MIGRATION_DATABASE_URL"])
    arn = f"arn:aws:secretsmanager:us-east-1:000000000000:secret:owner-{ids.new().hex}"
    secret = f'{{"username": "runyard_owner", "password": "{whole["password"]}"}}'
    without = f"postgresql://{whole['host']}:{whole['port']}/{database}"
    with listening(secrets_manager({arn: secret})) as url, forgotten():
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
        monkeypatch.setenv("RUNYARD_MIGRATION_DATABASE_URL", without)
        monkeypatch.setenv("RUNYARD_MIGRATION_SECRET_ARN", arn)
        settings.forget()
        assert partition.handler({}, Context())["audit_events"] == 0


@pytest.fixture
def at_revision(services: Services, database: str) -> Iterator[Callable[[str], str]]:
    """`at_revision("0008")`: how the owner reaches a new database whose schema is as of then."""
    name = f"{database}_before"
    url = services.environment(name)["RUNYARD_MIGRATION_DATABASE_URL"]

    def make(revision: str) -> str:
        with psycopg.connect(services.superuser_url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER runyard_owner").format(sql.Identifier(name)))
        with psycopg.connect(services.superuser_url(name)) as connection:
            connection.execute("CREATE EXTENSION vector")
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        return name

    yield make
    db.close()
    services.drop(name)


def test_the_rows_of_before_are_kept_and_chained_in_their_order(
    services: Services, at_revision: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = at_revision("0008")
    orgs, events = [ids.new(), ids.new()], [ids.new() for _ in range(40)]
    with psycopg.connect(services.superuser_url(name)) as connection:
        for org_id in orgs:
            connection.execute(
                "INSERT INTO orgs (id, name, slug, plan) VALUES (%s, 'Old', %s, 'free')", (org_id, org_id.hex)
            )
        for number, event_id in reversed(list(enumerate(events))):
            connection.execute(
                "INSERT INTO audit_events (id, org_id, actor, action, resource_type, resource_id, old, new, request_id,"
                " created_at) VALUES (%s, %s, 'key_1', 'thing.do', 'thing', 'x', NULL, '{\"a\": 1.50}', 'r',"
                " timestamptz '2025-11-01' + %s * interval '5 days')",
                (event_id, orgs[number % 2], number),
            )
    owner = services.environment(name)["RUNYARD_MIGRATION_DATABASE_URL"]
    migrating.upgrade(SchemaOwnerSettings(url=owner, password_secret_arn=None), _MIGRATIONS)
    expected = ["2025_11", "2025_12", "2026_01", "2026_02", "2026_03", "2026_04", "2026_05"]
    assert [month for month in months(services, name) if month in expected] == expected

    db.close()
    monkeypatch.setenv("RUNYARD_DATABASE_URL", services.environment(name)["RUNYARD_DATABASE_URL"])
    settings.forget()
    for first, org_id in enumerate(orgs):
        with db.tenant(Caller.system(org_id)) as tx:
            found = audit.verify(tx)
            kept = list(audit.events_after(tx, 0))
        assert (found.events, found.head.seq, found.faults) == (20, 20, ())
        assert [event.id for event in kept] == events[first::2]
        assert {(event.actor_ip, str(event.new), event.old) for event in kept} == {("", "{'a': 1.5}", None)}
