"""Postgres: pooled connections and the tenant transaction, the only way to a tenant's rows.

Row-level security is forced on every tenant's and person's table; `tenant()` names both for one transaction. Nothing is
kept in the session: a session-level setting would pin an RDS Proxy connection and could leak into the next request.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from select import POLLIN, poll
from threading import Lock
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection, OperationalError, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from shared.kernel import aws, settings
from shared.kernel.caller import Caller
from shared.kernel.errors import Unavailable

type Tx = Connection[DictRow]
type Row = dict[str, Any]

# A killed backend is noticed at the first statement; by then several pooled connections may be dead at once.
_ATTEMPTS = 6
# A caller waits this long at most for a database that is gone; the state machine tries for longer.
_CONNECT_TIMEOUT_S = 3
_POOL_SIZE = 8
_SET: LiteralString = "SELECT set_config('app.current_org_id', %s, true), set_config('app.current_user_id', %s, true)"
_BEGIN = sql.SQL("BEGIN")
_BEGIN_READING = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
# Nobody waits long for a row that another holds.
_BEHIND = sql.SQL(
    "SELECT set_config('app.current_org_id', {}, true), set_config('app.current_user_id', '', true), "
    "set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '1s', true);"
)


def _connection_parameters(database: settings.DatabaseSettings) -> dict[str, Any]:
    parameters: dict[str, Any] = {"autocommit": True, "row_factory": dict_row}
    parameters |= {"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": "runyard"}
    if database.iam_auth:
        parameters["password"] = _iam_token(conninfo_to_dict(database.url))
    return parameters


def _iam_token(conninfo: dict[str, Any]) -> str:
    token = aws.client("rds").generate_db_auth_token(
        DBHostname=conninfo["host"], Port=int(conninfo["port"]), DBUsername=conninfo["user"]
    )
    return str(token)


_opening = Lock()
_pools: dict[Callable[[], settings.DatabaseSettings], ConnectionPool[Tx]] = {}


def _pool() -> ConnectionPool[Tx]:
    return _pool_of(settings.database)


def _readers_pool() -> ConnectionPool[Tx]:
    return _pool_of(settings.database_reader)


def _pool_of(database: Callable[[], settings.DatabaseSettings]) -> ConnectionPool[Tx]:
    # Of two threads at once, one opens it.
    with _opening:
        if database not in _pools:
            _pools[database] = ConnectionPool(
                conninfo=lambda: database().url,
                kwargs=lambda: _connection_parameters(database()),
                min_size=0,
                max_size=_POOL_SIZE,
                timeout=_CONNECT_TIMEOUT_S,
                max_idle=120,
                reconnect_timeout=_CONNECT_TIMEOUT_S,
                open=True,
                name="runyard",
            )
        return _pools[database]


def close() -> None:
    """Close every pooled connection; the next use opens new ones."""
    with _opening:
        while _pools:
            _, pool = _pools.popitem()
            pool.close()


def tenant(caller: Caller) -> AbstractContextManager[Tx]:
    """Open one transaction in which only the caller's tenant exists. Commits on success, else rolls back.

    Raises `Unavailable` when Postgres can't be reached. The body is never run twice.
    """
    return _transaction(caller.org_id, caller.person_id)


def reading(caller: Caller) -> AbstractContextManager[Tx]:
    """Open one transaction of the caller's tenant that only reads, at a replica if there is one, for long looks back.

    All its statements see the same moment, at a replica one shortly before now.
    """
    return _transaction(caller.org_id, caller.person_id, pool=_readers_pool, begin=_BEGIN_READING)


@contextmanager
def piped(caller: Caller) -> Iterator[Tx]:
    """Open one transaction as `tenant` does, as a pipeline: a round trip for each time that results are waited for.

    Its beginning travels with the first statements and its end with the last, so that its body must not open a
    pipeline of its own. Raises `psycopg.OperationalError` when the connection breaks: whether it was committed is
    unknown then.
    """
    connection = _live()
    try:
        with connection.pipeline():
            connection.execute("BEGIN")
            connection.execute(_SET, (str(caller.org_id), "" if caller.person_id is None else str(caller.person_id)))
            yield connection
            connection.execute("COMMIT")
    except BaseException:
        if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
            _roll_back(connection)
        raise
    finally:
        _pool().putconn(connection)


def write_behind(caller: Caller, statement: sql.Composed) -> None:
    """Do one statement for the caller's tenant in a transaction of its own: one round trip, no waiting for the disk.

    A crash of the server itself may lose the last moments of it; nothing else can. It is never sent twice: whoever
    calls can't tell whether it was done when the connection breaks meanwhile. Raises `Unavailable`, `psycopg.Error`.
    """
    connection = _live()
    try:
        # Statements sent together are one transaction.
        connection.execute(sql.Composed([_BEHIND.format(str(caller.org_id)), statement]))
    finally:
        _pool().putconn(connection)


def person(user_id: UUID) -> AbstractContextManager[Tx]:
    """Open one transaction in which only this person's own rows exist, and no tenant."""
    return _transaction(None, user_id)


