"""SQL of the model calls."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import Cursor

from shared.inference.calls import CacheStatus, Call, Operation, Outcome, Tokens
from shared.kernel.arrays import moments, plain, texts
from shared.kernel.caller import Attribution
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

COLUMNS: LiteralString = """
    id, source_id, operation, model, input_tokens, cached_tokens, written_tokens, output_tokens, reasoning_tokens,
    cost_microusd, latency_ms, answer, created_at, request_id, provider, route, cache, outcome, error_code, estimated,
    streamed, attempts, queue_ms, first_token_ms, finish_reason, agent_id, person_id, key_id, run_id, prompt
"""
FIND: LiteralString = f"SELECT {COLUMNS} FROM inference_calls WHERE id = %(id)s"
FIND_BY_SOURCE: LiteralString = f"SELECT {COLUMNS} FROM inference_calls WHERE source_id = ANY(%(sources)s::text[])"
# In the order of their sources, in which everybody claims them.
INSERT: LiteralString = f"""
    INSERT INTO inference_calls (org_id, {COLUMNS})
    SELECT %(org_id)s, call.*
      FROM unnest(%(ids)s::uuid[], %(sources)s::text[], %(operations)s::text[], %(models)s::text[],
                  %(input)s::bigint[], %(cached)s::bigint[], %(written)s::bigint[], %(output)s::bigint[],
                  %(reasoning)s::bigint[], %(costs)s::bigint[], %(latencies)s::bigint[], %(answers)s::jsonb[],
                  %(created)s::timestamptz[], %(requests)s::text[], %(providers)s::text[], %(routes)s::text[],
                  %(caches)s::text[], %(outcomes)s::text[], %(errors)s::text[], %(estimated)s::boolean[],
                  %(streamed)s::boolean[], %(attempts)s::smallint[], %(queues)s::bigint[],
                  %(first_tokens)s::bigint[], %(finishes)s::text[], %(agents)s::text[], %(persons)s::text[],
                  %(keys)s::text[], %(runs)s::text[], %(prompts)s::jsonb[]) AS call
    ON CONFLICT ON CONSTRAINT inference_calls_once DO NOTHING
    RETURNING id
"""
LIST: LiteralString = f"""
    SELECT {COLUMNS} FROM inference_calls
     WHERE (%(before)s::uuid IS NULL OR id < %(before)s)
       AND (%(model)s::text IS NULL OR model = %(model)s)
       AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
       AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR created_at < %(until)s)
