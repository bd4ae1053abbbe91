"""SQL of the memories: save once, list, delete, and the hybrid search in one statement."""

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.memory.model import CANDIDATES, RANK_CONSTANT, Draft, Hit, Memory

FIND: LiteralString = """
    SELECT id, subject, content, importance, tags, source_id, embedding_model, metadata, created_at
      FROM memories
     WHERE id = %(id)s
"""
FIND_OWN: LiteralString = FIND + " AND created_by_user = %(only_own)s"
FIND_BY_SOURCE: LiteralString = """
    SELECT id, subject, content, importance, tags, source_id, embedding_model, metadata, created_at
      FROM memories
     WHERE source_id = %(source_id)s
"""
LISTED: LiteralString = """
    SELECT id, subject, content, importance, tags, source_id, embedding_model, metadata, created_at
      FROM memories
     WHERE (%(before)s::uuid IS NULL OR id < %(before)s)
       AND (%(subject)s::text IS NULL OR subject = %(subject)s)
"""
NEWEST_FIRST: LiteralString = " ORDER BY id DESC LIMIT %(limit)s"
LIST: LiteralString = LISTED + NEWEST_FIRST
LIST_OWN: LiteralString = LISTED + " AND created_by_user = %(only_own)s" + NEWEST_FIRST
INSERT: LiteralString = """
    INSERT INTO memories (id, org_id, subject, content, importance, tags, source_id, embedding, embedding_model,
                          metadata, created_by_user)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(subject)s, %(content)s, %(importance)s, %(tags)s,
            %(source_id)s, %(embedding)s::vector, %(embedding_model)s, %(metadata)s, %(created_by_user)s)
    ON CONFLICT ON CONSTRAINT memories_once DO NOTHING
    RETURNING id, subject, content, importance, tags, source_id, embedding_model, metadata, created_at
"""
SIZES: LiteralString = """
    SELECT id, octet_length(content) AS bytes FROM memories
     WHERE (%(after)s::uuid IS NULL OR id > %(after)s) AND (%(among)s::uuid[] IS NULL OR id = ANY(%(among)s))
     ORDER BY id LIMIT %(limit)s
"""
DELETE: LiteralString = """
    DELETE FROM memories
     WHERE id = %(id)s AND (%(only_own)s::uuid IS NULL OR created_by_user = %(only_own)s)
    RETURNING subject
"""

# The neighbours by meaning are exact: row-level security has left only the tenant's rows before they are taken. Vectors
# of another model mean nothing beside the query's. The words of the query are joined by OR: by AND hardly any question
# finds its answer. Ties go to the newer memory.
SEARCH: LiteralString = r"""
    WITH words AS (
        SELECT string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery AS query
          FROM unnest(to_tsvector('english', %(query)s))
    ), near AS (
        SELECT id, row_number() OVER (ORDER BY distance, id DESC) AS place
          FROM (SELECT id, embedding <=> %(embedding)s::vector AS distance
                  FROM memories
                 WHERE embedding_model = %(embedding_model)s
                   AND (%(subject)s::text IS NULL OR subject = %(subject)s)
                   AND (%(only_own)s::uuid IS NULL OR created_by_user = %(only_own)s)
                 ORDER BY distance, id DESC
                 LIMIT %(take)s) nearest
    ), worded AS (
        SELECT found.id, row_number() OVER (ORDER BY found.rank DESC, found.id DESC) AS place
          FROM words, memories_by_words(words.query, %(subject)s, %(only_own)s, %(take)s) found
         WHERE words.query IS NOT NULL
    ), fused AS (
        SELECT id, near.place AS place_by_meaning, worded.place AS place_by_words,
               coalesce(1.0 / (%(rank_constant)s + near.place), 0)
               + coalesce(1.0 / (%(rank_constant)s + worded.place), 0) AS score
          FROM near FULL JOIN worded USING (id)
         ORDER BY score DESC, id DESC
         LIMIT %(k)s
    )
    SELECT memory.id, memory.subject, memory.content, memory.importance, memory.tags, memory.source_id,
           memory.embedding_model, memory.metadata, memory.created_at,
           fused.score::float8 AS score, fused.place_by_meaning, fused.place_by_words
      FROM fused JOIN memories memory USING (id)
     ORDER BY fused.score DESC, memory.id DESC
"""