def anonymous() -> AbstractContextManager[Tx]:
    """Open one transaction with no tenant and no person: no row is visible, only SECURITY DEFINER look-ups answer."""
    return _transaction(None, None)


@contextmanager
def acting_for(tx: Tx, org_id: UUID) -> Iterator[None]:
    """Let the operator write another tenant's rows within its own transaction; the tenant before is back after.

    The caller has checked a scope that only the operator holds.
    """
    before = tx.execute("SELECT current_setting('app.current_org_id') AS org_id").fetchone()
    _set_tenant(tx, str(org_id))
    yield
    _set_tenant(tx, before["org_id"] if before else "")


def become(tx: Tx, user_id: UUID) -> None:
    """Make this person's rows visible for the rest of an anonymous transaction, once they have proven who they are."""
    tx.execute("SELECT set_config('app.current_user_id', %s, true)", (str(user_id),))


def _set_tenant(tx: Tx, org_id: str) -> None:
    tx.execute("SELECT set_config('app.current_org_id', %s, true)", (org_id,))


@contextmanager
def _transaction(
    org_id: UUID | None,
    user_id: UUID | None,
    *,
    pool: Callable[[], ConnectionPool[Tx]] = _pool,
    begin: sql.SQL = _BEGIN,
) -> Iterator[Tx]:
    connection = _begin(org_id, user_id, pool, begin)
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
            _roll_back(connection)
        raise
    finally:
        pool().putconn(connection)


def _live() -> Tx:
    """Return a pooled connection whose server has not hung up, found out without a round trip."""
    for _ in range(_ATTEMPTS):
        try:
            connection = _pool().getconn()
        except PoolTimeout as error:
            raise Unavailable("The database can't be reached; try again shortly.", retry_after_s=1) from error
        waiting = poll()
        waiting.register(connection.fileno(), POLLIN)
        # A server says something unasked when it ends the connection.
        if not waiting.poll(0):
            return connection
        connection.close()
        _pool().putconn(connection)
    raise Unavailable("The database can't be reached; try again shortly.", retry_after_s=1)


def _begin(org_id: UUID | None, user_id: UUID | None, pool: Callable[[], ConnectionPool[Tx]], begin: sql.SQL) -> Tx:
    # BEGIN and the settings travel as one simple query: one round trip. They are always overwritten, so that a
    # connection can never carry an earlier request's tenant or person.
    setting = sql.SQL(
        "{}; SELECT set_config('app.current_org_id', {}, true), set_config('app.current_user_id', {}, true)"
    ).format(begin, *("" if setting is None else str(setting) for setting in (org_id, user_id)))
    failure: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            connection = pool().getconn()
        except PoolTimeout as error:
            raise Unavailable("The database can't be reached; try again shortly.", retry_after_s=1) from error
        try:
            connection.execute(setting)
        except OperationalError as error:
            failure = error
            connection.close()
            pool().putconn(connection)
        else:
            return connection
    raise Unavailable("The database can't be reached; try again shortly.", retry_after_s=1) from failure


def _roll_back(connection: Tx) -> None:
    try:
        connection.execute("ROLLBACK")
    except OperationalError:
        connection.close()
