"""What an org's plan runs on, what it used of a monthly allowance, and estimates beside what came of them."""

from alembic import op

from migrations.tenancy import look_up, looked_up, tenant_table

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # Which plan it is stands in `orgs.plan`, where its limits are read. A period is a month of the subscription;
    # `monthly_microusd` is the largest month's credits of which its share was granted for this period.
    op.execute("""
        CREATE TABLE subscriptions (
            org_id uuid PRIMARY KEY REFERENCES orgs (id),
            period_start timestamptz NOT NULL,
            period_end timestamptz NOT NULL,
            anchor timestamptz NOT NULL,
            monthly_microusd bigint NOT NULL DEFAULT 0 CHECK (monthly_microusd >= 0),
            changed_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT subscriptions_period CHECK (period_start < period_end)
        )
    """)
    op.execute("CREATE INDEX subscriptions_due ON subscriptions (period_end)")
    op.execute("ALTER TABLE orgs NO FORCE ROW LEVEL SECURITY")
    op.execute("""
        INSERT INTO subscriptions (org_id, period_start, period_end, anchor)
        SELECT id, now(), now() + interval '1 month', now() FROM orgs
    """)
    op.execute("ALTER TABLE orgs FORCE ROW LEVEL SECURITY")
    tenant_table("subscriptions", grants="SELECT, INSERT, UPDATE")
    looked_up("subscriptions")
    look_up(
        "orgs_with_period_over",
        "",
        "SETOF uuid",
        "SELECT subscription.org_id FROM subscriptions subscription WHERE subscription.period_end <= now()",
    )

    # Allowances of a calendar month, in UTC: counted up, never down.
    op.execute("""
        CREATE TABLE monthly_usage (
            org_id uuid NOT NULL REFERENCES orgs (id),
            month date NOT NULL,
            allowance text NOT NULL,
            used bigint NOT NULL CHECK (used >= 0),
            PRIMARY KEY (org_id, month, allowance)
        )
    """)
    tenant_table("monthly_usage", grants="SELECT, INSERT, UPDATE")

    # What was expected of a run or a sandbox as it was started, and what it cost in the end.
    op.execute("""
        CREATE TABLE estimates (
            org_id uuid NOT NULL REFERENCES orgs (id),
            subject text NOT NULL,
            kind text NOT NULL,
            basis text NOT NULL CHECK (basis IN ('history', 'price_book')),
            samples int NOT NULL CHECK (samples >= 0),
            expected_microusd bigint NOT NULL CHECK (expected_microusd >= 0),
            p90_microusd bigint NOT NULL CHECK (p90_microusd >= expected_microusd),
            worst_microusd bigint NOT NULL CHECK (worst_microusd >= p90_microusd),
            actual_microusd bigint CHECK (actual_microusd >= 0),
            created_at timestamptz NOT NULL DEFAULT now(),
            closed_at timestamptz,
            PRIMARY KEY (org_id, subject)
        )
    """)
    op.execute("CREATE INDEX estimates_closed ON estimates (org_id, closed_at) WHERE closed_at IS NOT NULL")
    tenant_table("estimates", grants="SELECT, INSERT, UPDATE")

    # How long those of a template lived, the newest first. None of these columns changes: updates stay cheap.
    op.execute("CREATE INDEX sandboxes_of_template ON sandboxes (org_id, template, id DESC) WHERE run_id IS NULL")

    # What ended long ago is deleted, oldest first. Its events go with a run, and by themselves nobody can delete any.
    op.execute("CREATE INDEX runs_ended ON runs (org_id, ended_at) WHERE ended_at IS NOT NULL")
    op.execute("CREATE INDEX sandboxes_ended ON sandboxes (org_id, stopped_at) WHERE stopped_at IS NOT NULL")
    op.execute("CREATE INDEX inference_calls_answered ON inference_calls (org_id, created_at) WHERE answer IS NOT NULL")
    op.execute("""
        ALTER TABLE run_events
            DROP CONSTRAINT run_events_org_id_run_id_fkey,
            ADD CONSTRAINT run_events_org_id_run_id_fkey
                FOREIGN KEY (org_id, run_id) REFERENCES runs (org_id, id) ON DELETE CASCADE
    """)

    # Who a run or sandbox was started by, person or key, and for which agent a sandbox works: its usage is theirs.
    op.execute("ALTER TABLE runs ADD created_by_actor text")
    op.execute("ALTER TABLE sandboxes ADD created_by_actor text, ADD agent_id uuid")
