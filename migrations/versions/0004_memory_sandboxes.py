"""Memories with their two indexes, sandboxes and their commands."""

from alembic import op

from migrations.tenancy import CURRENT_ORG, definer, looked_up, tenant_table

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE memories (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            subject text NOT NULL,
            content text NOT NULL,
            importance real NOT NULL CHECK (importance BETWEEN 0 AND 1),
            tags text[] NOT NULL DEFAULT '{}',
            source_id text NOT NULL,
            embedding vector(384) NOT NULL,
            embedding_model text NOT NULL,
            words tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED,
            metadata jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT memories_once UNIQUE (org_id, source_id)
        )
    """)
    op.execute("CREATE INDEX memories_subject ON memories (org_id, subject, id DESC)")
    op.execute("CREATE INDEX memories_words ON memories USING gin (words)")
    tenant_table("memories")
    looked_up("memories")
    # Text search is not leakproof, so under row-level security the planner won't use its index. This function may,
    # and applies the tenant itself: from the same setting, never from an argument.
    op.execute(f"""
        CREATE FUNCTION memories_by_words(query tsquery, of_subject text, take int)
        RETURNS TABLE (id uuid, rank real)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
        AS $$
            SELECT memory.id, ts_rank(memory.words, query)
              FROM memories memory
             WHERE memory.org_id = {CURRENT_ORG}
               AND memory.words @@ query
               AND (of_subject IS NULL OR memory.subject = of_subject)
             ORDER BY 2 DESC, 1 DESC
             LIMIT take
        $$
    """)
    definer("memories_by_words(tsquery, text, int)")

    op.execute("""
        CREATE TABLE sandboxes (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            run_id uuid,
            template text NOT NULL,
            cpu_units int NOT NULL,
            memory_mib int NOT NULL,
            status text NOT NULL CHECK (status IN ('starting', 'ready', 'stopping', 'stopped', 'failed')),
            reason text,
            task_arn text,
            address text,
            access_token text,
            registration_sha256 bytea CONSTRAINT sandboxes_registration_unique UNIQUE,
            wake_token text,
            cost_microusd bigint NOT NULL DEFAULT 0,
            metadata jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            ready_at timestamptz,
            last_used_at timestamptz,
            stopped_at timestamptz,
            expires_at timestamptz NOT NULL,
            UNIQUE (org_id, id)
        )
    """)
    op.execute("CREATE UNIQUE INDEX sandboxes_one_per_run ON sandboxes (run_id) WHERE run_id IS NOT NULL")
    op.execute("CREATE INDEX sandboxes_org ON sandboxes (org_id, id DESC)")
    op.execute(
        "CREATE INDEX sandboxes_alive ON sandboxes (expires_at) WHERE status IN ('starting', 'ready', 'stopping')"
    )
    tenant_table("sandboxes")
    looked_up("sandboxes")
    op.execute("""
        CREATE FUNCTION sandbox_by_registration(wanted bytea)
        RETURNS TABLE (id uuid, org_id uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
        AS $$ SELECT sandbox.id, sandbox.org_id FROM sandboxes sandbox WHERE sandbox.registration_sha256 = wanted $$
    """)
    definer("sandbox_by_registration(bytea)")
    op.execute("""
        CREATE TABLE sandbox_commands (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL,
            sandbox_id uuid NOT NULL,
            source_id text NOT NULL,
            command jsonb NOT NULL,
            status text NOT NULL,
            exit_code int,
            stdout text NOT NULL DEFAULT '',
            stderr text NOT NULL DEFAULT '',
            truncated boolean NOT NULL DEFAULT false,
            duration_ms bigint,
            created_at timestamptz NOT NULL DEFAULT now(),
            ended_at timestamptz,
            FOREIGN KEY (org_id, sandbox_id) REFERENCES sandboxes (org_id, id),
            CONSTRAINT sandbox_commands_once UNIQUE (org_id, sandbox_id, source_id)
        )
    """)
    tenant_table("sandbox_commands")
