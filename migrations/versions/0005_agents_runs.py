"""Agents and their versions, runs with their steps, tool calls and events."""

from alembic import op

from migrations.tenancy import definer, looked_up, tenant_table

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE agents (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
            live_version int NOT NULL,
            metadata jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (org_id, id)
        )
    """)
    op.execute("CREATE INDEX agents_org ON agents (org_id, id DESC)")
    tenant_table("agents")
    op.execute("""
        CREATE TABLE agent_versions (
            org_id uuid NOT NULL,
            agent_id uuid NOT NULL,
            version int NOT NULL CHECK (version > 0),
            config jsonb NOT NULL,
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (agent_id, version),
            UNIQUE (org_id, agent_id, version),
            FOREIGN KEY (org_id, agent_id) REFERENCES agents (org_id, id)
        )
    """)
    tenant_table("agent_versions", grants="SELECT, INSERT")

    op.execute("""
        CREATE TABLE runs (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            agent_id uuid NOT NULL,
            agent_version int NOT NULL,
            status text NOT NULL CHECK (
                status IN ('queued', 'preparing', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')
            ),
            end_reason text,
            input text NOT NULL,
            output text,
            failure text,
            budget_microusd bigint NOT NULL CHECK (budget_microusd > 0),
            cost_microusd bigint NOT NULL DEFAULT 0 CHECK (cost_microusd BETWEEN 0 AND budget_microusd),
            timeout_s int NOT NULL CHECK (timeout_s > 0),
            last_event_seq int NOT NULL DEFAULT 0,
            metadata jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            started_at timestamptz,
            ended_at timestamptz,
            progressed_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (org_id, id),
            FOREIGN KEY (org_id, agent_id, agent_version)
                REFERENCES agent_versions (org_id, agent_id, version)
        )
    """)
    op.execute("CREATE INDEX runs_org ON runs (org_id, id DESC)")
    op.execute("CREATE INDEX runs_unfinished ON runs (org_id, progressed_at) WHERE ended_at IS NULL")
    tenant_table("runs")
    looked_up("runs")

    op.execute("""
        CREATE TABLE run_steps (
            org_id uuid NOT NULL,
            run_id uuid NOT NULL,
            step_no int NOT NULL CHECK (step_no > 0),
            status text NOT NULL CHECK (status IN ('running', 'done')),
            claimed_by text NOT NULL,
            lease_until timestamptz NOT NULL,
            attempts int NOT NULL DEFAULT 1,
            message jsonb,
            cost_microusd bigint NOT NULL DEFAULT 0,
            started_at timestamptz NOT NULL DEFAULT now(),
            ended_at timestamptz,
            PRIMARY KEY (run_id, step_no),
            FOREIGN KEY (org_id, run_id) REFERENCES runs (org_id, id)
        )
    """)
    tenant_table("run_steps")
    op.execute("""
        CREATE TABLE run_tool_calls (
            org_id uuid NOT NULL,
            run_id uuid NOT NULL,
            step_no int NOT NULL,
            call_no int NOT NULL CHECK (call_no >= 0),
            provider_call_id text NOT NULL,
            name text NOT NULL,
            arguments text NOT NULL,
            status text NOT NULL CHECK (status IN ('requested', 'succeeded', 'failed')),
            result text,
            started_at timestamptz,
            ended_at timestamptz,
            PRIMARY KEY (run_id, step_no, call_no),
            FOREIGN KEY (org_id, run_id) REFERENCES runs (org_id, id)
        )
    """)
    tenant_table("run_tool_calls")
    op.execute("""
        CREATE TABLE run_events (
            org_id uuid NOT NULL,
            run_id uuid NOT NULL,
            seq int NOT NULL CHECK (seq > 0),
            type text NOT NULL,
            data jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (run_id, seq),
            FOREIGN KEY (org_id, run_id) REFERENCES runs (org_id, id)
        )
    """)
    tenant_table("run_events", grants="SELECT, INSERT")

    # Jobs that cross tenants ask this which tenants need them, then open one tenant transaction each.
    op.execute("""
        CREATE FUNCTION orgs_with_work(zombie_after interval)
        RETURNS SETOF uuid
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
        AS $$
            SELECT event.org_id FROM outbox event WHERE event.sent_at IS NULL
            UNION
            SELECT hold.org_id FROM credit_holds hold WHERE hold.status = 'open' AND hold.expires_at < now()
            UNION
            SELECT sandbox.org_id FROM sandboxes sandbox
             WHERE (sandbox.status IN ('starting', 'ready') AND sandbox.expires_at < now())
                OR sandbox.status = 'stopping'
            UNION
            SELECT run.org_id FROM runs run WHERE run.ended_at IS NULL AND run.progressed_at < now() - zombie_after
            UNION
            SELECT key.org_id FROM idempotency_keys key WHERE key.reserved_at < now() - interval '1 day'
        $$
    """)
    definer("orgs_with_work(interval)")
