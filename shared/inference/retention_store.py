"""SQL that takes prompts and answers out of model calls."""

from datetime import datetime
from typing import LiteralString

from shared.kernel.db import Tx

FORGET: LiteralString = """
    WITH old AS (
        SELECT id FROM inference_calls
         WHERE (answer IS NOT NULL OR prompt IS NOT NULL) AND created_at < %(before)s
         ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE inference_calls call SET answer = NULL, prompt = NULL FROM old WHERE call.id = old.id
"""
FORGET_CONTENT: LiteralString = """
    WITH old AS (
        SELECT id FROM inference_calls WHERE prompt IS NOT NULL AND created_at < %(before)s
         ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE inference_calls call SET prompt = NULL, answer = NULL FROM old WHERE call.id = old.id
"""


def forget_answers(tx: Tx, *, before: datetime, limit: int) -> int:
    """Return how many answers were forgotten."""
    return tx.execute(FORGET, {"before": before, "limit": limit}).rowcount


def forget_content(tx: Tx, *, before: datetime, limit: int) -> int:
    """Return of how many calls the recorded prompt and answer were forgotten."""
    return tx.execute(FORGET_CONTENT, {"before": before, "limit": limit}).rowcount
