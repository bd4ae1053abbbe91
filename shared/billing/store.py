"""SQL of the credit ledger. Whoever writes locks the tenant's account first: no two writers, no deadlock."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Cursor

from shared.billing.model import Balance, Entry, EntryKind, Hold, HoldStatus
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

BALANCE: LiteralString = """
    SELECT granted_microusd, refunded_microusd, settled_microusd, expired_microusd, held_microusd, entries
      FROM credit_accounts
"""
LOCK: LiteralString = BALANCE + " FOR UPDATE"
OPEN_ACCOUNT: LiteralString = "INSERT INTO credit_accounts (org_id) VALUES (%(org_id)s) ON CONFLICT DO NOTHING"
# The account and its entries change together or not at all. `entries` is compared so that a writer who hadn't locked
# the account would change nothing instead of losing somebody's entry.
POST: LiteralString = """
    WITH account AS (
        UPDATE credit_accounts
           SET granted_microusd = %(granted_microusd)s, refunded_microusd = %(refunded_microusd)s,
               settled_microusd = %(settled_microusd)s, expired_microusd = %(expired_microusd)s,
               held_microusd = %(held_microusd)s, entries = %(entries)s
         WHERE entries = %(entries)s - cardinality(%(ids)s::uuid[])
        RETURNING org_id
    )
    INSERT INTO credit_entries (org_id, id, entry_no, kind, amount_microusd, source_id, reason,
                                available_after_microusd, held_after_microusd, created_at)
    SELECT account.org_id, entry.*
      FROM account, unnest(%(ids)s::uuid[], %(numbers)s::bigint[], %(kinds)s::text[], %(amounts)s::bigint[],
                           %(sources)s::text[], %(reasons)s::text[], %(available)s::bigint[], %(held)s::bigint[],
                           %(times)s::timestamptz[]) AS entry
"""
ENTRY_COLUMNS: LiteralString = """
    id, entry_no, kind, amount_microusd, source_id, reason, available_after_microusd, held_after_microusd, created_at
"""
FIND_ENTRY: LiteralString = f"""
    SELECT {ENTRY_COLUMNS} FROM credit_entries WHERE kind = %(kind)s AND source_id = %(source_id)s
"""
LIST_ENTRIES: LiteralString = f"""
    SELECT {ENTRY_COLUMNS} FROM credit_entries
     WHERE %(before)s::uuid IS NULL
        OR entry_no < (SELECT cursor.entry_no FROM credit_entries cursor WHERE cursor.id = %(before)s)
     ORDER BY entry_no DESC LIMIT %(limit)s
"""
HOLD_COLUMNS: LiteralString = """
    id, source_id, amount_microusd, settled_microusd, status, created_at, expires_at, closed_at
"""
FIND_HOLD: LiteralString = f"SELECT {HOLD_COLUMNS} FROM credit_holds WHERE source_id = %(source_id)s"
EXPIRED_HOLDS: LiteralString = f"""
    SELECT {HOLD_COLUMNS} FROM credit_holds WHERE status = 'open' AND expires_at < %(now)s ORDER BY id
"""
OPEN_HOLD: LiteralString = """
    INSERT INTO credit_holds (id, org_id, source_id, amount_microusd, status, created_at, expires_at)
    SELECT %(id)s, org_id, %(source_id)s, %(amount)s, 'open', %(created_at)s, %(expires_at)s FROM credit_accounts
"""
CLOSE_HOLDS: LiteralString = """
    UPDATE credit_holds hold
       SET status = closed.status, settled_microusd = closed.settled_microusd, closed_at = closed.closed_at
      FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(settled)s::bigint[], %(times)s::timestamptz[])
           AS closed (id, status, settled_microusd, closed_at)
     WHERE hold.id = closed.id
"""


def find_balance(tx: Tx) -> Balance | None:
    row = tx.execute(BALANCE).fetchone()
    return None if row is None else Balance(**row)


def lock_for_entry(tx: Tx, org_id: UUID, kind: EntryKind, source_id: str) -> tuple[Balance, Entry | None]:
    """Lock the account and return it with the entry that this source has caused before, if any."""
    balance, row = _lock_and_look(tx, org_id, FIND_ENTRY, {"kind": kind, "source_id": source_id})
    return balance, None if row is None else _entry(row)


def lock_for_hold(tx: Tx, org_id: UUID, source_id: str) -> tuple[Balance, Hold | None]:
    """Lock the account and return it with this source's hold, if any."""
    balance, row = _lock_and_look(tx, org_id, FIND_HOLD, {"source_id": source_id})
    return balance, None if row is None else _hold(row)


