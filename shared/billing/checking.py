"""SQL that proves a ledger: every entry follows from the one before and has its cause, and every total adds up.

Of each kind of fault the first entry at fault is named; `expected` is what the entries say, `found` what is stored.
"""

from typing import LiteralString

from shared.billing.model import EntryKind, Violation
from shared.kernel.db import Tx

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
    SELECT fact.rule, replayed.id AS entry_id, fact.expected::bigint, fact.found::bigint
      FROM replayed, LATERAL (VALUES
               (1, 'entries.in_order', true_no, entry_no),
               (2, 'entry.available_after', true_available, available_after_microusd),
               (3, 'entry.held_after', true_held, held_after_microusd),
               (4, 'entry.available_below_zero', 0, least(true_available, 0)),
               (5, 'entry.held_below_zero', 0, least(true_held, 0))
           ) AS fact (no, rule, expected, found)
     WHERE fact.expected <> fact.found
     ORDER BY entry_no, fact.no LIMIT 1
"""
# The hold or lot that an entry is about, which the same source has caused. What was granted before there were lots
# lies in one lot, and nothing expires before its lot ends.
FIRST_WITHOUT_CAUSE: LiteralString = """
    SELECT 'entry.cause' AS rule, entry.id AS entry_id, 1::bigint AS expected, 0::bigint AS found
      FROM credit_entries entry
      LEFT JOIN credit_holds hold
        ON hold.id = entry.subject_id AND entry.kind IN ('hold', 'settle', 'release')
       AND hold.source_id = entry.source_id
      LEFT JOIN credit_lots lot
        ON lot.id = entry.subject_id
       AND CASE WHEN entry.kind IN ('grant', 'refund', 'adjust_up')
                THEN lot.source_id IN (entry.source_id, 'before lots')
                ELSE entry.kind = 'expire' AND lot.expires_at <= entry.created_at END
     WHERE entry.kind <> 'adjust_down' AND hold.id IS NULL AND lot.id IS NULL
     ORDER BY entry.entry_no LIMIT 1
"""
FIRST_FALSE_HOLD: LiteralString = """
    WITH told AS (
        SELECT subject_id, min(entry_no) AS first_no, (array_agg(id ORDER BY entry_no))[1] AS first_id,
               (array_agg(id ORDER BY entry_no DESC) FILTER (WHERE kind = 'settle'))[1] AS settle_id,
               (array_agg(id ORDER BY entry_no DESC) FILTER (WHERE kind = 'release'))[1] AS release_id,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'hold'), 0) AS held,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'settle'), 0) AS settled,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'release'), 0) AS released,
               bool_or(kind = 'release' OR kind = 'settle' AND part_id = '') AS closed
          FROM credit_entries WHERE kind IN ('hold', 'settle', 'release') GROUP BY subject_id
    )
    SELECT fact.rule, fact.entry_id, coalesce(fact.expected, 0)::bigint AS expected, fact.found::bigint
      FROM credit_holds hold LEFT JOIN told ON told.subject_id = hold.id,
           LATERAL (VALUES
               (1, 'hold.amount', first_id, held, amount_microusd),
               (2, 'hold.settled', coalesce(settle_id, first_id), settled, settled_microusd),
               (3, 'hold.closed', coalesce(release_id, settle_id, first_id), closed::int, (status <> 'open')::int),
               (4, 'hold.released', coalesce(release_id, first_id), released,
                   CASE WHEN status = 'open' THEN 0 ELSE amount_microusd - settled_microusd END),
               (5, 'hold.lots', first_id, held, (SELECT coalesce(sum(share), 0) FROM unnest(lot_amounts) AS share))
           ) AS fact (no, rule, entry_id, expected, found)
     WHERE coalesce(fact.expected, 0) <> fact.found
     ORDER BY told.first_no, hold.id, fact.no LIMIT 1
