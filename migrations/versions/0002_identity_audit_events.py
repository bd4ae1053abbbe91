"""Tenants and their keys, the audit trail, the outbox."""

from alembic import op

from migrations.tenancy import definer, looked_up, tenant_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE orgs (
            id uuid PRIMARY KEY,
            name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
            slug text NOT NULL CONSTRAINT orgs_slug_unique UNIQUE,
            plan text NOT NULL,
            settings jsonb NOT NULL DEFAULT '{}',
            resource_quota jsonb NOT NULL DEFAULT '{}',
            metadata jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    tenant_table("orgs", key="id")
    looked_up("orgs")

    op.execute("""
        CREATE TABLE api_keys (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
            hint text NOT NULL,
            secret_sha256 bytea NOT NULL CONSTRAINT api_keys_secret_unique UNIQUE,
            role text NOT NULL CHECK (role IN ('api', 'operator')),
            scopes text[] NOT NULL,
            metadata jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            last_used_at timestamptz,
            expires_at timestamptz,
            revoked_at timestamptz
        )
    """)
    op.execute("CREATE INDEX api_keys_org ON api_keys (org_id, id DESC)")
    tenant_table("api_keys")
    looked_up("api_keys")
    op.execute("""
        CREATE FUNCTION api_key_by_secret(wanted bytea)
        RETURNS TABLE (id uuid, org_id uuid, role text, scopes text[], plan text, last_used_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
        AS $$
            SELECT key.id, key.org_id, key.role, key.scopes, org.plan, key.last_used_at
              FROM api_keys key JOIN orgs org ON org.id = key.org_id
             WHERE key.secret_sha256 = wanted
               AND key.revoked_at IS NULL
               AND (key.expires_at IS NULL OR key.expires_at > now())
        $$
    """)
    definer("api_key_by_secret(bytea)")

    op.execute("""
        CREATE TABLE audit_events (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            actor text NOT NULL,
            action text NOT NULL,
            resource_type text NOT NULL,
            resource_id text NOT NULL,
            old jsonb,
            new jsonb,
            request_id text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX audit_events_org ON audit_events (org_id, id DESC)")
    tenant_table("audit_events", grants="SELECT, INSERT")

    op.execute("""
        CREATE TABLE outbox (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            type text NOT NULL,
            subject text NOT NULL,
            data jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            sent_at timestamptz
        )
    """)
    op.execute("CREATE INDEX outbox_unsent ON outbox (org_id, id) WHERE sent_at IS NULL")
    tenant_table("outbox")
    looked_up("outbox")
