"""SQL of metered storage."""

from datetime import datetime
from typing import LiteralString

from shared.kernel.db import Tx
from shared.usage.model import UsageKind

# Claims are in the order of their sources, and hours in them in the order of time.
LAST_METERED: LiteralString = """
    SELECT event.occurred_at, event.quantity
      FROM (SELECT source_id FROM usage_claims
             WHERE source_id >= %(first)s AND source_id < %(beyond)s AND kind = %(kind)s
             ORDER BY source_id DESC LIMIT 1) last
      JOIN usage_events event
        ON event.occurred_at = to_timestamp(substr(last.source_id, length(%(first)s) + 1)::bigint)
       AND event.source_id = last.source_id AND event.kind = %(kind)s
"""


def last_metered(tx: Tx, prefix: str) -> tuple[datetime, int] | None:
    """Return the last hour that was metered under `<prefix><epoch>`, and its byte-hours."""
    values = {"first": prefix, "beyond": prefix[:-1] + chr(ord(prefix[-1]) + 1), "kind": UsageKind.STORAGE_BYTE_HOURS}
    row = tx.execute(LAST_METERED, values).fetchone()
    return None if row is None else (row["occurred_at"], row["quantity"])
