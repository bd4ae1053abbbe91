"""The database itself keeps tenants apart: a walk over its catalogue, table by table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal
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


TENANT = "nullif(current_setting('app.current_org_id'::text, true), ''::text))::uuid"
PERSON = "nullif(current_setting('app.current_user_id'::text, true), ''::text))::uuid"
# Functions that look across tenants and persons, and what keeps whoever calls them from learning anything by it.
ACROSS = {
    "api_key_by_secret": "needs a key's hash",
    "invitation_by_secret": "needs an invitation's hash",
    "letter_by_secret": "needs a letter's hash",
    "refresh_token_by_secret": "needs a refresh token's hash",
    "sandbox_by_registration": "needs a registration token's hash",
    "bearer_of_session": "needs ids signed by us; answers a role and a plan",
    "user_by_email": "answers an id, behind which row-level security stands",
    "user_by_identity": "answers an id",
    "org_with_sso_by_slug": "answers an id",
    "every_org": "answers ids, for jobs",
    "orgs_with_work": "answers ids, for jobs",
    "orgs_with_calls_to_close": "answers ids, for jobs",
    "orgs_with_usage_between": "answers ids, for jobs",
    "orgs_with_days_to_add": "answers ids, for jobs",
    "orgs_with_expired_budget_holds": "answers ids, for jobs",
    "orgs_with_expired_credits": "answers ids, for jobs",
    "orgs_with_period_over": "answers ids, for jobs",
    "platform_providers": "answers the platform's own, which all may use; where their keys are, and no key",
    "unsent_invitations": "answers ids, for jobs",
    "unsent_letters": "answers ids, for jobs",
    "users_with_expired_letters": "answers ids, for jobs",
    "users_with_expired_sessions": "answers ids, for jobs",
}
# Functions that take the tenant or the person from the transaction, as a policy does.
WITHIN = {
    "agents_within_reach": "under row-level security of whoever asks",
    "audit_hash": "of the row it is given",
    "members_of_current_org": "of the transaction's tenant",
    "memories_by_words": "of the transaction's tenant",
    "orgs_of_current_user": "of the transaction's person",
}
# Run by the database itself: nobody can call them.
TRIGGERS = {"audit_chain_append"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the catalogue; `owner` says whose its rows are, and `key` by which column."""

    name: str
    secured: bool
    forced: bool
    belongs_to: str
    partition: bool
    whose: Literal["tenant", "person", "nobody"]
    key: str


def _tables(services: Services, database: str) -> dict[str, Table]:
    with psycopg.connect(services.superuser_url(database)) as connection:
        rows = connection.execute(
            "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner), c.relispartition,"
            "       coalesce((SELECT p.polname FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*'), 'nobody')"
            "  FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        ).fetchall()
    keys = {"tenant": "org_id", "person": "user_id", "nobody": ""}
    return {
        name: Table(
            name, secured, forced, owner, partition, whose, {"orgs": "id", "users": "id"}.get(name, keys[whose])
        )
        for name, secured, forced, owner, partition, whose in rows
    }


def _isolated(services: Services, database: str) -> list[Table]:
    return [table for table in _tables(services, database).values() if table.whose != "nobody"]


def test_every_table_is_isolated_by_tenant_or_person_or_known_to_be_global(services: Services, database: str) -> None:
    tables = _tables(services, database)
    assert len(tables) > 35
    exposed = {table.name for table in tables.values() if not (table.secured and table.forced)}
    assert exposed == set(GLOBAL_TABLES)
    unowned = {table.name for table in tables.values() if table.whose == "nobody" and not table.partition}
    assert unowned == set(GLOBAL_TABLES)


def test_a_partition_can_not_be_reached_past_its_table(services: Services, database: str) -> None:
    partitions = [table.name for table in _tables(services, database).values() if table.partition]
    assert partitions
    with psycopg.connect(services.superuser_url(database)) as connection:
        for name in partitions:
            row = connection.execute(
                "SELECT has_table_privilege('runyard_app', %s, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')", (name,)
            ).fetchone()
            assert row == (False,), name


def test_every_table_has_the_one_policy_and_no_wider_one(services: Services, database: str) -> None:
    tables = _tables(services, database)
    with psycopg.connect(services.superuser_url(database)) as connection:
        policies = connection.execute(
            "SELECT tablename, policyname, permissive, roles::text[], cmd, lower(qual), lower(with_check)"
            " FROM pg_policies WHERE schemaname = 'public'"
        ).fetchall()
    for table, name, permissive, roles, command, using, check in policies:
        assert permissive == "PERMISSIVE"
        if name in ("lookup", "chain"):
            # Only the role that owns the look-up functions, which nobody can log in as; it reads, and appends to the
            # audit trail's chain.
            assert roles == ["runyard_definer"], table
            assert command == "SELECT" or (name, table, command) == ("chain", "audit_chain", "INSERT"), table
            continue
        assert name == tables[table].whose
        setting = TENANT if name == "tenant" else PERSON
        expected = f"({tables[table].key} = ({setting})"
        assert (roles, command, using, check) == (["public"], "ALL", expected, expected), table


def test_there_are_no_views_and_no_sequences_to_look_through(services: Services, database: str) -> None:
    """A view runs as its owner and a sequence tells how much others do: whoever adds one tests it here."""
    with psycopg.connect(services.superuser_url(database)) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm', 'S')"
            " UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname NOT LIKE 'audit%'"
        ).fetchall()
    assert found == []


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
    assert APPLICATION not in {table.belongs_to for table in _tables(services, database).values()}


