"""The database itself keeps tenants apart: a walk over its catalogue, table by table."""

from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from tests.services import Services

# Tables without a tenant, each with its reason. This list is meant to stay short.
GLOBAL_TABLES = {
    "alembic_version": "the schema's own revision; the application can't read it",
    "login_failures": "who failed to sign in, under a hash: before it is known who it is",
    "pending_logins": "half of a sign-in elsewhere, kept for minutes under a hash only its browser has",
    "signing_keys": "the platform's own; the private halves are wrapped by KMS",
}
APPLICATION = "runyard_app"


def _tables(services: Services, database: str) -> dict[str, tuple[bool, bool, str]]:
    """Return (row security, forced, owner) of every table."""
    with psycopg.connect(services.superuser_url(database)) as connection:
        rows = connection.execute(
            "SELECT relname, relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner)"
            " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        ).fetchall()
    return {name: (secured, forced, owner) for name, secured, forced, owner in rows}


def test_every_table_is_isolated_by_tenant_or_known_to_be_global(services: Services, database: str) -> None:
    tables = _tables(services, database)
    assert len(tables) > 15
    exposed = {name for name, (secured, forced, _) in tables.items() if not (secured and forced)}
    assert exposed == set(GLOBAL_TABLES)


def test_every_tenant_table_has_the_one_policy_and_no_wider_one(services: Services, database: str) -> None:
    with psycopg.connect(services.superuser_url(database)) as connection:
        policies = connection.execute(
            "SELECT tablename, policyname, permissive, roles::text[], cmd, qual, with_check"
            " FROM pg_policies WHERE schemaname = 'public'"
        ).fetchall()
    for table, name, permissive, roles, command, using, check in policies:
        assert permissive == "PERMISSIVE"
        if name == "lookup":
            # Only the role that owns the look-up functions, which nobody can log in as, and only to read.
            assert (roles, command) == (["runyard_definer"], "SELECT"), table
            continue
        key = "id" if table == "orgs" else "org_id"
        expected = f"({key} = (NULLIF(current_setting('app.current_org_id'::text, true), ''::text))::uuid)"
        assert (name, roles, command, using, check) == ("tenant", ["public"], "ALL", expected, expected), table
    isolated = {table for table, name, *_ in policies if name == "tenant"}
    assert isolated == set(_tables(services, database)) - set(GLOBAL_TABLES)


def test_the_application_role_owns_nothing_and_bypasses_nothing(services: Services, database: str) -> None:
    with psycopg.connect(services.superuser_url(database)) as connection:
        roles = connection.execute(
            "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolcanlogin FROM pg_roles"
            " WHERE rolname IN ('runyard_app', 'runyard_definer', 'runyard_owner') ORDER BY 1"
        ).fetchall()
        member_of = connection.execute(
            "SELECT count(*) FROM pg_auth_members WHERE member = 'runyard_app'::regrole"
        ).fetchone()
    assert [(name, superuser, bypasses) for name, superuser, bypasses, *_ in roles] == [
        ("runyard_app", False, False),
        ("runyard_definer", False, False),
        ("runyard_owner", False, False),
    ]
    by_name = {name: (createrole, createdb, login) for name, _, _, createrole, createdb, login in roles}
    assert by_name["runyard_app"] == (False, False, True)
    assert by_name["runyard_definer"] == (False, False, False)
    assert member_of == (0,)
    assert APPLICATION not in {owner for _, _, owner in _tables(services, database).values()}


def test_what_is_append_only_can_not_be_changed_by_the_application(services: Services, database: str) -> None:
    with psycopg.connect(services.superuser_url(database)) as connection:
        for table in ("audit_events", "credit_entries", "usage_events", "run_events", "agent_versions"):
            for privilege in ("UPDATE", "DELETE", "TRUNCATE"):
                row = connection.execute(
                    "SELECT has_table_privilege('runyard_app', %s, %s)", (table, privilege)
                ).fetchone()
                assert row == (False,), (table, privilege)


def test_every_definer_function_has_a_fixed_search_path_and_is_closed_to_the_public(
    services: Services, database: str
) -> None:
    with psycopg.connect(services.superuser_url(database)) as connection:
        functions = connection.execute(
            "SELECT proname, pg_get_userbyid(proowner), proconfig, proacl::text FROM pg_proc"
            " WHERE pronamespace = 'public'::regnamespace AND prosecdef"
        ).fetchall()
    assert {name for name, *_ in functions} == {
        "api_key_by_secret",
        "memories_by_words",
        "orgs_with_work",
        "sandbox_by_registration",
    }
    for name, owner, config, grants in functions:
        assert owner == "runyard_definer", name
        assert config == ["search_path=public, pg_temp"], name
        assert "=X/" not in grants.replace("runyard_definer=X/", "").replace("runyard_app=X/", ""), name


def test_a_rival_sees_changes_and_deletes_nothing_of_any_table(
    services: Services, database: str, org: Caller, rival: Caller
) -> None:
    for table in sorted(set(_tables(services, database)) - set(GLOBAL_TABLES)):
        key = "id" if table == "orgs" else "org_id"
        _plant(services, database, table, key, org.org_id)
        with db.tenant(org) as tx:
            own = tx.execute(sql.SQL("SELECT count(*) AS n FROM {}").format(sql.Identifier(table))).fetchone()
        assert own is not None
        assert own["n"] > 0, f"nothing of {table} to try the rival on"
        for statement in (
            sql.SQL("SELECT FROM {} WHERE {} = %s"),
            sql.SQL("UPDATE {} SET {} = %s WHERE TRUE RETURNING 1"),
            sql.SQL("DELETE FROM {} WHERE {} = %s RETURNING 1"),
        ):
            with pytest.MonkeyPatch.context(), db.tenant(rival) as tx:
                try:
                    with tx.transaction():
                        touched = tx.execute(
                            statement.format(sql.Identifier(table), sql.Identifier(key)), (org.org_id,)
                        ).fetchall()
                except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ForeignKeyViolation):
                    # Not granted at all, or refused by WITH CHECK: just as good.
                    continue
            assert touched == [], (table, statement.as_string())


