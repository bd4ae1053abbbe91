"""Credits in lots with a priority and an end, expiries and adjustments, and what is owed beyond them."""

from alembic import op

from migrations.tenancy import look_up, looked_up, tenant_table

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # A lot is what one grant, refund or adjustment brought and what is left of it. The lots of a tenant sum up to its
    # available credits; a hold takes from them in the order of priority, then of expiry.
    op.execute("""
        CREATE TABLE credit_lots (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            kind text NOT NULL CHECK (kind IN ('purchase', 'plan', 'promo', 'refund', 'adjustment')),
            source_id text NOT NULL,
            priority int NOT NULL,
            amount_microusd bigint NOT NULL CHECK (amount_microusd > 0),
            remaining_microusd bigint NOT NULL CHECK (remaining_microusd BETWEEN 0 AND amount_microusd),
            withdrawn_microusd bigint NOT NULL DEFAULT 0 CHECK (withdrawn_microusd BETWEEN 0 AND amount_microusd),
            expires_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            has_credits boolean NOT NULL GENERATED ALWAYS AS (remaining_microusd > 0) STORED
        ) WITH (fillfactor = 50)
    """)
    # What is left of a lot changes with each hold: the indexes name a column that seldom does, so that they stay as
    # they are meanwhile.
    op.execute("""
        CREATE INDEX credit_lots_to_spend ON credit_lots (org_id, priority, expires_at, id) WHERE has_credits
    """)
    op.execute("CREATE INDEX credit_lots_to_expire ON credit_lots (expires_at) WHERE has_credits")
    # From which lots a hold was taken, in the order in which it spends them, and when those end. What it has settled
    # tells what of each is spent.
    op.execute("ALTER TABLE credit_holds ADD lot_ids uuid[] NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE credit_holds ADD lot_amounts bigint[] NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE credit_holds ADD lot_expiries timestamptz[] NOT NULL DEFAULT '{}'")
    # What a charge added to the debt, or, below zero, took from it: these sum up to `credit_accounts.owed_microusd`.
    op.execute("ALTER TABLE credit_holds ADD owed_microusd bigint NOT NULL DEFAULT 0")
    # The hold or the lot that an entry is about, and which part of its cause where there are several.
    op.execute("ALTER TABLE credit_entries ADD subject_id uuid")
    op.execute("ALTER TABLE credit_entries ADD part_id text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE credit_entries DROP CONSTRAINT credit_entries_once")
    op.execute(
        "ALTER TABLE credit_entries ADD CONSTRAINT credit_entries_once UNIQUE (org_id, kind, source_id, part_id)"
    )
    op.execute("ALTER TABLE credit_entries DROP CONSTRAINT credit_entries_kind_check")
    op.execute("""
        ALTER TABLE credit_entries ADD CONSTRAINT credit_entries_kind_check CHECK (kind IN (
            'grant', 'hold', 'settle', 'release', 'refund', 'expire', 'adjust_up', 'adjust_down'
        ))
    """)
    # Metered after the fact and beyond what was available: collected from what is granted next.
    op.execute("ALTER TABLE credit_accounts ADD owed_microusd bigint NOT NULL DEFAULT 0 CHECK (owed_microusd >= 0)")
    _lots_of_before()
    tenant_table("credit_lots", grants="SELECT, INSERT, UPDATE")
    looked_up("credit_lots")
    look_up(
        "orgs_with_expired_credits",
        "",
        "SETOF uuid",
        "SELECT DISTINCT lot.org_id FROM credit_lots lot WHERE lot.has_credits AND lot.expires_at <= now()",
    )


def _lots_of_before() -> None:
    """Give each account one lot of all that it was ever given, its holds their part of it, its entries their cause."""
    tables = ("credit_accounts", "credit_holds", "credit_entries")
    for table in tables:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    # An id of the year 1970: older than every lot that follows.
    op.execute("""
        INSERT INTO credit_lots (id, org_id, kind, source_id, priority, amount_microusd, remaining_microusd)
        SELECT ('00000000-0000-7' || substr(gen_random_uuid()::text, 16))::uuid, org_id, 'purchase', 'before lots', 200,
               granted_microusd + refunded_microusd,
               granted_microusd + refunded_microusd - settled_microusd - expired_microusd - held_microusd
          FROM credit_accounts
         WHERE granted_microusd + refunded_microusd > 0
    """)
    op.execute("""
        UPDATE credit_holds hold
           SET lot_ids = ARRAY[lot.id], lot_amounts = ARRAY[hold.amount_microusd],
               lot_expiries = ARRAY[NULL]::timestamptz[]
          FROM credit_lots lot
         WHERE lot.org_id = hold.org_id AND hold.amount_microusd > 0
    """)
    op.execute("""
        UPDATE credit_entries entry SET subject_id = hold.id
          FROM credit_holds hold
         WHERE hold.org_id = entry.org_id AND hold.source_id = entry.source_id
           AND entry.kind IN ('hold', 'settle', 'release')
    """)
    op.execute("""
        UPDATE credit_entries entry SET subject_id = lot.id
          FROM credit_lots lot
         WHERE lot.org_id = entry.org_id AND entry.kind IN ('grant', 'refund')
    """)
    for table in tables:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