def lock_for_expiry(tx: Tx, *, now: datetime) -> tuple[Balance, list[Hold]]:
    """Lock the account and return it with every open hold whose time has run out."""
    with tx.pipeline():
        locked = tx.execute(LOCK)
        found = tx.execute(EXPIRED_HOLDS, {"now": now})
    row = locked.fetchone()
    return (Balance() if row is None else Balance(**row)), [_hold(row) for row in found]


def _lock_and_look(tx: Tx, org_id: UUID, query: LiteralString, values: dict[str, Any]) -> tuple[Balance, Row | None]:
    # The look follows the lock as a statement of its own: it sees what the writer before us committed.
    with tx.pipeline():
        locked = tx.execute(LOCK)
        looked = tx.execute(query, values)
    row = locked.fetchone()
    if row is not None:
        return Balance(**row), looked.fetchone()
    tx.execute(OPEN_ACCOUNT, {"org_id": org_id})
    return _lock_and_look(tx, org_id, query, values)


def post(
    tx: Tx, after: Balance, entries: Sequence[Entry], *, opened: Hold | None = None, closed: Sequence[Hold] = ()
) -> None:
    """Write the entries, the balance they lead to and the holds they open or close. The account has been locked."""
    with tx.pipeline():
        posted = _post(tx, after, entries)
        if opened is not None:
            _insert_hold(tx, opened)
        if closed:
            _close_holds(tx, closed)
    if posted.rowcount != len(entries):
        raise RuntimeError("a credit account was written to without its lock")


def _post(tx: Tx, after: Balance, entries: Sequence[Entry]) -> Cursor[Row]:
    return tx.execute(
        POST,
        {
            "granted_microusd": after.granted_microusd,
            "refunded_microusd": after.refunded_microusd,
            "settled_microusd": after.settled_microusd,
            "expired_microusd": after.expired_microusd,
            "held_microusd": after.held_microusd,
            "entries": after.entries,
            "ids": [entry.id for entry in entries],
            "numbers": [entry.entry_no for entry in entries],
            "kinds": [entry.kind.value for entry in entries],
            "amounts": [entry.amount_microusd for entry in entries],
            "sources": [entry.source_id for entry in entries],
            "reasons": [entry.reason for entry in entries],
            "available": [entry.available_after_microusd for entry in entries],
            "held": [entry.held_after_microusd for entry in entries],
            "times": [entry.created_at for entry in entries],
        },
    )


def _insert_hold(tx: Tx, hold: Hold) -> None:
    tx.execute(
        OPEN_HOLD,
        {
            "id": hold.id,
            "source_id": hold.source_id,
            "amount": hold.amount_microusd,
            "created_at": hold.created_at,
            "expires_at": hold.expires_at,
        },
    )


def _close_holds(tx: Tx, holds: Sequence[Hold]) -> None:
    tx.execute(
        CLOSE_HOLDS,
        {
            "ids": [hold.id for hold in holds],
            "statuses": [hold.status.value for hold in holds],
            "settled": [hold.settled_microusd for hold in holds],
            "times": [hold.closed_at for hold in holds],
        },
    )


def find_entry(tx: Tx, kind: EntryKind, source_id: str) -> Entry | None:
    row = tx.execute(FIND_ENTRY, {"kind": kind, "source_id": source_id}).fetchone()
    return None if row is None else _entry(row)


def list_entries(tx: Tx, asked: Slice) -> list[Entry]:
    rows = tx.execute(LIST_ENTRIES, {"before": asked.before, "limit": asked.limit + 1})
    return [_entry(row) for row in rows]


def _entry(row: Row) -> Entry:
    return Entry(**row | {"kind": EntryKind(row["kind"])})


def _hold(row: Row) -> Hold:
    return Hold(**row | {"status": HoldStatus(row["status"])})