"""
NEWEST_FIRST: LiteralString = " ORDER BY id DESC LIMIT %(limit)s"
LIST_ALL: LiteralString = LIST + NEWEST_FIRST
# Its index holds those that have a run.
LIST_OF_RUN: LiteralString = LIST + " AND run_id <> '' AND run_id = %(run_id)s" + NEWEST_FIRST
# The column is collated "C", so that its unique index serves a prefix.
COST_UNDER: LiteralString = """
    SELECT coalesce(sum(cost_microusd), 0)::bigint AS cost FROM inference_calls WHERE starts_with(source_id, %(prefix)s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which calls are wanted; None: whichever. `since <= created_at < until`."""

    model: str | None = None
    outcome: Outcome | None = None
    run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def ask_for_sources(tx: Tx, source_ids: Sequence[str]) -> Cursor[Row]:
    """Ask, within a pipeline, for the calls of these sources; `calls_of` waits for them."""
    return tx.execute(FIND_BY_SOURCE, {"sources": texts(source_ids)})


def calls_of(asked: Cursor[Row]) -> list[Call]:
    """Return the calls asked for."""
    return [_call(row) for row in asked]


def find_call(tx: Tx, call_id: UUID) -> Call | None:
    row = tx.execute(FIND, {"id": call_id}).fetchone()
    return None if row is None else _call(row)


def list_calls(tx: Tx, asked: Slice, wanted: Filter) -> list[Call]:
    """Return up to `limit + 1` calls, the newest first."""
    values = {
        "before": asked.before,
        "limit": asked.limit + 1,
        "model": wanted.model,
        "outcome": wanted.outcome and wanted.outcome.value,
        "since": wanted.since,
        "until": wanted.until,
        "run_id": wanted.run_id,
    }
    return [_call(row) for row in tx.execute(LIST_OF_RUN if wanted.run_id else LIST_ALL, values)]


def cost_under(tx: Tx, prefix: str) -> int:
    row = tx.execute(COST_UNDER, {"prefix": prefix}).fetchone()
    return 0 if row is None else int(row["cost"])


def insert_calls(tx: Tx, org_id: UUID, calls: Sequence[Call]) -> Cursor[Row]:
    """Store those whose source id has no call yet; the rows are their ids."""
    calls = sorted(calls, key=lambda call: call.source_id)
    return tx.execute(
        INSERT,
        {
            "org_id": org_id,
            "ids": plain([call.id for call in calls]),
            "sources": texts([call.source_id for call in calls]),
            "operations": plain([call.operation.value for call in calls]),
            "models": texts([call.model for call in calls]),
            "input": plain([call.tokens.input for call in calls]),
            "cached": plain([call.tokens.cached for call in calls]),
            "written": plain([call.tokens.written for call in calls]),
            "output": plain([call.tokens.output for call in calls]),
            "reasoning": plain([call.tokens.reasoning for call in calls]),
            "costs": plain([call.cost_microusd for call in calls]),
            "latencies": plain([call.latency_ms for call in calls]),
            "answers": texts([json.dumps(call.answer) if call.answer else None for call in calls]),
            "created": moments([call.created_at for call in calls]),
            "requests": texts([call.request_id for call in calls]),
            "providers": texts([call.provider for call in calls]),
            "routes": texts([call.route for call in calls]),
            "caches": plain([call.cache.value for call in calls]),
            "outcomes": plain([call.outcome.value for call in calls]),
            "errors": texts([call.error_code for call in calls]),
            "estimated": plain([call.estimated for call in calls]),
            "streamed": plain([call.streamed for call in calls]),
            "attempts": plain([call.attempts for call in calls]),
            "queues": plain([call.queue_ms for call in calls]),
            "first_tokens": plain([call.first_token_ms for call in calls]),
            "finishes": texts([call.finish_reason for call in calls]),
            "agents": texts([call.attribution.agent_id for call in calls]),
            "persons": texts([call.attribution.person_id for call in calls]),
            "keys": texts([call.attribution.key_id for call in calls]),
            "runs": texts([call.run_id for call in calls]),
            "prompts": texts([None if call.prompt is None else json.dumps(call.prompt) for call in calls]),
        },
    )


def _call(row: Row) -> Call:
    return Call(
        id=row["id"],
        source_id=row["source_id"],
        operation=Operation(row["operation"]),
        model=row["model"],
        tokens=Tokens(
            input=row["input_tokens"],
            cached=row["cached_tokens"],
            output=row["output_tokens"],
            written=row["written_tokens"],
            reasoning=row["reasoning_tokens"],
        ),
        cost_microusd=row["cost_microusd"],
        latency_ms=row["latency_ms"],
        answer=row["answer"] or {},
        created_at=row["created_at"],
        request_id=row["request_id"],
        provider=row["provider"],
        route=row["route"],
        cache=CacheStatus(row["cache"]),
        outcome=Outcome(row["outcome"]),
        error_code=row["error_code"],
        estimated=row["estimated"],
        streamed=row["streamed"],
        attempts=row["attempts"],
        queue_ms=row["queue_ms"],
        first_token_ms=row["first_token_ms"],
        finish_reason=row["finish_reason"],
        run_id=row["run_id"],
        attribution=Attribution(agent_id=row["agent_id"], person_id=row["person_id"], key_id=row["key_id"]),
        prompt=row["prompt"],
    )
