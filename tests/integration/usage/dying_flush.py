"""A flush that is killed before its first statement, the next one before its second, until one gets to its end.

`python -m tests.integration.usage.dying_flush ORG_ID`: counts a request before each flush, and prints how many.
"""

import inspect
import itertools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Connection

from functions.schedules.flush_usage import handler
from shared.kernel import clock, counting
from shared.kernel.caller import Caller
from tests.api_gateway import Context

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


def main(org_id: UUID) -> None:
    caller = Caller.system(org_id)
    for statements in itertools.count():
        # A window in which more and more is counted late, and one that is new.
        in_process(partial(count, caller, [NOON, NOON + (statements + 1) * counting.WINDOW]))
        if in_process(partial(flush, statements)) == 0:
            break
    print(statements + 1)


def count(caller: Caller, moments: Sequence[datetime]) -> None:
    waiting = iter(moments)
    clock.now = lambda: next(waiting)
    for _ in moments:
        counting.count(caller, 200)


def flush(statements: int) -> None:
    clock.now = lambda: NOON + timedelta(days=2)
    plain, left = Connection.execute, [statements]

    def execute(self: Connection[Any], *values: Any, **options: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return plain(self, *values, **options)

    Connection.execute = execute  # type: ignore[method-assign]
    # Without its trace: each process would load the libraries of that anew.
    inspect.unwrap(handler)({}, Context())


def in_process(work: Callable[[], None]) -> int:
    """Do it in a process of its own and return 0, or the signal that killed it; whatever it had opened dies with it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status > 0:
        raise SystemExit(status)
    return -status


if __name__ == "__main__":
    main(UUID(sys.argv[1]))
