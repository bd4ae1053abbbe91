"""SQL of counted attempts, and of what no person and no tenant owns but nobody needs any more."""

from typing import LiteralString

from shared.kernel.db import Tx
from shared.people.model import Limit

# One statement, so that of many at once each has a number of its own; whoever must wait is not counted.
COUNT: LiteralString = """
    INSERT INTO login_failures AS known (subject_sha256, failures, last_failed_at, blocked_until)
    VALUES (%(subject)s, 1, clock_timestamp(), clock_timestamp())
    ON CONFLICT (subject_sha256) DO UPDATE SET
        failures = CASE
            WHEN known.last_failed_at < clock_timestamp() - make_interval(secs => %(forget_after_s)s) THEN 1
            ELSE known.failures + 1
        END,
        last_failed_at = clock_timestamp(),
        blocked_until = clock_timestamp() + CASE
            WHEN known.last_failed_at < clock_timestamp() - make_interval(secs => %(forget_after_s)s)
              OR known.failures + 1 < %(free)s THEN interval '0'
            ELSE make_interval(secs => least(%(longest_s)s, power(2, least(known.failures + 1 - %(free)s, 30))))
        END
     WHERE known.blocked_until <= clock_timestamp()
    RETURNING 1
"""
WAIT_S: LiteralString = """
    SELECT extract(epoch FROM blocked_until - clock_timestamp())::float8 AS wait_s
      FROM login_failures WHERE subject_sha256 = %(subject)s
"""
GIVE_BACK: LiteralString = """
    UPDATE login_failures SET failures = greatest(failures - 1, 0), blocked_until = clock_timestamp()
     WHERE subject_sha256 = %(subject)s
"""
CLEAR: LiteralString = "DELETE FROM login_failures WHERE subject_sha256 = %(subject)s"
PURGE_ATTEMPTS: LiteralString = """
    DELETE FROM login_failures WHERE last_failed_at < now() - interval '2 days' RETURNING 1
"""
PURGE_PENDING_LOGINS: LiteralString = "DELETE FROM pending_logins WHERE expires_at < now() RETURNING 1"


def count(tx: Tx, limit: Limit, of: str) -> float | None:
    """Count an attempt. Return None when it may go on, else after how many seconds the next one may."""
    subject = {"subject": limit.subject(of)}
    values = {"free": limit.free, "forget_after_s": limit.forget_after_s, "longest_s": limit.longest_s}
    if tx.execute(COUNT, subject | values).fetchone() is not None:
        return None
    row = tx.execute(WAIT_S, subject).fetchone()
    return 0.0 if row is None else float(row["wait_s"])


def give_back(tx: Tx, limit: Limit, of: str) -> None:
    tx.execute(GIVE_BACK, {"subject": limit.subject(of)})


def clear(tx: Tx, limit: Limit, of: str) -> None:
    tx.execute(CLEAR, {"subject": limit.subject(of)})


def purge_attempts(tx: Tx) -> int:
    return len(tx.execute(PURGE_ATTEMPTS).fetchall())


def purge_pending_logins(tx: Tx) -> int:
    return len(tx.execute(PURGE_PENDING_LOGINS).fetchall())