"""
# A hold spends its lots in their order: what it has settled tells what of each.
FIRST_FALSE_LOT: LiteralString = """
    WITH told AS (
        SELECT subject_id, min(entry_no) AS first_no, (array_agg(id ORDER BY entry_no))[1] AS first_id,
               coalesce(sum(amount_microusd) FILTER (WHERE kind <> 'expire'), 0) AS brought,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'expire'), 0) AS expired
          FROM credit_entries WHERE kind IN ('grant', 'refund', 'adjust_up', 'expire') GROUP BY subject_id
    ), shares AS (
        SELECT share.lot_id, share.amount, hold.status, hold.settled_microusd AS settled,
               sum(share.amount) OVER (PARTITION BY hold.id ORDER BY share.no) - share.amount AS before
          FROM credit_holds hold, unnest(hold.lot_ids, hold.lot_amounts) WITH ORDINALITY AS share (lot_id, amount, no)
    ), used AS (
        SELECT lot_id, sum(CASE WHEN status = 'open' THEN amount
                                ELSE least(greatest(settled - before, 0), amount) END) AS amount
          FROM shares GROUP BY lot_id
    )
    SELECT fact.rule, told.first_id AS entry_id, fact.expected::bigint, fact.found::bigint
      FROM credit_lots lot
      LEFT JOIN told ON told.subject_id = lot.id
      LEFT JOIN used ON used.lot_id = lot.id,
           LATERAL (VALUES
               (1, 'lot.amount', coalesce(told.brought, 0), lot.amount_microusd),
               (2, 'lot.remaining', lot.amount_microusd - coalesce(used.amount, 0) - coalesce(told.expired, 0)
                                    - lot.withdrawn_microusd, lot.remaining_microusd)
           ) AS fact (no, rule, expected, found)
     WHERE fact.expected <> fact.found
     ORDER BY told.first_no, lot.id, fact.no LIMIT 1
"""
TOTALS: LiteralString = """
    WITH summed AS (
        SELECT count(*) AS entries,
               coalesce(sum(CASE kind WHEN 'adjust_down' THEN -amount_microusd ELSE amount_microusd END)
                        FILTER (WHERE kind IN ('grant', 'adjust_up', 'adjust_down')), 0) AS granted,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'refund'), 0) AS refunded,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'settle'), 0) AS settled,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'expire'), 0) AS expired,
               coalesce(sum(amount_microusd) FILTER (WHERE kind = 'adjust_down'), 0) AS withdrawn
          FROM credit_entries
    ), holds AS (
        SELECT coalesce(sum(amount_microusd - settled_microusd) FILTER (WHERE status = 'open'), 0) AS open,
               coalesce(sum(settled_microusd), 0) AS settled, coalesce(sum(owed_microusd), 0) AS owed
          FROM credit_holds
    ), lots AS (
        SELECT coalesce(sum(remaining_microusd), 0) AS remaining, coalesce(sum(withdrawn_microusd), 0) AS withdrawn
          FROM credit_lots
    )
    SELECT fact.rule, NULL::uuid AS entry_id, fact.expected::bigint, fact.found::bigint
      FROM credit_accounts account, summed, holds, lots,
           LATERAL (VALUES
               ('account.entries', summed.entries, account.entries),
               ('account.granted', summed.granted, account.granted_microusd),
               ('account.refunded', summed.refunded, account.refunded_microusd),
               ('account.settled', summed.settled, account.settled_microusd),
               ('account.expired', summed.expired, account.expired_microusd),
               ('account.held', holds.open, account.held_microusd),
               ('account.owed', holds.owed, account.owed_microusd),
               ('holds.settled', summed.settled, holds.settled),
               ('lots.withdrawn', summed.withdrawn, lots.withdrawn),
               ('lots.remaining', account.granted_microusd + account.refunded_microusd - account.settled_microusd
                                  - account.expired_microusd - account.held_microusd, lots.remaining)
           ) AS fact (rule, expected, found)
     WHERE fact.expected <> fact.found
"""

# One statement sees one moment: tenants spend while their ledgers are checked.
ALL: LiteralString = f"""
    SELECT rule, entry_id, expected, found FROM (
        SELECT 1 AS no, fact.* FROM ({FIRST_FALSE_ENTRY}) AS fact
        UNION ALL SELECT 2, fact.* FROM ({FIRST_WITHOUT_CAUSE}) AS fact
        UNION ALL SELECT 3, fact.* FROM ({FIRST_FALSE_HOLD}) AS fact
        UNION ALL SELECT 4, fact.* FROM ({FIRST_FALSE_LOT}) AS fact
        UNION ALL SELECT 5, fact.* FROM ({TOTALS}) AS fact
    ) AS facts
     ORDER BY no
"""  # noqa: S608 - made of the constants above
# The policy hides from the planner how many rows a tenant has: it would go through all holds once for each entry.
IN_STEP: LiteralString = "SET LOCAL enable_nestloop = off"
AS_BEFORE: LiteralString = "SET LOCAL enable_nestloop TO DEFAULT"


def violations(tx: Tx) -> list[Violation]:
    """Return what is wrong with the tenant's ledger: nothing, unless somebody wrote past this package."""
    effects = {
        "kinds": [kind.value for kind in EntryKind],
        "to_available": [kind.to_available for kind in EntryKind],
        "to_held": [kind.to_held for kind in EntryKind],
    }
    with tx.pipeline():
        tx.execute(IN_STEP)
        found = tx.execute(ALL, effects)
        tx.execute(AS_BEFORE)
    return [Violation(**row) for row in found]
