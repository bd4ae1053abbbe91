"""SQL that deletes runs, with what belongs to them first."""

from datetime import datetime
from typing import LiteralString

from shared.kernel.db import Tx

# Nobody changes a run that has ended; whoever else deletes it already is let go on.
ENDED: LiteralString = """
    SELECT id FROM runs WHERE ended_at < %(before)s ORDER BY ended_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
DELETE_TOOL_CALLS: LiteralString = "DELETE FROM run_tool_calls WHERE run_id = ANY(%(runs)s)"
DELETE_STEPS: LiteralString = "DELETE FROM run_steps WHERE run_id = ANY(%(runs)s)"
# The run's events go with it.
DELETE: LiteralString = "DELETE FROM runs WHERE id = ANY(%(runs)s)"


def delete_ended(tx: Tx, *, before: datetime, limit: int) -> int:
    """Return how many runs were deleted."""
    runs = [row["id"] for row in tx.execute(ENDED, {"before": before, "limit": limit})]
    if runs:
        with tx.pipeline():
            for statement in (DELETE_TOOL_CALLS, DELETE_STEPS, DELETE):
                tx.execute(statement, {"runs": runs})
    return len(runs)
