"""Usage ledger, credit ledger, model calls."""

from alembic import op

from migrations.tenancy import looked_up, tenant_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE usage_events (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            kind text NOT NULL,
            quantity bigint NOT NULL CHECK (quantity >= 0),
            unit text NOT NULL,
            cost_microusd bigint NOT NULL CHECK (cost_microusd >= 0),
            source_id text NOT NULL,
            dimensions jsonb NOT NULL DEFAULT '{}',
            occurred_at timestamptz NOT NULL,
            recorded_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT usage_events_counted_once UNIQUE (org_id, source_id, kind)
        )
    """)
    op.execute("CREATE INDEX usage_events_org ON usage_events (org_id, id DESC)")
    op.execute("CREATE INDEX usage_events_when ON usage_events (org_id, occurred_at)")
    tenant_table("usage_events", grants="SELECT, INSERT")

    # The account is the ledger's running total: one row to lock, so that available credit can't go negative, and the
    # entries of a tenant are numbered without gaps in the order in which they took effect.
    op.execute("""
        CREATE TABLE credit_accounts (
            org_id uuid PRIMARY KEY REFERENCES orgs (id),
            granted_microusd bigint NOT NULL DEFAULT 0 CHECK (granted_microusd >= 0),
            refunded_microusd bigint NOT NULL DEFAULT 0 CHECK (refunded_microusd >= 0),
            settled_microusd bigint NOT NULL DEFAULT 0 CHECK (settled_microusd >= 0),
            expired_microusd bigint NOT NULL DEFAULT 0 CHECK (expired_microusd >= 0),
            held_microusd bigint NOT NULL DEFAULT 0 CHECK (held_microusd >= 0),
            entries bigint NOT NULL DEFAULT 0 CHECK (entries >= 0),
            CONSTRAINT credit_accounts_available CHECK (
                granted_microusd + refunded_microusd - settled_microusd - expired_microusd - held_microusd >= 0
            ),
            CONSTRAINT credit_accounts_refunded_at_most_settled CHECK (refunded_microusd <= settled_microusd)
        )
    """)
    tenant_table("credit_accounts", grants="SELECT, INSERT, UPDATE")

    op.execute("""
        CREATE TABLE credit_holds (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            source_id text NOT NULL,
            amount_microusd bigint NOT NULL CHECK (amount_microusd >= 0),
            settled_microusd bigint NOT NULL DEFAULT 0 CHECK (settled_microusd BETWEEN 0 AND amount_microusd),
            status text NOT NULL CHECK (status IN ('open', 'settled', 'released')),
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            closed_at timestamptz,
            CONSTRAINT credit_holds_once UNIQUE (org_id, source_id)
        )
    """)
    op.execute("CREATE INDEX credit_holds_open ON credit_holds (org_id, expires_at) WHERE status = 'open'")
    tenant_table("credit_holds", grants="SELECT, INSERT, UPDATE")
    looked_up("credit_holds")

    op.execute("""
        CREATE TABLE credit_entries (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            entry_no bigint NOT NULL CHECK (entry_no > 0),
            kind text NOT NULL CHECK (kind IN ('grant', 'hold', 'settle', 'release', 'refund')),
            amount_microusd bigint NOT NULL CHECK (amount_microusd >= 0),
            source_id text NOT NULL,
            reason text NOT NULL,
            available_after_microusd bigint NOT NULL CHECK (available_after_microusd >= 0),
            held_after_microusd bigint NOT NULL CHECK (held_after_microusd >= 0),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT credit_entries_once UNIQUE (org_id, kind, source_id),
            CONSTRAINT credit_entries_in_order UNIQUE (org_id, entry_no)
        )
    """)
    tenant_table("credit_entries", grants="SELECT, INSERT")

    op.execute("""
        CREATE TABLE inference_calls (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            source_id text COLLATE "C" NOT NULL,
            operation text NOT NULL CHECK (operation IN ('chat', 'embeddings')),
            model text NOT NULL,
            input_tokens bigint NOT NULL CHECK (input_tokens >= 0),
            cached_tokens bigint NOT NULL CHECK (cached_tokens >= 0),
            output_tokens bigint NOT NULL CHECK (output_tokens >= 0),
            cost_microusd bigint NOT NULL CHECK (cost_microusd >= 0),
            latency_ms bigint NOT NULL,
            answer jsonb,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT inference_calls_once UNIQUE (org_id, source_id)
        )
    """)
    op.execute("CREATE INDEX inference_calls_org ON inference_calls (org_id, id DESC)")
    tenant_table("inference_calls")
