"""SQL of estimates."""

from datetime import datetime
from typing import LiteralString
from uuid import UUID

from shared.kernel.db import Row, Tx

INSERT: LiteralString = """
    INSERT INTO estimates (org_id, subject, kind, basis, samples, expected_microusd, p90_microusd, worst_microusd)
    VALUES (%(org_id)s, %(subject)s, %(kind)s, %(basis)s, %(samples)s,
            %(expected_microusd)s, %(p90_microusd)s, %(worst_microusd)s)
    ON CONFLICT DO NOTHING
"""
CLOSE: LiteralString = """
    UPDATE estimates SET actual_microusd = %(actual_microusd)s, closed_at = %(now)s
     WHERE subject = %(subject)s AND closed_at IS NULL
"""
# What was broken off has no actual cost and isn't counted. A week is the ISO week of UTC in which something ended.
WEEKS: LiteralString = """
    SELECT date_trunc('week', closed_at AT TIME ZONE 'UTC')::date AS week, kind, basis,
           count(*) AS count,
           count(*) FILTER (WHERE actual_microusd = 0) AS free,
           (100 * avg(abs(actual_microusd - expected_microusd)::numeric / nullif(actual_microusd, 0)))::float8
               AS error_percent,
           avg((actual_microusd <= p90_microusd)::int)::float8 AS within_p90,
           avg((actual_microusd > worst_microusd)::int)::float8 AS beyond_worst,
           sum(expected_microusd)::bigint AS expected_microusd,
           sum(actual_microusd)::bigint AS actual_microusd
      FROM estimates
     WHERE closed_at >= %(since)s AND closed_at < %(until)s AND actual_microusd IS NOT NULL
     GROUP BY week, kind, basis
     ORDER BY week DESC, kind, basis
"""


def insert(
    tx: Tx,
    *,
    org_id: UUID,
    subject: str,
    kind: str,
    basis: str,
    samples: int,
    expected_microusd: int,
    p90_microusd: int,
    worst_microusd: int,
) -> None:
    tx.execute(
        INSERT,
        {
            "org_id": org_id,
            "subject": subject,
            "kind": kind,
            "basis": basis,
            "samples": samples,
            "expected_microusd": expected_microusd,
            "p90_microusd": p90_microusd,
            "worst_microusd": worst_microusd,
        },
    )


def close(tx: Tx, subject: str, *, actual_microusd: int | None, now: datetime) -> None:
    tx.execute(CLOSE, {"subject": subject, "actual_microusd": actual_microusd, "now": now})


def weeks(tx: Tx, *, since: datetime, until: datetime) -> list[Row]:
    """Return one row for each week, kind and basis, the latest week first."""
    return tx.execute(WEEKS, {"since": since, "until": until}).fetchall()
