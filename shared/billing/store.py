"""SQL of the credit ledger. Whoever writes locks the tenant's account first: no two writers, no deadlock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Cursor

from shared.billing import lots_store
from shared.billing.change import Change
from shared.billing.lots import Lot, Share
from shared.billing.model import Balance, Entry, Hold, HoldStatus
from shared.billing.moves import EntryKind
from shared.kernel.arrays import moments, plain, texts
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

BALANCE: LiteralString = """
    SELECT granted_microusd, refunded_microusd, settled_microusd, expired_microusd, held_microusd, entries,
           owed_microusd
      FROM credit_accounts
"""
LOCK: LiteralString = BALANCE + " FOR UPDATE"
OPEN_ACCOUNT: LiteralString = "INSERT INTO credit_accounts (org_id) VALUES (%(org_id)s) ON CONFLICT DO NOTHING"
# The account and its entries change together or not at all. `entries` is compared so that a writer who hadn't locked
# the account would fail, by a number that is null, instead of losing somebody's entry.
POST: LiteralString = """
    WITH account AS (
        UPDATE credit_accounts
           SET granted_microusd = %(granted_microusd)s, refunded_microusd = %(refunded_microusd)s,
               settled_microusd = %(settled_microusd)s, expired_microusd = %(expired_microusd)s,
               held_microusd = %(held_microusd)s, owed_microusd = %(owed_microusd)s,
               entries = CASE WHEN entries = %(before)s THEN %(entries)s::bigint END
        RETURNING org_id
    )
    INSERT INTO credit_entries (org_id, id, entry_no, kind, amount_microusd, source_id, reason,
                                available_after_microusd, held_after_microusd, created_at, subject_id, part_id)
    SELECT account.org_id, entry.*
      FROM account, unnest(%(ids)s::uuid[], %(numbers)s::bigint[], %(kinds)s::text[], %(amounts)s::bigint[],
                           %(sources)s::text[], %(reasons)s::text[], %(available)s::bigint[], %(held)s::bigint[],
                           %(times)s::timestamptz[], %(subjects)s::uuid[], %(parts)s::text[]) AS entry
"""
ENTRY_COLUMNS: LiteralString = """
    id, entry_no, kind, amount_microusd, source_id, reason, available_after_microusd, held_after_microusd, created_at,
    subject_id, part_id
"""
FIND_ENTRY: LiteralString = f"""
    SELECT {ENTRY_COLUMNS} FROM credit_entries
     WHERE kind = ANY(%(kinds)s) AND source_id = %(source_id)s AND part_id = %(part_id)s
"""
LIST_ENTRIES: LiteralString = f"""
    SELECT {ENTRY_COLUMNS} FROM credit_entries
     WHERE %(before)s::uuid IS NULL
        OR entry_no < (SELECT cursor.entry_no FROM credit_entries cursor WHERE cursor.id = %(before)s)
     ORDER BY entry_no DESC LIMIT %(limit)s
"""
HOLD_COLUMNS: LiteralString = """
    id, source_id, amount_microusd, settled_microusd, status, created_at, expires_at, closed_at,
    lot_ids, lot_amounts, lot_expiries, owed_microusd
"""
FIND_HOLDS: LiteralString = f"""
    SELECT {HOLD_COLUMNS} FROM credit_holds WHERE source_id = ANY(%(sources)s::text[])
"""
FIND_HOLD: LiteralString = f"SELECT {HOLD_COLUMNS} FROM credit_holds WHERE source_id = %(source_id)s"
EXPIRED_HOLDS: LiteralString = f"""
    SELECT {HOLD_COLUMNS} FROM credit_holds WHERE status = 'open' AND expires_at < %(now)s ORDER BY id
"""
OPEN_HOLDS: LiteralString = """
    INSERT INTO credit_holds (id, org_id, source_id, amount_microusd, settled_microusd, status, created_at, expires_at,
                              closed_at, lot_ids, lot_amounts, lot_expiries, owed_microusd)
    SELECT hold.id, account.org_id, source_id, amount, settled, status, created_at, expires_at, closed_at,
           lots::uuid[], lot_amounts::bigint[], lot_expiries::timestamptz[], owed
      FROM credit_accounts account,
           unnest(%(ids)s::uuid[], %(sources)s::text[], %(amounts)s::bigint[], %(settled)s::bigint[],
                  %(statuses)s::text[], %(created)s::timestamptz[], %(expires)s::timestamptz[],
                  %(closed)s::timestamptz[], %(lots)s::text[], %(lot_amounts)s::text[], %(lot_expiries)s::text[],
                  %(owed)s::bigint[])
           AS hold (id, source_id, amount, settled, status, created_at, expires_at, closed_at, lots, lot_amounts,
                    lot_expiries, owed)
