"""What every tenant table gets: row-level security, forced, with the one policy, and the application's grants."""

from alembic import op

# An unset or empty tenant compares to NULL: no rows, and no error that could tell something.
CURRENT_ORG = "nullif(current_setting('app.current_org_id', true), '')::uuid"


def tenant_table(name: str, *, key: str = "org_id", grants: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
    """Isolate the table by tenant; append-only tables are given `grants="SELECT, INSERT"`."""
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {name} USING ({key} = {CURRENT_ORG}) WITH CHECK ({key} = {CURRENT_ORG})")
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
