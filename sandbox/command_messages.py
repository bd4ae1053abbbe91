"""What a client asks of a command and what it gets back: the JSON of `/commands`."""

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sandbox.config import MIB

type CommandStatus = Literal["running", "exited", "timed_out", "killed"]

CommandId = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\A[A-Za-z0-9_.:\-]+\Z")]
Wait = Annotated[float, Meta(ge=0, le=60)]


class CommandRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One command: either `argv` or `shell`. Raises `msgspec.ValidationError` while decoding."""

    id: CommandId
    argv: list[str] | None = None
    shell: str | None = None
    cwd: str = "."
    env: dict[str, str] = {}
    stdin: str = ""
    timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 60
    max_output_bytes: Annotated[int, Meta(ge=0, le=10 * MIB)] = MIB
    wait_s: Wait = 25

    def __post_init__(self) -> None:
        if (self.argv is None) == (self.shell is None):
            raise ValueError("give either `argv` or `shell`")
        if self.argv is not None and not (self.argv and self.argv[0]):
            raise ValueError("`argv` names no program")
        texts = [*(self.argv or [self.shell or ""]), self.cwd, *self.env, *self.env.values()]
        if any("\0" in text for text in texts):
            raise ValueError("NUL characters cannot be passed to a program")
        if any(not name or "=" in name for name in self.env):
            raise ValueError("`env` has a name that is empty or contains `=`")

    def fingerprint(self) -> bytes:
        """Return a digest of what would be executed: equal for a repeated request however long it waits."""
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, wait_s=0), order="sorted")).digest()


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """A command as it is now. `exit_code` is 128 + n where signal n ended it, and null while it runs."""

    id: str
    status: CommandStatus
    exit_code: int | None
    stdout: str
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    duration_ms: int
    max_rss_bytes: int | None