"""
CLOSE_HOLDS: LiteralString = """
    UPDATE credit_holds hold
       SET status = closed.status, settled_microusd = closed.settled_microusd, closed_at = closed.closed_at
      FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(settled)s::bigint[], %(times)s::timestamptz[])
           AS closed (id, status, settled_microusd, closed_at)
     WHERE hold.id = closed.id
"""
HELD_BY: LiteralString = """
    SELECT coalesce(sum(amount_microusd - settled_microusd), 0)::bigint AS held_microusd
      FROM credit_holds WHERE status = 'open' AND source_id ~ %(pattern)s
"""
ORGS_WITH_EXPIRED_CREDITS: LiteralString = "SELECT orgs_with_expired_credits() AS org_id"


def find_balance(tx: Tx) -> Balance | None:
    row = tx.execute(BALANCE).fetchone()
    return None if row is None else Balance(**row)


def lock_for_entry(tx: Tx, org_id: UUID, kinds: Sequence[EntryKind], source_id: str) -> tuple[Balance, Entry | None]:
    """Lock the account and return it with the entry that this source has caused before, if any."""
    values = {"kinds": [kind.value for kind in kinds], "source_id": source_id, "part_id": ""}
    balance, row = _lock_and_look(tx, org_id, FIND_ENTRY, values)
    return balance, None if row is None else _entry(row)


def lock_for_part(tx: Tx, org_id: UUID, source_id: str, part_id: str) -> tuple[Balance, Hold | None, Entry | None]:
    """Lock the account and return it with this source's hold, and the entry that has settled this part of it."""
    balance, held = _lock_for_hold(tx, org_id, source_id)
    return balance, held, None if held is None else find_entry(tx, EntryKind.SETTLE, source_id, part_id=part_id)


def _lock_for_hold(tx: Tx, org_id: UUID, source_id: str) -> tuple[Balance, Hold | None]:
    """Lock the account and return it with this source's hold, if any."""
    balance, row = _lock_and_look(tx, org_id, FIND_HOLD, {"source_id": source_id})
    return balance, None if row is None else _hold(row)


@dataclass(frozen=True, slots=True)
class AskedToMove:
    """What was asked about holds to be closed and opened, within a pipeline; `answer_to_move` waits for it."""

    org_id: UUID
    closing: Sequence[str]
    opening: Sequence[str]
    locked: Cursor[Row]
    found: Cursor[Row]
    few: Cursor[Row] | None
    touched: Cursor[Row] | None


def ask_to_move(tx: Tx, org_id: UUID, closing: Sequence[str], opening: Sequence[str]) -> AskedToMove:
    """Lock the account, and ask for the holds of these sources, and for lots if any is to be opened."""
    locked = tx.execute(LOCK)
    found = tx.execute(FIND_HOLDS, {"sources": texts([*closing, *opening])})
    few = lots_store.ask_for_few(tx) if opening else None
    touched = lots_store.ask_for_touched(tx, texts(closing)) if opening and closing else None
    return AskedToMove(org_id, closing, opening, locked, found, few, touched)


def answer_to_move(
    tx: Tx, asked: AskedToMove, wanted_microusd: int, *, now: Callable[[], datetime]
) -> tuple[Balance, list[Hold], list[Lot]]:
    """Return the account, what holds there are, and lots that pay for what is wanted."""
    account = asked.locked.fetchone()
    if account is None:
        tx.execute(OPEN_ACCOUNT, {"org_id": asked.org_id})
        again = ask_to_move(tx, asked.org_id, asked.closing, asked.opening)
        return answer_to_move(tx, again, wanted_microusd, now=now)
    lots: list[Lot] = []
    if asked.few is not None:
        lots = lots_store.enough(tx, asked.few, wanted_microusd, now=now(), touched=asked.touched)
    return Balance(**account), [_hold(row) for row in asked.found], lots


def lock_for_expiry(tx: Tx, *, now: datetime) -> tuple[Balance, list[Hold]]:
    """Lock the account and return it with every open hold whose time has run out."""
    with tx.pipeline():
        locked = tx.execute(LOCK)
        found = tx.execute(EXPIRED_HOLDS, {"now": now})
    row = locked.fetchone()
    return (Balance() if row is None else Balance(**row)), [_hold(row) for row in found]


def lock(tx: Tx) -> Balance:
    """Lock the account, if there is one, and return it."""
    row = tx.execute(LOCK).fetchone()
    return Balance() if row is None else Balance(**row)


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


