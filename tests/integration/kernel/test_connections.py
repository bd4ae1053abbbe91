"""Connections of a process with threads of its own."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from shared.kernel import db
from shared.kernel.caller import Caller

_THREADS = 16


def test_threads_that_use_the_database_first_at_once_share_one_pool(org: Caller) -> None:
    for _ in range(20):
        db.close()
        together = Barrier(_THREADS)

        def look(together: Barrier = together) -> int:
            together.wait()
            with db.tenant(org) as tx:
                return len(tx.execute("SELECT FROM orgs").fetchall())

        with ThreadPoolExecutor(_THREADS) as threads:
            seen = [each.result() for each in [threads.submit(look) for _ in range(_THREADS)]]
        assert seen == [1] * _THREADS
