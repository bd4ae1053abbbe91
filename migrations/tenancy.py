"""What every table gets: row-level security, forced, with the one policy, and the application's grants."""

from alembic import op

# An unset or empty tenant compares to NULL: no rows, and no error that could tell something.
CURRENT_ORG = "nullif(current_setting('app.current_org_id', true), '')::uuid"
CURRENT_USER = "nullif(current_setting('app.current_user_id', true), '')::uuid"


def tenant_table(name: str, *, key: str = "org_id", grants: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
    """Isolate the table by tenant; append-only tables are given `grants="SELECT, INSERT"`."""
    _isolated(name, policy="tenant", condition=f"{key} = {CURRENT_ORG}", grants=grants)


def person_table(name: str, *, key: str = "user_id", grants: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
    """Isolate the table by person: what belongs to somebody whatever the org they work in."""
    _isolated(name, policy="person", condition=f"{key} = {CURRENT_USER}", grants=grants)


def _isolated(name: str, *, policy: str, condition: str, grants: str) -> None:
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY {policy} ON {name} USING ({condition}) WITH CHECK ({condition})")
    op.execute(f"GRANT {grants} ON {name} TO runyard_app")


def looked_up(name: str) -> None:
    """Let the SECURITY DEFINER look-ups, and nothing else, read this table across tenants."""
    op.execute(f"GRANT SELECT ON {name} TO runyard_definer")
    op.execute(f"CREATE POLICY lookup ON {name} FOR SELECT TO runyard_definer USING (true)")


def definer(signature: str) -> None:
    """Hand a function to the look-up role, callable by the application alone."""
    op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO runyard_app")
    op.execute(f"ALTER FUNCTION {signature} OWNER TO runyard_definer")


def look_up(name: str, arguments: str, returns: str, query: str) -> None:
    """Make a read-only look-up across tenants: `look_up("org_by_slug", "wanted text", "TABLE (id uuid)", "SELECT …")`.

    `arguments` and `returns` are SQL; the signature is made of the arguments' types.
    """
    op.execute(f"""
        CREATE FUNCTION {name}({arguments}) RETURNS {returns}
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
        AS $$ {query} $$
    """)
    types = ", ".join(argument.split(maxsplit=1)[1] for argument in arguments.split(",") if argument)
    definer(f"{name}({types})")
