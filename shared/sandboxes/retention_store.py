"""SQL that deletes sandboxes, with their commands first."""

from datetime import datetime
from typing import LiteralString

from shared.kernel.db import Tx

# `stopping` is not over: its task may still run, and is looked after.
ENDED: LiteralString = """
    SELECT id FROM sandboxes WHERE status IN ('stopped', 'failed') AND stopped_at < %(before)s
     ORDER BY stopped_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
DELETE_COMMANDS: LiteralString = "DELETE FROM sandbox_commands WHERE sandbox_id = ANY(%(sandboxes)s)"
DELETE: LiteralString = "DELETE FROM sandboxes WHERE id = ANY(%(sandboxes)s)"


def delete_ended(tx: Tx, *, before: datetime, limit: int) -> int:
    """Return how many sandboxes were deleted."""
    sandboxes = [row["id"] for row in tx.execute(ENDED, {"before": before, "limit": limit})]
    if sandboxes:
        with tx.pipeline():
            for statement in (DELETE_COMMANDS, DELETE):
                tx.execute(statement, {"sandboxes": sandboxes})
    return len(sandboxes)