def test_a_rival_can_not_write_rows_into_another_tenant(org: Caller, rival: Caller) -> None:
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
        db.tenant(rival) as tx,
    ):
        tx.execute(
            "INSERT INTO outbox (id, org_id, type, subject, data) VALUES (%s, %s, 'x', 'x', '{}')",
            (ids.new(), org.org_id),
        )


def test_without_a_tenant_there_are_no_rows_and_no_error(services: Services, database: str, org: Caller) -> None:
    for table in sorted(set(_tables(services, database)) - set(GLOBAL_TABLES)):
        with db.anonymous() as tx:
            assert tx.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(table))).fetchall() == [], table


def test_a_tenant_does_not_leak_into_the_next_transaction_of_its_connection(org: Caller) -> None:
    for _ in range(20):
        with db.tenant(org) as tx:
            assert tx.execute("SELECT FROM orgs").fetchall() != []
        with db.anonymous() as tx:
            assert tx.execute("SELECT FROM orgs").fetchall() == []


def test_text_search_through_its_definer_function_stays_within_the_tenant(org: Caller, rival: Caller) -> None:
    with db.tenant(org) as tx:
        _insert_memory(tx, org.org_id)
    query = "SELECT id FROM memories_by_words(to_tsquery('english', 'secret'), NULL, 10)"
    with db.tenant(org) as tx:
        assert len(tx.execute(query).fetchall()) == 1
    with db.tenant(rival) as tx:
        assert tx.execute(query).fetchall() == []
    with db.anonymous() as tx:
        assert tx.execute(query).fetchall() == []


def _insert_memory(tx: db.Tx, org_id: UUID) -> None:
    tx.execute(
        "INSERT INTO memories (id, org_id, subject, content, importance, source_id, embedding, embedding_model)"
        " VALUES (%s, %s, 's', 'a secret', 0.5, 'x', array_fill(0.1::real, ARRAY[384])::vector, 'm')",
        (ids.new(), org_id),
    )


def _plant(services: Services, database: str, table: str, key: str, org_id: UUID) -> None:
    """Make sure that the tenant has a row, past every constraint: only its tenant matters here."""
    with psycopg.connect(services.superuser_url(database), autocommit=True) as connection:
        found = connection.execute(
            sql.SQL("SELECT 1 FROM {} WHERE {} = %s LIMIT 1").format(sql.Identifier(table), sql.Identifier(key)),
            (org_id,),
        ).fetchone()
        if found is not None:
            return
        columns = connection.execute(
            "SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = %s"
            " AND is_nullable = 'NO' AND column_default IS NULL AND is_generated = 'NEVER'",
            (table,),
        ).fetchall()
        connection.execute("SET session_replication_role = replica")
        for (constraint,) in connection.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'", (table,)
        ).fetchall():
            connection.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(table), sql.Identifier(constraint))
            )
        values = {name: _value(kind) for name, kind in columns} | {key: org_id}
        connection.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(sql.Placeholder() * len(values)),
            ),
            list(values.values()),
        )


def _value(kind: str) -> object:
    known: dict[str, object] = {
        "uuid": ids.new(),
        "text": "x",
        "jsonb": "{}",
        "bytea": b"x",
        "bool": False,
        "timestamptz": "2026-01-01T00:00:00Z",
        "vector": "[" + ",".join(["0.1"] * 384) + "]",
        "_text": [],
        "float4": 0.5,
    }
    return known.get(kind, 1)
