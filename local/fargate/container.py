"""One running jail: starting it, connecting into it, stopping it, learning how it ended."""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.fargate.jail import USER_ID, Jail
from local.fargate.user_namespace import mapped_user_namespace

_LONGEST_MESSAGE_BYTES = 256 * 1024
_LONGEST_LOG_LINE = 4096
_START_TIMEOUT_S = 20.0

logger = logging.getLogger(__name__)


class ContainerStartError(Exception):
    """The jail could not be set up; the message is bubblewrap's own."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What to run and how much of the machine it may have."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    port: int
    memory_bytes: int
    processes: int
    control_group: tuple[Path, ...] = ()
    """Files to join before the start; the group then holds the limits, and nobody inside has to watch them."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended. `reason` is set where it is known better than by the exit code."""

    exit_code: int
    reason: str | None = None


class Container:
    """A jail with its process 1, to which the other half of this class (`jail_init`) belongs."""

    def __init__(
        self, spec: ContainerSpec, control: socket.socket, process: asyncio.subprocess.Process, output: int
    ) -> None:
        self.spec = spec
        self._control = control
        self._process = process
        self._dials: deque[asyncio.Future[socket.socket | None]] = deque()
        self._egress: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._last_word: Exit | None = None
        self._log_tail: deque[str] = deque(maxlen=20)
        self._logging = asyncio.create_task(self._log_output(output))
        asyncio.get_running_loop().add_reader(control.fileno(), self._receive)

    @classmethod
    async def start(cls, spec: ContainerSpec, jail: Jail, bwrap: Path) -> tuple["Container", socket.socket]:
        """Start the jail. Returns it with the socket that listens inside for its way out.

        Raises `ContainerStartError`.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        # A pipe of our own: asyncio's would make waiting for the process wait for all who hold it, too.
        output, theirs_output = os.pipe()
        try:
            with theirs, _user_namespace() as namespace:
                command = jail.command(bwrap, control=theirs.fileno(), user_namespace=namespace)
                process = await asyncio.create_subprocess_exec(
                    *_joining(spec.control_group, command),
                    pass_fds=(theirs.fileno(), *([] if namespace is None else [namespace])),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=theirs_output,
                    stderr=theirs_output,
                    env={},
                    cwd="/",
                )
        except BaseException:
            ours.close()
            os.close(output)
            raise
        finally:
            os.close(theirs_output)
        container = cls(spec, ours, process, output)
        try:
            egress = await container._until_listening()
        except BaseException:
            await container.kill()
            raise
        watch = None if spec.control_group else {"memory_bytes": spec.memory_bytes, "processes": spec.processes}
        order = {"argv": spec.argv, "env": spec.environment, "port": spec.port, "watch": watch}
        ours.send(json.dumps(order).encode())
        return container, egress

    async def dial(self) -> socket.socket | None:
        """Return a connection to the program's port, or None when nobody listens there."""
        future: asyncio.Future[socket.socket | None] = asyncio.get_running_loop().create_future()
        try:
            self._control.send(b"dial")
        except OSError:
            return None
        self._dials.append(future)
        # Shielded: the answers come in order, so a place in the queue is kept although nobody waits any more.
        return await asyncio.shield(future)

    def terminate(self) -> None:
        """Send SIGTERM to the program, as ECS does first."""
        with contextlib.suppress(OSError):
            self._control.send(b"terminate")

    async def kill(self) -> Exit:
        """End everything in the jail now."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self.wait()

    async def wait(self) -> Exit:
        """Return how the container ended, once nothing of it is left."""
        code = await self._process.wait()
        self._receive()
        # Process 1 ends with the conversation, should it have survived bubblewrap: as root it has another user, whom
        # the kernel does not let bubblewrap's death kill.
        self._close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._logging), timeout=1)
        return self._last_word or Exit(code if code >= 0 else 128 - code)

    async def _until_listening(self) -> socket.socket:
        ended = asyncio.create_task(self._process.wait())
        try:
            both: set[asyncio.Future[Any]] = {self._egress, ended}
            await asyncio.wait(both, timeout=_START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if self._egress.done():
            return self._egress.result()
        if self._process.returncode is None:
            raise ContainerStartError(f"The jail was not set up within {_START_TIMEOUT_S:.0f} s.")
        await asyncio.wait({self._logging}, timeout=1)
        raise ContainerStartError(" ".join(self._log_tail) or f"bubblewrap ended with {self._process.returncode}")

    def _receive(self) -> None:
        """Handle every message that has arrived from process 1."""
        while self._control.fileno() >= 0:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._control, _LONGEST_MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            except OSError:
                message, descriptors = b"", []
            if not message:
                self._close()
                return
            self._handle(message, socket.socket(fileno=descriptors[0]) if descriptors else None)

    def _handle(self, message: bytes, attached: socket.socket | None) -> None:
        if message == b"listening" and attached is not None and not self._egress.done():
            self._egress.set_result(attached)
        elif message in {b"dialed", b"refused"} and self._dials:
            self._dials.popleft().set_result(attached)
        elif message.startswith(b"{"):
            self._note(json.loads(message))
        elif attached is not None:
            attached.close()

    def _note(self, said: dict[str, Any]) -> None:
        if "exit_code" in said:
            self._last_word = Exit(said["exit_code"], said["reason"])
        else:
            logger.warning("%s", said["note"], extra={"sandbox": self.spec.name})

    def _close(self) -> None:
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
        while self._dials:
            self._dials.popleft().set_result(None)

    async def _log_output(self, output: int) -> None:
        """Pass on what the program logs; of an overlong line, pieces."""
        reader = asyncio.StreamReader()
        pipe = open(output, "rb", buffering=0)  # noqa: SIM115, ASYNC230 - closed by the transport
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        rest = b""
        while chunk := await reader.read(_LONGEST_LOG_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= _LONGEST_LOG_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._log(line)
        if rest:
            self._log(rest)

    def _log(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        self._log_tail.append(text)
        logger.info("%s", text, extra={"sandbox": self.spec.name})


def _user_namespace() -> contextlib.AbstractContextManager[int | None]:
    """Root brings the namespace along; for everybody else bubblewrap makes it."""
    return mapped_user_namespace(USER_ID) if os.geteuid() == 0 else contextlib.nullcontext()


# Each process enters the group by itself, before it becomes bubblewrap: so no descendant can be outside.
_JOIN = 'for file in "$@"; do shift; [ "$file" = -- ] && break; echo 0 > "$file" || exit 125; done; exec "$@"'


def _joining(control_group: tuple[Path, ...], command: list[str]) -> list[str]:
    if not control_group:
        return command
    return ["/bin/sh", "-c", _JOIN, "sh", *map(os.fspath, control_group), "--", *command]
