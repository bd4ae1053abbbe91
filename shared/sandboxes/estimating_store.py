"""SQL of how long sandboxes lived."""

from typing import LiteralString
from uuid import UUID

from shared.kernel.db import Tx

# A run's sandbox lives as long as its run does and never was ready where it failed to start: neither says anything.
# In whole seconds, begun ones counted, as they are paid.
# Each start asks this, so that only so many are looked through.
_LOOKED_THROUGH = 1_000
LIFETIMES: LiteralString = """
    SELECT greatest(0, ceil(extract(epoch FROM least(stopped_at, expires_at) - ready_at)))::bigint AS used_s,
           greatest(1, round(extract(epoch FROM expires_at - created_at)))::bigint AS granted_s
      FROM (SELECT id, created_at, ready_at, stopped_at, expires_at FROM sandboxes
             WHERE template = %(template)s AND run_id IS NULL
               AND (%(only_own)s::uuid IS NULL OR created_by_user = %(only_own)s)
             ORDER BY id DESC LIMIT %(looked_through)s) AS newest
     WHERE ready_at IS NOT NULL AND stopped_at IS NOT NULL
     ORDER BY id DESC LIMIT %(limit)s
"""


def lifetimes(tx: Tx, *, template: str, only_own: UUID | None, limit: int) -> list[tuple[int, int]]:
    """Return the seconds that the newest ended sandboxes were used, and those they might have been."""
    values = {"template": template, "only_own": only_own, "looked_through": _LOOKED_THROUGH, "limit": limit}
    return [(row["used_s"], row["granted_s"]) for row in tx.execute(LIFETIMES, values)]
