"""Processes that cost milliseconds: forked from one that has imported what they need, and has no threads of its own.

The standard forkserver imports the main module anew in each of them, which takes longer than most of them live.
"""

import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parent.parent
_LARGEST_MESSAGE = 65_536

type Pipe = Connection[Any, Any]
type Work = Callable[[Pipe], None]


@dataclass(frozen=True, slots=True)
class Child:
    """A process at work, and the pipe to it."""

    pid: int
    pipe: Pipe
    _line: socket.socket

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        os.kill(self.pid, signal.SIGKILL)

    def bury(self) -> int:
        """Wait for its end; return its exit code, below zero the signal that ended it. Its id is its own until then."""
        self.pipe.close()
        self._line.send(str(self.pid).encode())
        return int(self._line.recv(_LARGEST_MESSAGE))


class Nursery:
    """The process that others are forked from. What they print is lost, but for their errors."""

    def __enter__(self) -> Self:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"from tests.nursery import serve; serve({theirs.fileno()})"
        command = [sys.executable, "-c", code]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        self._process.wait()

    def fork(self, work: Work) -> Child:
        """Start a process that does `work` with the other end of a pipe; `work` has to be importable, or a partial."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._line, [pickle.dumps(work)], [theirs.fileno()])
        pid = int(self._line.recv(_LARGEST_MESSAGE))
        return Child(pid, Connection(ours.detach()), self._line)


def serve(descriptor: int) -> None:
    """Be the nursery: fork for each message with a pipe, wait for a child for each without."""
    line = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, *_ = socket.recv_fds(line, _LARGEST_MESSAGE, 1)
        if not message:
            return
        if not descriptors:
            _, status = os.waitpid(int(message), 0)
            line.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        # Imports what the work is made of, here and so only once.
        work: Work = pickle.loads(message)
        pid = os.fork()
        if pid == 0:
            line.close()
            _be_child(work, Connection(descriptors[0]))
        os.close(descriptors[0])
        line.send(str(pid).encode())


def _be_child(work: Work, pipe: Pipe) -> None:
    code = 1
    try:
        work(pipe)
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of the nursery may go on in a child
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