def find(tx: Tx, memory_id: UUID, *, only_own: UUID | None) -> Memory | None:
    row = tx.execute(FIND if only_own is None else FIND_OWN, {"id": memory_id, "only_own": only_own}).fetchone()
    return None if row is None else _memory(row)


def find_by_source(tx: Tx, source_id: str) -> Memory | None:
    row = tx.execute(FIND_BY_SOURCE, {"source_id": source_id}).fetchone()
    return None if row is None else _memory(row)


def list_memories(tx: Tx, asked: Slice, *, only_own: UUID | None, subject: str | None) -> list[Memory]:
    values = {"before": asked.before, "limit": asked.limit + 1, "subject": subject, "only_own": only_own}
    rows = tx.execute(LIST if only_own is None else LIST_OWN, values)
    return [_memory(row) for row in rows]


def insert(
    tx: Tx,
    draft: Draft,
    *,
    memory_id: UUID,
    source_id: str,
    created_by_user: UUID | None,
    embedding: Sequence[float],
    embedding_model: str,
) -> Memory | None:
    """Store the memory; return None, and store nothing, when its source id has one already."""
    values: dict[str, Any] = {
        "id": memory_id,
        "subject": draft.subject,
        "content": draft.content,
        "importance": draft.importance,
        "tags": list(draft.tags),
        "source_id": source_id,
        "created_by_user": created_by_user,
        "embedding": _vector(embedding),
        "embedding_model": embedding_model,
        "metadata": Jsonb(dict(draft.metadata)),
    }
    row = tx.execute(INSERT, values).fetchone()
    return None if row is None else _memory(row)


def sizes(tx: Tx, *, after: UUID | None, among: list[UUID] | None, limit: int) -> list[tuple[UUID, int]]:
    """Return ids of memories, in their order, with the bytes of their text: beyond `after`, or `among` these."""
    rows = tx.execute(SIZES, {"after": after, "among": among, "limit": limit})
    return [(row["id"], row["bytes"]) for row in rows]


def delete(tx: Tx, memory_id: UUID, *, only_own: UUID | None) -> bool:
    """Remove the memory; return whether there was one."""
    return tx.execute(DELETE, {"id": memory_id, "only_own": only_own}).fetchone() is not None


def search(
    tx: Tx,
    *,
    only_own: UUID | None,
    query: str,
    embedding: Sequence[float],
    embedding_model: str,
    subject: str | None,
    k: int,
) -> list[Hit]:
    # Not prepared: after a few executions Postgres would settle for a generic plan, which is three times as slow here.
    rows = tx.execute(
        SEARCH,
        {
            "query": query,
            "embedding": _vector(embedding),
            "embedding_model": embedding_model,
            "subject": subject,
            "only_own": only_own,
            "take": max(CANDIDATES, k),
            "rank_constant": RANK_CONSTANT,
            "k": k,
        },
        prepare=False,
    )
    return [
        Hit(
            memory=_memory(row),
            score=row["score"],
            place_by_meaning=row["place_by_meaning"],
            place_by_words=row["place_by_words"],
        )
        for row in rows
    ]


def _vector(values: Sequence[float]) -> str:
    return f"[{','.join(map(repr, values))}]"


def _memory(row: Row) -> Memory:
    return Memory(
        id=row["id"],
        subject=row["subject"],
        content=row["content"],
        importance=row["importance"],
        tags=tuple(row["tags"]),
        source_id=row["source_id"],
        embedding_model=row["embedding_model"],
        metadata=row["metadata"],
        created_at=row["created_at"],
    )
