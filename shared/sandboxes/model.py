"""A sandbox is one task that runs a tenant's commands; it is paid from ready to stopped and never outlives its TTL."""

import hashlib
import ipaddress
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

from shared.kernel import ids
from shared.kernel.caller import Attribution
from shared.kernel.errors import Conflict, InvalidRequest, InvalidTransition, PayloadTooLarge, Unavailable

PROGRAM_PORT = 7100
DEFAULT_TTL_S = 900
MAX_TTL_S = 3600
# In base64 it must fit the 6 MB that Lambda takes and gives in one call.
MAX_FILE_BYTES = 4 * 1024 * 1024
# What a caller may wait for in one request: API Gateway answers for us after 30 s.
MAX_WAIT_S = 25


class SandboxStatus(StrEnum):
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class StopReason(StrEnum):
    """Why a sandbox is no more."""

    REQUESTED = "requested"
    RUN_ENDED = "run_ended"
    TTL = "ttl"
    START_FAILED = "start_failed"
    LOST = "lost"


class SandboxNotReady(Conflict):
    """It is still starting, or has ended."""

    code = "sandbox_not_ready"


class SandboxLost(Unavailable):
    """Its task ended or can't be reached: commands that ran in it have no result."""

    code = "sandbox_lost"
    retryable = False


class SandboxStartFailed(Unavailable):
    """The sandbox could not be started; nothing is charged for it."""

    code = "sandbox_start_failed"
    retryable = False


class FileRefused(InvalidRequest):
    """The program inside refused a path: outside /workspace, not there, not a file."""

    code = "file_refused"


class FileTooLarge(PayloadTooLarge):
    """The file is larger than a sandbox takes in one request."""

    code = "file_too_large"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`created_by_user` is the person who started it or its run, where a person did; `created_by_actor` they or a key.

    `agent_id` is the agent whose run it serves.
    """

    id: UUID
    run_id: UUID | None
    created_by_user: UUID | None
    created_by_actor: str | None
    agent_id: UUID | None
    template: str
    cpu_units: int
    memory_mib: int
    status: SandboxStatus
    reason: StopReason | None
    task_arn: str | None
    address: str | None
    access_token: str | None
    wake_token: str | None
    cost_microusd: int
    metadata: dict[str, str]
    created_at: datetime
    ready_at: datetime | None
    stopped_at: datetime | None
    expires_at: datetime

    @property
    def ended(self) -> bool:
        return self.status in (SandboxStatus.STOPPING, SandboxStatus.STOPPED, SandboxStatus.FAILED)

    @property
    def attribution(self) -> Attribution:
        """Return whose use it is, whoever ends it."""
        return Attribution.of(
            actor_id=self.created_by_actor or "",
            person_id=self.created_by_user,
            agent_id="" if self.agent_id is None else ids.show("agent", self.agent_id),
        )

    def registered(self, *, address: str, access_token: str) -> Self:
        """Return it with the program's address; raise `InvalidTransition` for a second, different registration."""
        if self.ended:
            raise InvalidTransition("This sandbox has ended.")
        if self.access_token is not None and self.access_token != access_token:
            raise InvalidTransition("This sandbox is registered already; its token works once.")
        return replace(self, address=address, access_token=access_token)

    def ready(self, now: datetime) -> Self:
        """Return it ready: a first command has succeeded."""
        if self.ended:
            raise InvalidTransition("This sandbox has ended.")
        return replace(self, status=SandboxStatus.READY, ready_at=self.ready_at or now)

    def end(self, reason: StopReason, now: datetime) -> Self:
        """Return it stopping (or failed, when it did not end by our will); unchanged when it has ended before."""
        if self.ended:
            return self
        failed = reason in (StopReason.LOST, StopReason.START_FAILED)
        status = SandboxStatus.FAILED if failed else SandboxStatus.STOPPING
        return replace(self, status=status, reason=reason, stopped_at=now)

    def costing(self, microusd: int) -> Self:
        return replace(self, cost_microusd=microusd)

    def billable_s(self, now: datetime) -> int:
        """Return whole seconds from ready to the end (or now), begun seconds counted; 0 if it never was ready."""
        if self.ready_at is None:
            return 0
        until = min(self.stopped_at or now, self.expires_at)
        return max(0, -((self.ready_at - until) // timedelta(seconds=1)))

    def reachable(self) -> tuple[str, str]:
        """Return address and access token; raise unless a command can be sent now."""
        if self.status is SandboxStatus.FAILED and self.reason is StopReason.LOST:
            raise SandboxLost("This sandbox was lost: its task ended unexpectedly.")
        if self.status is not SandboxStatus.READY or self.address is None or self.access_token is None:
            raise SandboxNotReady(f"This sandbox is {self.status}; commands need it ready.")
        return self.address, self.access_token


@dataclass(frozen=True, slots=True)
class Registration:
    """The one-time token with which the program inside reports for duty; only its hash is stored."""

    token: str

    @classmethod
    def generate(cls) -> Self:
        return cls(secrets.token_urlsafe(32))

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.token.encode()).digest()


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """What to execute: either `argv` or `shell`. Times in seconds, sizes in bytes."""

    argv: list[str] | None = None
    shell: str | None = None
    cwd: str = "/workspace"
    env: dict[str, str] | None = None
    stdin: str = ""
    timeout_s: int = 60
    max_output_bytes: int = 1024 * 1024

    def to_json(self) -> dict[str, Any]:
        """Return what the program inside takes, and what is stored of it."""
        command: dict[str, Any] = {"argv": self.argv} if self.argv is not None else {"shell": self.shell}
        return command | {
            "cwd": self.cwd,
            "env": self.env or {},
            "stdin": self.stdin,
            "timeout_s": self.timeout_s,
            "max_output_bytes": self.max_output_bytes,
        }


@dataclass(frozen=True, slots=True)
class Command:
    """A command and, once it ended, its result. `status`: running, exited, timed_out, killed or lost."""

    id: UUID
    sandbox_id: UUID
    command: dict[str, Any]
    status: str
    exit_code: int | None
    stdout: str
    stderr: str
    truncated: bool
    duration_ms: int | None
    created_at: datetime
    ended_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.status != "running"


def program_address(text: str) -> str:
    """Return the address a program registered; raise unless it is a private IPv4 address and the program's port.

    The platform calls this address, so that nothing else may come through: no names, no metadata endpoint.
    """
    try:
        parts = urlsplit(text)
        host = ipaddress.IPv4Address(parts.hostname or "")
        port = parts.port
    except ValueError as error:
        raise InvalidRequest("address: not an IPv4 address.", param="address") from error
    plain = parts.scheme == "http" and not parts.path and not parts.query and parts.username is None
    if not plain or not host.is_private or host.is_link_local or host.is_unspecified or port != PROGRAM_PORT:
        raise InvalidRequest(f"address: expected http://<private IPv4>:{PROGRAM_PORT}.", param="address")
    return f"http://{host}:{port}"
