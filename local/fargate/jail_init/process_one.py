"""Process 1 of a jail: starts the container's command, opens connections into the jail, reaps, watches the limits.

Runs from a read-only mount with the standard library only, since every millisecond here is one of each sandbox's
start. It talks to the stand-in outside over one socket (a message per packet, descriptors attached):
  out  `listening` + the socket on which the jail's way out is accepted, outside
  in   a JSON object: argv, env, port, and `watch` (null, or memory_bytes and processes)
  in   `dial`       out  `dialed` + a connection to the program's port, or `refused`
  in   `terminate`  SIGTERM for the program
  out  a JSON object: `{"note": …}` for the log, `{"exit_code": …, "reason": …}` as the last word
"""

import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import Any

from local.fargate.jail_init.resource_watch import ResourceWatch

EGRESS_PORT = 7101
_USER_ID = 1000
_PR_SET_DUMPABLE = 4
_LONGEST_MESSAGE_BYTES = 256 * 1024
_DIAL_TIMEOUT_S = 1.0
_WATCH_INTERVAL_MS = 100
_ENDED_BY_US = 128 + signal.SIGKILL
# Since Linux 5.14 the kernel counts a user's processes per user namespace, hence per jail; before, the limit
# would count everything that this person runs on the machine.
_COUNTS_PROCESSES_PER_JAIL = tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) >= (5, 14)


def main(control: socket.socket) -> int:
    """Run one container. Returns its exit status; the end of this process ends everything in the jail."""
    if os.getuid() == 0:
        _become(_USER_ID)
    os.chdir("/workspace")
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    with socket.create_server(("127.0.0.1", EGRESS_PORT)) as egress:
        socket.send_fds(control, [b"listening"], [egress.fileno()])
    order = json.loads(control.recv(_LONGEST_MESSAGE_BYTES))
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    program = _start(order)
    watch = ResourceWatch(program, **order["watch"]) if order["watch"] else None
    return _serve(control, woken, program, watch, order["port"])


def _become(user_id: int) -> None:
    """Leave root, and with it every capability, behind for good."""
    os.setgroups([])
    os.setresgid(user_id, user_id, user_id)
    os.setresuid(user_id, user_id, user_id)


def _start(order: dict[str, Any]) -> int:
    """Fork and become the container's command in the child. Returns the child's process id."""
    program = os.fork()
    if program:
        return program
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if order["watch"]:
            memory_bytes, processes = order["watch"]["memory_bytes"], order["watch"]["processes"]
            resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
            if _COUNTS_PROCESSES_PER_JAIL:
                # Somewhat more than the watch allows, so that it comes to see and end what keeps on forking.
                resource.setrlimit(resource.RLIMIT_NPROC, (processes + 64, processes + 64))
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - that is what an init does
    except OSError as error:
        print(f"{order['argv'][0]}: {error.strerror}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _serve(control: socket.socket, woken: socket.socket, program: int, watch: ResourceWatch | None, port: int) -> int:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(_WATCH_INTERVAL_MS if watch else None)}
        if woken.fileno() in ready:
            woken.recv(4096)
            exit_code = _reap(program)
            if exit_code is not None:
                _send(control, exit_code=exit_code, reason=None)
                return exit_code
        if control.fileno() in ready and not _obey(control, program, port):
            return _ENDED_BY_US
        if watch is not None:
            for note in watch.enforce():
                _send(control, note=note)
            if watch.hopeless:
                _send(control, exit_code=_ENDED_BY_US, reason=watch.hopeless)
                return _ENDED_BY_US


def _obey(control: socket.socket, program: int, port: int) -> bool:
    """Carry out one message. Returns whether the other side is still there."""
    message = control.recv(_LONGEST_MESSAGE_BYTES)
    if message == b"dial":
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=_DIAL_TIMEOUT_S) as connection:
                socket.send_fds(control, [b"dialed"], [connection.fileno()])
        except OSError:
            control.send(b"refused")
    elif message == b"terminate":
        os.kill(program, signal.SIGTERM)
    return bool(message)


def _reap(program: int) -> int | None:
    """Collect ended processes, orphans included. Returns the program's exit status once it has ended."""
    exit_code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return exit_code
        if pid == 0:
            return exit_code
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            exit_code = code if code >= 0 else 128 - code


def _send(control: socket.socket, **message: object) -> None:
    control.send(json.dumps(message).encode())


def run(descriptor: int) -> None:
    """Run as this process, speaking over the inherited descriptor."""
    os.set_inheritable(descriptor, False)
    sys.exit(main(socket.socket(fileno=descriptor)))
