"""Quotas: how much of each resource a tenant has allocated, and to what."""

from alembic import op

from migrations.tenancy import look_up, tenant_table

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE quota_usage (
            org_id uuid NOT NULL REFERENCES orgs (id),
            resource text NOT NULL,
            used bigint NOT NULL CHECK (used >= 0),
            PRIMARY KEY (org_id, resource)
        )
    """)
    tenant_table("quota_usage")
    # One row for each thing that holds some of a quota: what exists once is released once. Byte order is the order of
    # the ids inside, in which reconciliation walks both these and the things.
    op.execute("""
        CREATE TABLE quota_allocations (
            org_id uuid NOT NULL REFERENCES orgs (id),
            resource text NOT NULL,
            holder text COLLATE "C" NOT NULL,
            amount bigint NOT NULL CHECK (amount > 0),
            allocated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (org_id, resource, holder)
        )
    """)
    tenant_table("quota_allocations")
    look_up("every_org", "", "SETOF uuid", "SELECT org.id FROM orgs org ORDER BY org.id")
