"""SQL that takes the answers out of model calls."""

from datetime import datetime
from typing import LiteralString

from shared.kernel.db import Tx

FORGET: LiteralString = """
    WITH old AS (
        SELECT id FROM inference_calls WHERE answer IS NOT NULL AND created_at < %(before)s
         ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE inference_calls call SET answer = NULL FROM old WHERE call.id = old.id
"""


def forget_answers(tx: Tx, *, before: datetime, limit: int) -> int:
    """Return how many answers were forgotten."""
    return tx.execute(FORGET, {"before": before, "limit": limit}).rowcount
