"""SQL that proves a ledger: every entry follows from the one before, and the account is the sum of its entries."""

from typing import LiteralString

from shared.billing.model import EntryKind, Violation
from shared.kernel.db import Row, Tx

# Each entry beside what the entries up to it lead to; the first that differs is shown, the rest follow from it.
FIRST_FALSE_ENTRY: LiteralString = """
    WITH effect AS (
        SELECT * FROM unnest(%(kinds)s::text[], %(to_available)s::int[], %(to_held)s::int[])
                 AS effect (kind, to_available, to_held)
    ), replayed AS (
        SELECT entry.id, entry.entry_no, entry.available_after_microusd, entry.held_after_microusd,
               row_number() OVER so_far AS true_no,
               sum(entry.amount_microusd * effect.to_available) OVER so_far AS true_available,
               sum(entry.amount_microusd * effect.to_held) OVER so_far AS true_held
          FROM credit_entries entry JOIN effect USING (kind)
        WINDOW so_far AS (ORDER BY entry.entry_no)
    )
    SELECT * FROM replayed
     WHERE entry_no <> true_no
        OR available_after_microusd <> true_available OR true_available < 0
        OR held_after_microusd <> true_held OR true_held < 0
     ORDER BY entry_no LIMIT 1
"""
TOTALS: LiteralString = """
    WITH summed AS (
        SELECT count(*) AS entries,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'grant'), 0) AS granted,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'refund'), 0) AS refunded,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'settle'), 0) AS settled
          FROM credit_entries
    ), holds AS (
        SELECT coalesce(sum(amount_microusd) FILTER (WHERE status = 'open'), 0) AS open,
               coalesce(sum(settled_microusd), 0) AS settled
          FROM credit_holds
    )
    SELECT fact.rule, fact.expected::bigint, fact.found::bigint
      FROM credit_accounts account, summed, holds,
           LATERAL (VALUES
               ('account.entries', summed.entries, account.entries),
               ('account.granted', summed.granted, account.granted_microusd),
               ('account.refunded', summed.refunded, account.refunded_microusd),
               ('account.settled', summed.settled, account.settled_microusd),
               ('account.held', holds.open, account.held_microusd),
               ('holds.settled', summed.settled, holds.settled)
           ) AS fact (rule, expected, found)
     WHERE fact.expected <> fact.found
"""


def violations(tx: Tx) -> list[Violation]:
    """Return what is wrong with the tenant's ledger: nothing, unless somebody wrote past this package."""
    effects = {
        "kinds": [kind.value for kind in EntryKind],
        "to_available": [kind.to_available for kind in EntryKind],
        "to_held": [kind.to_held for kind in EntryKind],
    }
    with tx.pipeline():
        replayed = tx.execute(FIRST_FALSE_ENTRY, effects)
        totals = tx.execute(TOTALS)
    entry = replayed.fetchone()
    of_entry = [] if entry is None else [_violation_of(entry)]
    return of_entry + [Violation(row["rule"], None, row["expected"], row["found"]) for row in totals]


def _violation_of(entry: Row) -> Violation:
    if entry["entry_no"] != entry["true_no"]:
        return Violation("entries.in_order", entry["id"], entry["true_no"], entry["entry_no"])
    if entry["available_after_microusd"] != entry["true_available"]:
        expected, found = int(entry["true_available"]), entry["available_after_microusd"]
        return Violation("entry.available_after", entry["id"], expected, found)
    return Violation("entry.held_after", entry["id"], int(entry["true_held"]), entry["held_after_microusd"])