def post(tx: Tx, change: Change) -> None:
    """Write the entries, the balance they lead to, and the holds and lots behind them. The account has been locked."""
    with tx.pipeline():
        write(tx, change)


def write(tx: Tx, change: Change) -> None:
    """Do as `post` does, within a pipeline that somebody else ends."""
    _post(tx, change.balance, change.entries)
    if change.made is not None:
        lots_store.make(tx, change.made)
    if change.opened:
        _open_holds(tx, change.opened)
    if change.closed:
        _close_holds(tx, change.closed)
    lots_store.move(tx, change)


def _post(tx: Tx, after: Balance, entries: Sequence[Entry]) -> None:
    tx.execute(
        POST,
        {
            "granted_microusd": after.granted_microusd,
            "refunded_microusd": after.refunded_microusd,
            "settled_microusd": after.settled_microusd,
            "expired_microusd": after.expired_microusd,
            "held_microusd": after.held_microusd,
            "owed_microusd": after.owed_microusd,
            "entries": after.entries,
            "before": after.entries - len(entries),
            "ids": plain([entry.id for entry in entries]),
            "numbers": plain([entry.entry_no for entry in entries]),
            "kinds": plain([entry.kind.value for entry in entries]),
            "amounts": plain([entry.amount_microusd for entry in entries]),
            "sources": texts([entry.source_id for entry in entries]),
            "reasons": texts([entry.reason for entry in entries]),
            "available": plain([entry.available_after_microusd for entry in entries]),
            "held": plain([entry.held_after_microusd for entry in entries]),
            "times": moments([entry.created_at for entry in entries]),
            "subjects": plain([entry.subject_id for entry in entries]),
            "parts": texts([entry.part_id for entry in entries]),
        },
    )


def _open_holds(tx: Tx, holds: Sequence[Hold]) -> None:
    tx.execute(
        OPEN_HOLDS,
        {
            "ids": plain([hold.id for hold in holds]),
            "sources": texts([hold.source_id for hold in holds]),
            "amounts": plain([hold.amount_microusd for hold in holds]),
            "settled": plain([hold.settled_microusd for hold in holds]),
            "statuses": plain([hold.status.value for hold in holds]),
            "created": moments([hold.created_at for hold in holds]),
            "expires": moments([hold.expires_at for hold in holds]),
            "closed": moments([hold.closed_at for hold in holds]),
            "lots": texts([plain([share.lot_id for share in hold.shares]) for hold in holds]),
            "lot_amounts": texts([plain([share.amount_microusd for share in hold.shares]) for hold in holds]),
            "lot_expiries": texts([moments([share.expires_at for share in hold.shares]) for hold in holds]),
            "owed": plain([hold.owed_microusd for hold in holds]),
        },
    )


def _close_holds(tx: Tx, holds: Sequence[Hold]) -> None:
    tx.execute(
        CLOSE_HOLDS,
        {
            "ids": plain([hold.id for hold in holds]),
            "statuses": plain([hold.status.value for hold in holds]),
            "settled": plain([hold.settled_microusd for hold in holds]),
            "times": moments([hold.closed_at for hold in holds]),
        },
    )


def held_by(tx: Tx, pattern: str) -> int:
    """Return what is held for sources that match a regular expression."""
    row = tx.execute(HELD_BY, {"pattern": pattern}).fetchone()
    return 0 if row is None else int(row["held_microusd"])


def find_entry(tx: Tx, kind: EntryKind, source_id: str, *, part_id: str = "") -> Entry | None:
    values = {"kinds": [kind.value], "source_id": source_id, "part_id": part_id}
    row = tx.execute(FIND_ENTRY, values).fetchone()
    return None if row is None else _entry(row)


def orgs_with_expired_credits(tx: Tx) -> list[UUID]:
    return [row["org_id"] for row in tx.execute(ORGS_WITH_EXPIRED_CREDITS)]


def list_entries(tx: Tx, asked: Slice) -> list[Entry]:
    rows = tx.execute(LIST_ENTRIES, {"before": asked.before, "limit": asked.limit + 1})
    return [_entry(row) for row in rows]


def _entry(row: Row) -> Entry:
    return Entry(**row | {"kind": EntryKind(row["kind"])})


def _hold(row: Row) -> Hold:
    lots = zip(row.pop("lot_ids"), row.pop("lot_amounts"), row.pop("lot_expiries"), strict=True)
    return Hold(**row | {"status": HoldStatus(row["status"]), "shares": tuple(Share(*lot) for lot in lots)})
