"""What a program started stays its child until it is reaped, however many threads look at once."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from local import processes
from local.processes import Command, Record

_CHILDREN = 60


def start(folder: Path, number: int) -> Record:
    return processes.start(
        Command(("sleep", "60"), dict(os.environ), folder),
        record_file=folder / f"{number}.pid",
        log_file=folder / f"{number}.log",
        fingerprint="any",
        marker=str(folder),
    )


def test_children_that_live_are_kept_while_others_are_found_dead_by_several_threads(tmp_path: Path) -> None:
    """Python warns of a child that was let go alive, and warnings fail a test."""
    started = [start(tmp_path, number) for number in range(_CHILDREN)]
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            started[-1].process()

    with ThreadPoolExecutor(8) as pool:
        looking = [pool.submit(look) for _ in range(8)]
        try:
            for record in started[:-1]:
                os.kill(record.pid, signal.SIGKILL)
                until_buried(record.pid)
        finally:
            done.set()
        for each in looking:
            each.result()
    os.kill(started[-1].pid, signal.SIGKILL)
    until_buried(started[-1].pid)


def until_buried(pid: int) -> None:
    """Wait until somebody who looks at any process has reaped this one."""
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid):
        processes.Record(pid, 0, "any").process()
        assert time.monotonic() < deadline, f"{pid} is a zombie for good"
        time.sleep(0.001)
