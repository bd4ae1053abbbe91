"""The usage ledger by month, its claims, calls under way to be counted, and what each day comes to."""

from alembic import op

from migrations.tenancy import look_up, looked_up, tenant_table

revision = "0010"
down_revision = "0009"

_BEFORE = "id, org_id, kind, quantity, unit, cost_microusd, source_id, dimensions, occurred_at, recorded_at"


def upgrade() -> None:
    _months_of_any_column()
    _make_ledger()
    _make_counters()
    _make_days()


def _months_of_any_column() -> None:
    """Let `make_months` divide a table by whichever column it is partitioned by, instead of `created_at` alone."""
    op.execute("""
        CREATE OR REPLACE FUNCTION make_month(parent text, month date) RETURNS boolean
        LANGUAGE plpgsql SET search_path = public, pg_temp
        AS $$
        DECLARE
            first_day timestamp := date_trunc('month', month::timestamp);
            begins timestamptz := first_day AT TIME ZONE 'UTC';
            ends timestamptz := (first_day + interval '1 month') AT TIME ZONE 'UTC';
            leftover text := parent || '_default';
            partition text := parent || to_char(first_day, '_YYYY_MM');
            moment text := partitioned_by(parent);
        BEGIN
            IF to_regclass(partition) IS NOT NULL THEN
                RETURN false;
            END IF;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition, parent);
            EXECUTE format(
                'WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *)
                 INSERT INTO %I SELECT * FROM moved', leftover, moment, begins, moment, ends, partition);
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           parent, partition, begins, ends);
            RETURN true;
        END
        $$
    """)
    op.execute("""
        CREATE OR REPLACE FUNCTION make_months(parent text, ahead int) RETURNS int
        LANGUAGE plpgsql SET search_path = public, pg_temp
        AS $$
        DECLARE
            leftover text := parent || '_default';
            month timestamp;
            made int := 0;
        BEGIN
            EXECUTE format('ALTER TABLE %I NO FORCE ROW LEVEL SECURITY', leftover);
            FOR month IN EXECUTE format(
                $query$ SELECT date_trunc('month', %I AT TIME ZONE 'UTC') FROM %I
                        UNION
                        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + each * interval '1 month'
                          FROM generate_series(0, $1) each
                         ORDER BY 1 $query$, partitioned_by(parent), leftover) USING ahead
            LOOP
                made := made + make_month(parent, month::date)::int;
            END LOOP;
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', leftover);
            RETURN made;
        END
        $$
    """)
    op.execute("""
        CREATE FUNCTION partitioned_by(parent text) RETURNS text
        LANGUAGE sql STABLE SET search_path = public, pg_temp
        AS $$
            SELECT attribute.attname
              FROM pg_partitioned_table divided
              JOIN pg_attribute attribute
                ON attribute.attrelid = divided.partrelid AND attribute.attnum = divided.partattrs[0]
             WHERE divided.partrelid = parent::regclass
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION partitioned_by(text) FROM PUBLIC")


def _make_ledger() -> None:
    op.execute("ALTER TABLE usage_events RENAME TO usage_events_before")
    op.execute("DROP INDEX usage_events_org")
    op.execute("DROP INDEX usage_events_when")
    op.execute("ALTER TABLE usage_events_before DROP CONSTRAINT usage_events_pkey")
    # `unit_price_microusd` is what `price_units` units cost, e.g. 1,250,000 for a million tokens; a part of a
    # micro-dollar is possible there (a quarter of a vCPU), never in a cost.
    op.execute("""
        CREATE TABLE usage_events (
            id uuid NOT NULL,
            org_id uuid NOT NULL REFERENCES orgs (id),
            kind text NOT NULL,
            quantity bigint NOT NULL CHECK (quantity >= 0),
            unit text NOT NULL,
            unit_price_microusd numeric NOT NULL DEFAULT 0 CHECK (unit_price_microusd >= 0),
            price_units bigint NOT NULL DEFAULT 1 CHECK (price_units > 0),
            cost_microusd bigint NOT NULL CHECK (cost_microusd >= 0),
            source_id text NOT NULL,
            dimensions jsonb NOT NULL DEFAULT '{}',
            occurred_at timestamptz NOT NULL,
            recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (org_id, id, occurred_at)
        ) PARTITION BY RANGE (occurred_at)
    """)
    op.execute("CREATE INDEX usage_events_when ON usage_events (org_id, occurred_at)")
    # Rows are appended in the order in which they are recorded: a few pages tell which were since a moment.
    op.execute(
        "CREATE INDEX usage_events_recorded ON usage_events USING brin (recorded_at) WITH (pages_per_range = 16)"
    )
    op.execute("CREATE TABLE usage_events_default PARTITION OF usage_events DEFAULT")
    # What was counted once stays counted, whatever month it belongs to: a constraint of the divided table would have
    # to name the month as well.
    op.execute("""
        CREATE TABLE usage_claims (
            org_id uuid NOT NULL,
            source_id text COLLATE "C" NOT NULL,
            kind text COLLATE "C" NOT NULL,
            CONSTRAINT usage_claims_once PRIMARY KEY (org_id, source_id, kind)
        )
    """)
    op.execute("ALTER TABLE usage_events_before NO FORCE ROW LEVEL SECURITY")
    op.execute(f"INSERT INTO usage_events ({_BEFORE}) SELECT {_BEFORE} FROM usage_events_before ORDER BY id")
    op.execute("INSERT INTO usage_claims SELECT org_id, source_id, kind FROM usage_events_before")
    op.execute("DROP TABLE usage_events_before")
    tenant_table("usage_events", grants="SELECT, INSERT")
    looked_up("usage_events")
    tenant_table("usage_claims", grants="SELECT, INSERT")
    op.execute("ALTER TABLE usage_events_default ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE usage_events_default FORCE ROW LEVEL SECURITY")
    op.execute("SELECT make_months('usage_events', 3)")


def _make_counters() -> None:
    """Requests are counted in rows of their own, a few for each caller and five minutes, until the window closes."""
    op.execute("""
        CREATE TABLE api_calls (
            org_id uuid NOT NULL,
            window_start timestamptz NOT NULL,
            actor_id text COLLATE "C" NOT NULL,
            person_id uuid,
            shard smallint NOT NULL,
            calls bigint NOT NULL CHECK (calls > 0),
            PRIMARY KEY (org_id, window_start, actor_id, shard)
        ) WITH (fillfactor = 50)
    """)
    tenant_table("api_calls")
    looked_up("api_calls")


def _make_days() -> None:
    # '' is a value like others in the key: an event without a model, an agent, a person or a key. Sums of what fits a
    # bigint needn't fit one.
    op.execute("""
        CREATE TABLE usage_daily (
            org_id uuid NOT NULL REFERENCES orgs (id),
            day date NOT NULL,
            kind text NOT NULL,
            agent_id text NOT NULL DEFAULT '',
            person_id text NOT NULL DEFAULT '',
            key_id text NOT NULL DEFAULT '',
            model text NOT NULL DEFAULT '',
            quantity numeric NOT NULL CHECK (quantity >= 0),
            cost_microusd numeric NOT NULL CHECK (cost_microusd >= 0),
            events bigint NOT NULL CHECK (events > 0),
            PRIMARY KEY (org_id, day, kind, agent_id, person_id, key_id, model)
        )
    """)
    tenant_table("usage_daily")
    # When a day of a tenant was last added up: a job that is started over knows what it did.
    op.execute("""
        CREATE TABLE usage_days (
            org_id uuid NOT NULL REFERENCES orgs (id),
            day date NOT NULL,
            aggregated_at timestamptz NOT NULL,
            PRIMARY KEY (org_id, day)
        )
    """)
    tenant_table("usage_days")
    # Up to when all days of a tenant are added up: what was recorded before is in them, however late it came.
    op.execute("""
        CREATE TABLE usage_watermarks (
            org_id uuid PRIMARY KEY REFERENCES orgs (id),
            added_until timestamptz NOT NULL
        )
    """)
    tenant_table("usage_watermarks")
    looked_up("usage_watermarks")
    # The first 48 bits of an id are the milliseconds at which the event was recorded. To take the newest of each tenant
    # is one look into the primary key; whether there is one since a moment would be guessed to be quick either way.
    look_up(
        "orgs_with_days_to_add",
        "after uuid, amount int, unseen_for interval",
        "SETOF uuid",
        """
            SELECT org.id
              FROM orgs org
              LEFT JOIN usage_watermarks watermark ON watermark.org_id = org.id
             CROSS JOIN LATERAL (
                SELECT event.id FROM usage_events event WHERE event.org_id = org.id ORDER BY event.id DESC LIMIT 1
             ) newest
             CROSS JOIN LATERAL (
                SELECT coalesce(extract(epoch FROM watermark.added_until - unseen_for) * 1000, 0)::bigint AS ms
             ) recorded
             WHERE org.id > after
               AND newest.id >= rpad(lpad(to_hex(recorded.ms), 12, '0'), 32, '0')::uuid
             ORDER BY org.id LIMIT amount
        """,
    )
    look_up(
        "orgs_with_usage_between",
        "after uuid, amount int, first_day date, last_day date",
        "SETOF uuid",
        """
            SELECT org.id
              FROM orgs org
             CROSS JOIN LATERAL (
                SELECT event.occurred_at
                  FROM usage_events event
                 WHERE event.org_id = org.id AND event.occurred_at >= first_day::timestamp AT TIME ZONE 'UTC'
                 ORDER BY event.occurred_at LIMIT 1
             ) earliest
             WHERE org.id > after
               AND earliest.occurred_at < (last_day + 1)::timestamp AT TIME ZONE 'UTC'
             ORDER BY org.id LIMIT amount
        """,
    )
    look_up(
        "orgs_with_calls_to_close",
        "closed_before timestamptz",
        "SETOF uuid",
        "SELECT DISTINCT counted.org_id FROM api_calls counted WHERE counted.window_start < closed_before",
    )
