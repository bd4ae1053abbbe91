"""Accounts from before there were lots: after the upgrade they are sound, and go on as if nothing had been."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from shared.billing import service
from shared.kernel import clock, db, ids, migrating, settings
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from shared.kernel.settings import SchemaOwnerSettings
from tests.services import Services

_MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"

# What the ledger of before wrote: entry_no, kind, amount, source, available and held after it.
_ENTRIES = [
    (1, "grant", 1_000, "plan:free", 1_000, 0),
    (2, "hold", 400, "run:settled", 600, 400),
    (3, "settle", 150, "run:settled", 600, 250),
    (4, "release", 250, "run:settled", 850, 0),
    (5, "hold", 300, "run:released", 550, 300),
    (6, "release", 300, "run:released", 850, 0),
    (7, "refund", 50, "refund:1", 900, 0),
    (8, "hold", 200, "run:open", 700, 200),
    (9, "hold", 0, "run:free", 700, 200),
    (10, "settle", 0, "run:free", 700, 200),
]
_HOLDS = [
    ("run:settled", 400, 150, "settled"),
    ("run:released", 300, 0, "released"),
    ("run:open", 200, 0, "open"),
    ("run:free", 0, 0, "settled"),
]


@pytest.fixture
def before(services: Services, database: str) -> Iterator[str]:
    """A database of its own whose schema is as it was before lots."""
    name = f"{database}_before"
    url = services.environment(name)["RUNYARD_MIGRATION_DATABASE_URL"]
    with psycopg.connect(services.superuser_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER runyard_owner").format(sql.Identifier(name)))
    with psycopg.connect(services.superuser_url(name)) as connection:
        connection.execute("CREATE EXTENSION vector")
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0010")
    yield name
    db.close()
    services.drop(name)


def test_an_account_of_before_is_sound_after_the_upgrade_and_goes_on(
    services: Services, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = [Caller.system(ids.new()) for _ in range(3)]
    with psycopg.connect(services.superuser_url(before)) as connection:
        for caller in callers:
            connection.execute(
                "INSERT INTO orgs (id, name, slug, plan) VALUES (%s, 'Old', %s, 'free')",
                (caller.org_id, caller.org_id.hex),
            )
        for caller in callers[:2]:
            _account_of_before(connection, caller)
        # The third has an account that nothing was ever granted to.
        connection.execute("INSERT INTO credit_accounts (org_id) VALUES (%s)", (callers[2].org_id,))
    owner = services.environment(before)["RUNYARD_MIGRATION_DATABASE_URL"]
    migrating.upgrade(SchemaOwnerSettings(url=owner, password_secret_arn=None), _MIGRATIONS)

    db.close()
    monkeypatch.setenv("RUNYARD_DATABASE_URL", services.environment(before)["RUNYARD_DATABASE_URL"])
    settings.forget()
    for caller in callers[:2]:
        assert _lots(caller) == [("before lots", 1_050, 700)]
        with db.tenant(caller) as tx:
            service.settle(tx, caller, source_id="run:open", amount_microusd=120)
            service.grant(tx, caller, amount_microusd=5, source_id="gift", reason="test", kind=service.LotKind.PROMO)
            expires_at = clock.now() + timedelta(hours=1)
            service.hold(tx, caller, amount_microusd=15, source_id="run:new", expires_at=expires_at)
        assert _lots(caller) == [("gift", 5, 0), ("before lots", 1_050, 770)]
    assert _lots(callers[2]) == []


def _account_of_before(connection: psycopg.Connection, caller: Caller) -> None:
    org_id = caller.org_id
    connection.execute(
        "INSERT INTO credit_accounts (org_id, granted_microusd, refunded_microusd, settled_microusd, held_microusd,"
        " entries) VALUES (%s, 1000, 50, 150, 200, 10)",
        (org_id,),
    )
    for number, kind, amount, source, available, held in _ENTRIES:
        connection.execute(
            "INSERT INTO credit_entries (id, org_id, entry_no, kind, amount_microusd, source_id, reason,"
            " available_after_microusd, held_after_microusd) VALUES (%s, %s, %s, %s, %s, %s, 'test', %s, %s)",
            (ids.new(), org_id, number, kind, amount, source, available, held),
        )
    for source, amount, settled, status in _HOLDS:
        connection.execute(
            "INSERT INTO credit_holds (id, org_id, source_id, amount_microusd, settled_microusd, status, expires_at,"
            " closed_at) VALUES (%s, %s, %s, %s, %s, %s, now() + interval '1 day', now())",
            (ids.new(), org_id, source, amount, settled, status),
        )


def _lots(caller: Caller) -> list[tuple[str, int, int]]:
    with db.tenant(caller) as tx:
        assert service.check(tx) == []
        lots = service.lots(tx, Slice(limit=10))
    return [(lot.source_id, lot.amount_microusd, lot.remaining_microusd) for lot in lots]
