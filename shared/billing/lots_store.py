"""SQL of credit lots. The account is locked before they are read to be spent, and before they change."""

from datetime import datetime
from typing import LiteralString

from psycopg import Cursor

from shared.billing.change import Change
from shared.billing.lots import Lot, LotKind, NextExpiry
from shared.kernel import arrays
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

COLUMNS: LiteralString = """
    id, kind, source_id, priority, amount_microusd, remaining_microusd, expires_at, created_at
"""
# In the order in which they are spent: by priority, then what ends first, then what came first.
TO_SPEND: LiteralString = f"""
    SELECT {COLUMNS} FROM credit_lots WHERE has_credits ORDER BY priority, expires_at, id LIMIT %(limit)s
"""
# Those that holds under way were taken from, into which they may give something back.
TOUCHED: LiteralString = f"""
    SELECT {COLUMNS} FROM credit_lots
     WHERE id IN (SELECT unnest(lot_ids) FROM credit_holds
                   WHERE source_id = ANY(%(sources)s::text[]) AND status = 'open')
"""
ENDED: LiteralString = f"""
    SELECT {COLUMNS} FROM credit_lots WHERE has_credits AND expires_at <= %(now)s ORDER BY expires_at, id
"""
LIST: LiteralString = f"""
    SELECT {COLUMNS} FROM credit_lots
     WHERE %(before)s::uuid IS NULL OR id < %(before)s ORDER BY id DESC LIMIT %(limit)s
"""
NEXT_EXPIRY: LiteralString = """
    SELECT sum(remaining_microusd)::bigint AS amount_microusd, expires_at AS at
      FROM credit_lots WHERE has_credits AND expires_at > %(now)s
     GROUP BY expires_at ORDER BY expires_at LIMIT 1
"""
MAKE: LiteralString = """
    INSERT INTO credit_lots (id, org_id, kind, source_id, priority, amount_microusd, remaining_microusd, expires_at,
                             created_at)
    SELECT %(id)s, org_id, %(kind)s, %(source_id)s, %(priority)s, %(amount)s, %(amount)s, %(expires_at)s,
           %(created_at)s
      FROM credit_accounts
"""
MOVE: LiteralString = """
    UPDATE credit_lots lot
       SET remaining_microusd = lot.remaining_microusd + moved.amount,
           withdrawn_microusd = lot.withdrawn_microusd + moved.withdrawn
      FROM unnest(%(ids)s::uuid[], %(amounts)s::bigint[], %(withdrawn)s::bigint[]) AS moved (id, amount, withdrawn)
     WHERE lot.id = moved.id
"""
# As many as nearly every tenant has; whoever needs more reads all of them.
FEW = 32


def ask_for_few(tx: Tx) -> Cursor[Row]:
    """Ask, within a pipeline, for the lots that are spent first."""
    return tx.execute(TO_SPEND, {"limit": FEW})


def ask_for_touched(tx: Tx, sources: str) -> Cursor[Row]:
    """Ask, within a pipeline, for the lots of these open holds; `sources` in Postgres's notation."""
    return tx.execute(TOUCHED, {"sources": sources})


def enough(
    tx: Tx, few: Cursor[Row], amount_microusd: int, *, now: datetime, touched: Cursor[Row] | None = None
) -> list[Lot]:
    """Return the lots asked for, or every lot where those don't suffice for the amount, in the order of spending.

    Touched ones are among them: where not every lot was read, those that were suffice before any that comes later.
    """
    lots = [_lot(row) for row in few]
    usable = sum(lot.remaining_microusd for lot in lots if not lot.ended(now))
    if len(lots) == FEW and usable < amount_microusd:
        lots = to_spend(tx)
    if touched is None:
        return lots
    found = {lot.id: lot for lot in [*lots, *map(_lot, touched)]}
    return sorted(found.values(), key=Lot.spent_before)


def to_spend(tx: Tx) -> list[Lot]:
    return [_lot(row) for row in tx.execute(TO_SPEND, {"limit": None})]


def ended(tx: Tx, *, now: datetime) -> list[Lot]:
    """Return the lots that are over and not empty."""
    return [_lot(row) for row in tx.execute(ENDED, {"now": now})]


def list_lots(tx: Tx, asked: Slice) -> list[Lot]:
    return [_lot(row) for row in tx.execute(LIST, {"before": asked.before, "limit": asked.limit + 1})]


def next_expiry(tx: Tx, *, now: datetime) -> NextExpiry | None:
    row = tx.execute(NEXT_EXPIRY, {"now": now}).fetchone()
    return None if row is None else NextExpiry(**row)


def make(tx: Tx, lot: Lot) -> None:
    tx.execute(
        MAKE,
        {
            "id": lot.id,
            "kind": lot.kind.value,
            "source_id": lot.source_id,
            "priority": lot.priority,
            "amount": lot.amount_microusd,
            "expires_at": lot.expires_at,
            "created_at": lot.created_at,
        },
    )


def move(tx: Tx, change: Change) -> Cursor[Row] | None:
    # What was given back to a lot that is over, and expired at once, has left the lot as it was.
    lots = [lot_id for lot_id, amount in change.moved.items() if amount]
    if not lots:
        return None
    return tx.execute(
        MOVE,
        {
            "ids": arrays.plain(lots),
            "amounts": arrays.plain(change.moved[lot_id] for lot_id in lots),
            "withdrawn": arrays.plain(change.withdrawn.get(lot_id, 0) for lot_id in lots),
        },
    )


def _lot(row: Row) -> Lot:
    return Lot(**row | {"kind": LotKind(row["kind"])})
