"""The floor under a route: the very statements it sends, taken down once and sent again over a bare connection."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

from psycopg import Connection, Cursor
from psycopg.abc import Params, Query
from psycopg.pq import PipelineStatus
from psycopg.sql import Composable


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with its values. Those sent through a pipeline share a round trip, here as there."""

    query: Any
    values: Params | None
    pipelined: bool


_tape: ContextVar[list[Statement] | None] = ContextVar("tape", default=None)


class RecordingCursor[Row](Cursor[Row]):
    """Takes statements down while `rehearsal` runs; otherwise a cursor like any other."""

    def execute(self, query: Query, params: Params | None = None, **options: Any) -> Self:
        tape = _tape.get()
        if tape is not None:
            pipelined = self.connection.pgconn.pipeline_status != PipelineStatus.OFF
            text = query.as_string(self.connection) if isinstance(query, Composable) else query
            tape.append(Statement(text, params, pipelined))
            if query == "COMMIT":
                query = "ROLLBACK"
        return super().execute(query, params, **options)  # type: ignore[arg-type, unused-ignore]


@contextmanager
def rehearsal() -> Iterator[list[Statement]]:
    """Take down every statement of the block, which is rolled back: they can be run in earnest afterwards."""
    tape: list[Statement] = []
    before = _tape.set(tape)
    try:
        yield tape
    finally:
        _tape.reset(before)


def replay_ms(connection: Connection[Any], tape: Sequence[Statement]) -> float:
    """Send the statements again, fetch what they return, and give the milliseconds that took."""
    groups = [(pipelined, list(group)) for pipelined, group in groupby(tape, key=lambda each: each.pipelined)]
    began = time.perf_counter()
    for pipelined, group in groups:
        if pipelined:
            with connection.pipeline():
                cursors = [connection.execute(each.query, each.values) for each in group]
            for cursor in cursors:
                _fetch(cursor)
        else:
            for each in group:
                _fetch(connection.execute(each.query, each.values))
    return (time.perf_counter() - began) * 1000


def _fetch(cursor: Cursor[Any]) -> None:
    if cursor.description is not None:
        cursor.fetchall()
