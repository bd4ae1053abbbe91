"""The model gateway: calls recorded whole, budgets, routes, providers with keys of an org's own, and its own prices."""

from alembic import op

from migrations.tenancy import look_up, looked_up, tenant_table

revision = "0013"
down_revision = "0012"

# Its providers are the platform's own: those that every tenant's calls may go to.
_OPERATOR = "00000000-0000-7000-8000-000000000001"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # `prompt`, and the answers of calls that can't be repeated, are there only where the org asked for it.
    op.execute("""
        ALTER TABLE inference_calls
            ADD request_id text NOT NULL DEFAULT '',
            ADD provider text NOT NULL DEFAULT '',
            ADD route text NOT NULL DEFAULT '',
            ADD written_tokens bigint NOT NULL DEFAULT 0 CHECK (written_tokens >= 0),
            ADD reasoning_tokens bigint NOT NULL DEFAULT 0 CHECK (reasoning_tokens >= 0),
            ADD cache text NOT NULL DEFAULT 'off' CHECK (cache IN ('off', 'miss', 'hit', 'stale')),
            ADD outcome text NOT NULL DEFAULT 'ok' CHECK (outcome IN ('ok', 'failed', 'broken', 'cancelled')),
            ADD error_code text,
            ADD estimated boolean NOT NULL DEFAULT false,
            ADD streamed boolean NOT NULL DEFAULT false,
            ADD attempts smallint NOT NULL DEFAULT 1,
            ADD queue_ms bigint NOT NULL DEFAULT 0,
            ADD first_token_ms bigint,
            ADD finish_reason text,
            ADD agent_id text NOT NULL DEFAULT '',
            ADD person_id text NOT NULL DEFAULT '',
            ADD key_id text NOT NULL DEFAULT '',
            ADD run_id text NOT NULL DEFAULT '',
            ADD prompt jsonb
    """)
    op.execute("CREATE INDEX inference_calls_run ON inference_calls (org_id, run_id, id DESC) WHERE run_id <> ''")
    op.execute("CREATE INDEX inference_calls_prompted ON inference_calls (org_id, created_at) WHERE prompt IS NOT NULL")

    # A budget is for one key, person, agent or run, or (`subject` empty) for each of them by itself; an org's own has
    # an empty subject too.
    op.execute("""
        CREATE TABLE inference_budgets (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            scope text NOT NULL CHECK (scope IN ('org', 'key', 'person', 'agent', 'run')),
            subject text NOT NULL DEFAULT '',
            period text NOT NULL CHECK (period IN ('day', 'month', 'total')),
            limit_microusd bigint NOT NULL CHECK (limit_microusd >= 0),
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT inference_budgets_once UNIQUE (org_id, scope, subject, period),
            CONSTRAINT inference_budgets_tenant UNIQUE (org_id, id),
            CONSTRAINT inference_budgets_org_has_no_subject CHECK (scope <> 'org' OR subject = '')
        )
    """)
    tenant_table("inference_budgets")
    # What was spent and is held of a budget by one subject in one period: the row that concurrent calls lock.
    op.execute("""
        CREATE TABLE inference_budget_spending (
            org_id uuid NOT NULL,
            budget_id uuid NOT NULL,
            subject text NOT NULL,
            period_start date NOT NULL,
            spent_microusd bigint NOT NULL DEFAULT 0 CHECK (spent_microusd >= 0),
            held_microusd bigint NOT NULL DEFAULT 0 CHECK (held_microusd >= 0),
            PRIMARY KEY (org_id, budget_id, subject, period_start),
            FOREIGN KEY (org_id, budget_id) REFERENCES inference_budgets (org_id, id) ON DELETE CASCADE
        )
    """)
    tenant_table("inference_budget_spending")
    # What a call under way holds of a budget, until it is closed or, its worker having died, its time is up.
    op.execute("""
        CREATE TABLE inference_budget_holds (
            org_id uuid NOT NULL,
            call_id uuid NOT NULL,
            budget_id uuid NOT NULL,
            subject text NOT NULL,
            period_start date NOT NULL,
            amount_microusd bigint NOT NULL CHECK (amount_microusd >= 0),
            expires_at timestamptz NOT NULL,
            PRIMARY KEY (org_id, call_id, budget_id),
            FOREIGN KEY (org_id, budget_id, subject, period_start)
                REFERENCES inference_budget_spending (org_id, budget_id, subject, period_start) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX inference_budget_holds_overdue ON inference_budget_holds (org_id, expires_at)")
    tenant_table("inference_budget_holds", grants="SELECT, INSERT, DELETE")
    looked_up("inference_budget_holds")
    look_up(
        "orgs_with_expired_budget_holds",
        "",
        "SETOF uuid",
        "SELECT DISTINCT held.org_id FROM inference_budget_holds held WHERE held.expires_at < now()",
    )

    op.execute("""
        CREATE TABLE inference_routes (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            name text NOT NULL,
            policy jsonb NOT NULL,
            version int NOT NULL DEFAULT 1,
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT inference_routes_once UNIQUE (org_id, name)
        )
    """)
    tenant_table("inference_routes")

    # The key itself is in Secrets Manager. `models` are those that a plain model name finds here.
    op.execute("""
        CREATE TABLE inference_providers (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            name text NOT NULL,
            kind text NOT NULL CHECK (kind IN ('openai', 'anthropic', 'bedrock')),
            base_url text NOT NULL DEFAULT '',
            region text NOT NULL DEFAULT '',
            models text[] NOT NULL DEFAULT '{}',
            secret_arn text NOT NULL DEFAULT '',
            key_hint text NOT NULL DEFAULT '',
            enabled boolean NOT NULL DEFAULT true,
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            rotated_at timestamptz,
            CONSTRAINT inference_providers_once UNIQUE (org_id, name)
        )
    """)
    tenant_table("inference_providers")
    looked_up("inference_providers")
    look_up(
        "platform_providers",
        "",
        "TABLE (id uuid, name text, kind text, base_url text, region text, models text[], secret_arn text)",
        f"""SELECT provider.id, provider.name, provider.kind, provider.base_url, provider.region, provider.models,
                   provider.secret_arn
              FROM inference_providers provider
             WHERE provider.org_id = '{_OPERATOR}' AND provider.enabled""",
    )

    op.execute("""
        CREATE TABLE inference_settings (
            org_id uuid PRIMARY KEY REFERENCES orgs (id),
            cache_ttl_s int NOT NULL DEFAULT 300 CHECK (cache_ttl_s BETWEEN 0 AND 86400),
            record_content boolean NOT NULL DEFAULT false,
            content_retention_days int NOT NULL DEFAULT 30 CHECK (content_retention_days BETWEEN 1 AND 365),
            redact text[] NOT NULL DEFAULT '{}',
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    tenant_table("inference_settings", grants="SELECT, INSERT, UPDATE")

    # What a tenant pays for a model instead of what the price book says; what has been in force is never changed.
    op.execute("""
        CREATE TABLE org_prices (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            model text NOT NULL,
            effective_from timestamptz NOT NULL,
            input_microusd bigint CHECK (input_microusd >= 0),
            cached_microusd bigint CHECK (cached_microusd >= 0),
            written_microusd bigint CHECK (written_microusd >= 0),
            output_microusd bigint CHECK (output_microusd >= 0),
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT org_prices_once UNIQUE (org_id, model, effective_from),
            CONSTRAINT org_prices_whole CHECK (num_nulls(input_microusd, cached_microusd, written_microusd,
                                                         output_microusd) IN (0, 4))
        )
    """)
    tenant_table("org_prices", grants="SELECT, INSERT, DELETE")
