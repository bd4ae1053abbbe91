"""Cursor pages over ids that sort by creation, newest first."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from shared.kernel import ids

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Slice:
    """Which part of a list is asked for: at most `limit` things older than the id `before`."""

    limit: int = DEFAULT_LIMIT
    before: UUID | None = None


def slice_of(prefix: str) -> object:
    """Return a FastAPI dependency that reads `limit` and `cursor`; a cursor is the last id of the page before."""
    # Here, because stores import this module too, and most functions have no layer with FastAPI.
    from fastapi import Depends, Query

    async def read(
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many to return.")] = DEFAULT_LIMIT,
        cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=64)] = None,
    ) -> Slice:
        return Slice(limit=limit, before=None if cursor is None else ids.read(prefix, cursor))

    return Depends(read)


def cut[T](rows: list[T], asked: Slice) -> tuple[list[T], bool]:
    """Return the page and whether more follows, given up to `limit + 1` rows."""
    return rows[: asked.limit], len(rows) > asked.limit
