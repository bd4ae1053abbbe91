"""The audit trail by month, with the actor's address, and the chain of hashes that shows what was removed or edited."""

from alembic import op

from migrations.tenancy import looked_up, tenant_table

revision = "0009"
down_revision = "0008"

# When something happened is the database's word: the application can't give `created_at`.
_GIVEN = "id, org_id, actor, actor_ip, action, resource_type, resource_id, old, new, request_id"
_BEFORE = "id, org_id, actor, action, resource_type, resource_id, old, new, request_id, created_at"


def upgrade() -> None:
    op.execute("ALTER TABLE audit_events RENAME TO audit_events_before")
    op.execute("ALTER TABLE audit_events_before RENAME CONSTRAINT audit_events_pkey TO audit_events_before_pkey")
    op.execute("ALTER INDEX audit_events_org RENAME TO audit_events_before_org")
    op.execute("""
        CREATE TABLE audit_events (
            id uuid NOT NULL,
            org_id uuid NOT NULL REFERENCES orgs (id),
            actor text NOT NULL,
            actor_ip text NOT NULL DEFAULT '',
            action text NOT NULL,
            resource_type text NOT NULL,
            resource_id text NOT NULL,
            old jsonb,
            new jsonb,
            request_id text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (id, created_at)
        ) PARTITION BY RANGE (created_at)
    """)
    op.execute("CREATE INDEX audit_events_org ON audit_events (org_id, id DESC)")
    op.execute("CREATE INDEX audit_events_actor ON audit_events (org_id, actor, id DESC)")
    op.execute("CREATE INDEX audit_events_resource ON audit_events (org_id, resource_id, id DESC)")
    # Takes what belongs to no month that was made: nothing is ever lost.
    op.execute("CREATE TABLE audit_events_default PARTITION OF audit_events DEFAULT")
    _make_months()
    _make_chain()
    # The rows of before are chained in the order in which they were written, by the trigger that chains all that
    # come. The owner sees them as long as row-level security is not forced on it.
    op.execute("ALTER TABLE audit_events_before NO FORCE ROW LEVEL SECURITY")
    op.execute(f"INSERT INTO audit_events ({_BEFORE}) SELECT {_BEFORE} FROM audit_events_before ORDER BY id")
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    op.execute("DROP TABLE audit_events_before")
    tenant_table("audit_events", grants=f"SELECT, INSERT ({_GIVEN})")
    op.execute("ALTER TABLE audit_events_default ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE audit_events_default FORCE ROW LEVEL SECURITY")
    op.execute("SELECT make_months('audit_events', 3)")


def _make_months() -> None:
    """Make the functions that give a table its partitions by month, in UTC, called by the schema's owner.

    Rows that fell into the default partition are moved before the new one is attached: they are the same rows, so no
    trigger may see them. The owner sees them while row-level security is not forced on it, within the transaction.
    Nobody reaches a partition but through its table.
    """
    op.execute("""
        CREATE FUNCTION make_month(parent text, month date) RETURNS boolean
        LANGUAGE plpgsql SET search_path = public, pg_temp
        AS $$
        DECLARE
            first_day timestamp := date_trunc('month', month::timestamp);
            begins timestamptz := first_day AT TIME ZONE 'UTC';
            ends timestamptz := (first_day + interval '1 month') AT TIME ZONE 'UTC';
            leftover text := parent || '_default';
            partition text := parent || to_char(first_day, '_YYYY_MM');
        BEGIN
            IF to_regclass(partition) IS NOT NULL THEN
                RETURN false;
            END IF;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition, parent);
            EXECUTE format(
                'WITH moved AS (DELETE FROM %I WHERE created_at >= %L AND created_at < %L RETURNING *)
                 INSERT INTO %I SELECT * FROM moved', leftover, begins, ends, partition);
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           parent, partition, begins, ends);
            RETURN true;
        END
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION make_month(text, date) FROM PUBLIC")
    op.execute("""
        CREATE FUNCTION make_months(parent text, ahead int) RETURNS int
        LANGUAGE plpgsql SET search_path = public, pg_temp
        AS $$
        DECLARE
            leftover text := parent || '_default';
            month timestamp;
            made int := 0;
        BEGIN
            EXECUTE format('ALTER TABLE %I NO FORCE ROW LEVEL SECURITY', leftover);
            FOR month IN EXECUTE format(
                $query$ SELECT date_trunc('month', created_at AT TIME ZONE 'UTC') FROM %I
                        UNION
                        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + each * interval '1 month'
                          FROM generate_series(0, $1) each
                         ORDER BY 1 $query$, leftover) USING ahead
            LOOP
                made := made + make_month(parent, month::date)::int;
            END LOOP;
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', leftover);
            RETURN made;
        END
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION make_months(text, int) FROM PUBLIC")


def _make_chain() -> None:
    """Make the chain, appended to as a transaction commits: each tenant's events in the order of their commits."""
    op.execute("""
        CREATE TABLE audit_chain (
            org_id uuid NOT NULL REFERENCES orgs (id),
            seq bigint NOT NULL,
            event_id uuid NOT NULL,
            event_created_at timestamptz NOT NULL,
            previous bytea NOT NULL,
            hash bytea NOT NULL,
            PRIMARY KEY (org_id, seq),
            CONSTRAINT audit_chain_once UNIQUE (org_id, event_id)
        )
    """)
    tenant_table("audit_chain", grants="SELECT")
    looked_up("audit_chain")
    op.execute("GRANT INSERT ON audit_chain TO runyard_definer")
    op.execute("CREATE POLICY chain ON audit_chain FOR INSERT TO runyard_definer WITH CHECK (true)")
    # The canonical form of an event: a JSON array of all that it says, in this order, as Postgres spells jsonb.
    op.execute("""
        CREATE FUNCTION audit_hash(previous bytea, seq bigint, event audit_events) RETURNS bytea
        LANGUAGE sql STABLE
        AS $$
            SELECT sha256(previous || convert_to(jsonb_build_array(
                seq, event.id, event.org_id, event.actor, event.actor_ip, event.action, event.resource_type,
                event.resource_id, event.old::text, event.new::text, event.request_id,
                (extract(epoch FROM event.created_at) * 1000000)::bigint
            )::text, 'UTF8'))
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION audit_hash(bytea, bigint, audit_events) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION audit_hash(bytea, bigint, audit_events) TO runyard_app, runyard_definer")
    # The lock is the last that a transaction takes, and is held while it commits: use cases can't deadlock on it.
    op.execute("""
        CREATE FUNCTION audit_chain_append() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
        AS $$
        DECLARE
            head audit_chain;
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended(NEW.org_id::text, 9));
            SELECT * INTO head FROM audit_chain WHERE org_id = NEW.org_id ORDER BY seq DESC LIMIT 1;
            head.seq := coalesce(head.seq, 0) + 1;
            head.previous := coalesce(head.hash, decode(repeat('00', 32), 'hex'));
            INSERT INTO audit_chain (org_id, seq, event_id, event_created_at, previous, hash)
            VALUES (NEW.org_id, head.seq, NEW.id, NEW.created_at, head.previous,
                    audit_hash(head.previous, head.seq, NEW));
            RETURN NULL;
        END
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION audit_chain_append() FROM PUBLIC")
    op.execute("ALTER FUNCTION audit_chain_append() OWNER TO runyard_definer")
    op.execute("""
        CREATE CONSTRAINT TRIGGER audit_chain_append AFTER INSERT ON audit_events
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_chain_append()
    """)