def test_what_is_append_only_can_not_be_changed_by_the_application(services: Services, database: str) -> None:
    with psycopg.connect(services.superuser_url(database)) as connection:
        for table in (
            "audit_events",
            "audit_chain",
            "credit_entries",
            "usage_events",
            "usage_claims",
            "run_events",
            "agent_versions",
        ):
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
    assert {name for name, *_ in functions} == (ACROSS.keys() | WITHIN.keys() | TRIGGERS) - {
        "agents_within_reach",
        "audit_hash",
    }
    for name, owner, config, grants in functions:
        assert owner == "runyard_definer", name
        assert config == ["search_path=public, pg_temp"], name
        assert "=X/" not in grants.replace("runyard_definer=X/", "").replace("runyard_app=X/", ""), name


def test_every_function_that_the_application_can_call_is_accounted_for(services: Services, database: str) -> None:
    with psycopg.connect(services.superuser_url(database)) as connection:
        rows = connection.execute(
            "SELECT DISTINCT proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace"
            " AND has_function_privilege('runyard_app', p.oid, 'EXECUTE')"
            " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
        ).fetchall()
    assert {name for (name,) in rows} == ACROSS.keys() | WITHIN.keys()


def test_functions_across_tenants_answer_nothing_to_whoever_has_no_secret(
    database: str, org: Caller, rival: Caller
) -> None:
    guess, someone = b"\x00" * 32, ids.new()
    with db.tenant(rival) as tx:
        for name in (name for name, reason in ACROSS.items() if reason.endswith("hash")):
            call = sql.SQL("SELECT FROM {}(%s)").format(sql.Identifier(name))
            assert tx.execute(call, (guess,)).fetchall() == [], name
        assert tx.execute("SELECT FROM bearer_of_session(%s, %s, %s)", (someone, someone, org.org_id)).fetchall() == []


def test_functions_across_tenants_show_ids_and_what_their_secret_stands_for_and_no_more(
    services: Services, database: str
) -> None:
    with psycopg.connect(services.superuser_url(database)) as connection:
        rows = connection.execute(
            "SELECT proname, pg_get_function_result(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " AND proname = ANY(%s)",
            ([name for name, reason in ACROSS.items() if "id" in reason.split()[1:3] or "ids," in reason],),
        ).fetchall()
    assert len(rows) >= 8
    for name, returned in rows:
        columns = [part.split()[-1] for part in returned.removeprefix("TABLE(").removesuffix(")").split(",")]
        assert set(columns) == {"uuid"}, (name, returned)


def test_a_rival_sees_changes_and_deletes_nothing_of_any_table(
    services: Services,
    database: str,
    org: Caller,
    rival: Caller,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("tables", len(_isolated(services, database)))
    own, other = replace(org, person_id=ids.new()), replace(rival, person_id=ids.new())
    for table in _isolated(services, database):
        whose, whom = (
            (own.org_id, other.org_id) if table.whose == "tenant" else (own.person_id, other.person_id)
        )  # fmt: skip
        assert whose is not None
        _plant(services, database, table.name, table.key, whose)
        name, key = sql.Identifier(table.name), sql.Identifier(table.key)
        with db.tenant(own) as tx:
            seen = tx.execute(sql.SQL("SELECT count(*) AS n FROM {}").format(name)).fetchone()
        assert seen is not None
        assert seen["n"] > 0, f"nothing of {table.name} to try the rival on"
        for statement, values in (
            (sql.SQL("SELECT FROM {} WHERE {} = %s").format(name, key), (whose,)),
            (sql.SQL("UPDATE {} SET {} = %s WHERE {} = %s RETURNING 1").format(name, key, key), (whom, whose)),
            (sql.SQL("UPDATE {} SET {} = %s RETURNING 1").format(name, key), (whose,)),
            (sql.SQL("DELETE FROM {} WHERE {} = %s RETURNING 1").format(name, key), (whose,)),
        ):
            for transaction in (db.tenant(other), db.anonymous()):
                with transaction as tx:
                    try:
                        with tx.transaction():
                            touched = tx.execute(statement, values).fetchall()
                    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ForeignKeyViolation):
                        # Not granted at all, or refused by WITH CHECK: just as good.
                        continue
                assert touched == [], (table.name, statement.as_string())


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
    """A forgotten `set_config`, on a connection that never had one and on one that had."""
    for table in _isolated(services, database):
        _plant(services, database, table.name, table.key, ids.new())
        with db.anonymous() as tx:
            assert tx.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(table.name))).fetchall() == [], table
    with psycopg.connect(services.environment(database)["RUNYARD_DATABASE_URL"]) as never_set:
        for table in _isolated(services, database):
            rows = never_set.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(table.name))).fetchall()
            assert rows == [], table


def test_a_tenant_does_not_leak_into_the_next_transaction_of_its_connection(org: Caller) -> None:
    for _ in range(20):
        with db.tenant(org) as tx:
            assert tx.execute("SELECT FROM orgs").fetchall() != []
        with db.anonymous() as tx:
            assert tx.execute("SELECT FROM orgs").fetchall() == []


def test_text_search_through_its_definer_function_stays_within_the_tenant(org: Caller, rival: Caller) -> None:
    with db.tenant(org) as tx:
        _insert_memory(tx, org.org_id)
    query = "SELECT id FROM memories_by_words(to_tsquery('english', 'secret'), NULL, NULL, 10)"
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
        "date": "2026-01-01",
        "int8": 1,
        "int4": 1,
        "vector": "[" + ",".join(["0.1"] * 384) + "]",
        "_text": [],
        "float4": 0.5,
    }
    return known.get(kind, 1)
