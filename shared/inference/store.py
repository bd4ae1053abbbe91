"""SQL of the model calls."""

from dataclasses import asdict
from typing import LiteralString

from psycopg.types.json import Jsonb

from shared.inference.model import Call, Operation, Tokens
from shared.kernel.db import Row, Tx

FIND_CALL: LiteralString = """
    SELECT id, source_id, operation, model, input_tokens, cached_tokens, output_tokens, cost_microusd, latency_ms,
           answer, created_at
      FROM inference_calls
     WHERE source_id = %(source_id)s
"""
INSERT_CALL: LiteralString = """
    INSERT INTO inference_calls (id, org_id, source_id, operation, model, input_tokens, cached_tokens, output_tokens,
                                 cost_microusd, latency_ms, answer, created_at)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(source_id)s, %(operation)s, %(model)s,
            %(input_tokens)s, %(cached_tokens)s, %(output_tokens)s, %(cost_microusd)s, %(latency_ms)s, %(answer)s,
            %(created_at)s)
    ON CONFLICT ON CONSTRAINT inference_calls_once DO NOTHING
    RETURNING id
"""
# The column is collated "C", so that its unique index serves a prefix.
COST_UNDER: LiteralString = """
    SELECT coalesce(sum(cost_microusd), 0)::bigint AS cost FROM inference_calls WHERE starts_with(source_id, %(prefix)s)
"""


def find_call(tx: Tx, source_id: str) -> Call | None:
    row = tx.execute(FIND_CALL, {"source_id": source_id}).fetchone()
    return None if row is None else _call(row)


def cost_under(tx: Tx, prefix: str) -> int:
    row = tx.execute(COST_UNDER, {"prefix": prefix}).fetchone()
    return 0 if row is None else int(row["cost"])


def insert_call(tx: Tx, call: Call) -> bool:
    """Store the call; return False, and store nothing, when its source id has one already."""
    values = asdict(call) | {
        "operation": call.operation.value,
        "input_tokens": call.tokens.input,
        "cached_tokens": call.tokens.cached,
        "output_tokens": call.tokens.output,
        "answer": Jsonb(call.answer),
    }
    return tx.execute(INSERT_CALL, values).fetchone() is not None


def _call(row: Row) -> Call:
    return Call(
        id=row["id"],
        source_id=row["source_id"],
        operation=Operation(row["operation"]),
        model=row["model"],
        tokens=Tokens(input=row["input_tokens"], cached=row["cached_tokens"], output=row["output_tokens"]),
        cost_microusd=row["cost_microusd"],
        latency_ms=row["latency_ms"],
        answer=row["answer"] or {},
        created_at=row["created_at"],
    )
