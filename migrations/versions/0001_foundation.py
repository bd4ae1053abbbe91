"""Roles, the vector extension, and what belongs to no area: idempotency keys."""

from alembic import op

from migrations.tenancy import looked_up, tenant_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    # At home these exist already, made by the superuser; in AWS the master user makes them here.
    op.execute("""
        DO $$
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'runyard_app') THEN
                CREATE ROLE runyard_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
            END IF;
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'runyard_definer') THEN
                CREATE ROLE runyard_definer NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
            END IF;
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam') THEN
                GRANT rds_iam TO runyard_app;
            END IF;
            IF NOT pg_has_role(current_user, 'runyard_definer', 'SET') THEN
                EXECUTE format('GRANT runyard_definer TO %I', current_user);
            END IF;
        END
        $$
    """)
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.execute("GRANT USAGE ON SCHEMA public TO runyard_app")
    # Ownership of a function needs CREATE on its schema.
    op.execute("GRANT USAGE, CREATE ON SCHEMA public TO runyard_definer")
    op.execute("""
        CREATE TABLE idempotency_keys (
            org_id uuid NOT NULL,
            key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
            fingerprint bytea NOT NULL,
            status int,
            body jsonb,
            reserved_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (org_id, key)
        )
    """)
    op.execute("CREATE INDEX idempotency_keys_age ON idempotency_keys (reserved_at)")
    tenant_table("idempotency_keys")
    looked_up("idempotency_keys")
