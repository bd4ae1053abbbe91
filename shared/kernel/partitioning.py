"""Makes the months ahead of tables partitioned by month, as the schema's owner."""

import json
from typing import LiteralString

import psycopg

from shared.kernel import secrets
from shared.kernel.settings import SchemaOwnerSettings

# Readers of all months hold the default partition; who waits for it holds up those who come after.
_LOCK_TIMEOUT: LiteralString = "SET lock_timeout = '2s'"
MAKE_MONTHS: LiteralString = "SELECT make_months(%(table)s, %(ahead)s)"


def make_months(owner: SchemaOwnerSettings, table: str, *, ahead: int) -> int:
    """Make what is missing of this month's partition and the next `ahead`, and return how many were.

    Rows that found no month of theirs are moved into one. Raises `psycopg.errors.LockNotAvailable` when the table is
    too busy: with months to spare, the next day is soon enough.
    """
    login = {}
    if owner.password_secret_arn is not None:
        secret = json.loads(secrets.read(owner.password_secret_arn))
        login = {"user": secret["username"], "password": secret["password"]}
    with psycopg.connect(owner.url, **login) as connection:
        connection.execute(_LOCK_TIMEOUT)
        row = connection.execute(MAKE_MONTHS, {"table": table, "ahead": ahead}).fetchone()
    return 0 if row is None else int(row[0])
