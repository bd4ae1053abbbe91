"""Public JSON of sandboxes, commands and files."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.kernel.fields import CommandId, Input, Metadata, Output, RunId, SandboxId
from shared.sandboxes.model import DEFAULT_TTL_S, MAX_TTL_S, Command, CommandRequest, Sandbox


class CreateSandbox(Input):
    ttl_s: Annotated[
        int, Field(ge=60, le=MAX_TTL_S, description="Seconds after which it is stopped whatever it does.")
    ] = DEFAULT_TTL_S
    metadata: Metadata = {}


class RegisterSandbox(Input):
    """What the program inside a sandbox sends when it starts; not for customers."""

    sandbox_id: SandboxId
    registration_token: Annotated[str, Field(min_length=20, max_length=100)]
    address: Annotated[str, Field(max_length=100, examples=["http://10.0.3.7:7100"])]
    access_token: Annotated[str, Field(min_length=32, max_length=200)]


class ExecuteCommand(Input):
    argv: Annotated[
        list[Annotated[str, Field(max_length=8192)]] | None,
        Field(min_length=1, max_length=256, description="Program and arguments; or `shell`.", examples=[None]),
    ] = None
    shell: Annotated[str | None, Field(min_length=1, max_length=65536, examples=["python3 -c 'print(6*7)'"])] = None
    cwd: Annotated[str, Field(max_length=4096, examples=["/workspace"])] = "/workspace"
    env: Annotated[dict[str, str], Field(max_length=64, examples=[{"LANG": "C.UTF-8"}])] = {}
    stdin: Annotated[str, Field(max_length=1024 * 1024)] = ""
    timeout_s: Annotated[int, Field(ge=1, le=900)] = 60
    max_output_bytes: Annotated[int, Field(ge=1, le=1024 * 1024)] = 1024 * 1024

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.argv is None) == (self.shell is None):
            raise ValueError("Give either argv or shell.")
        return self

    def to_request(self) -> CommandRequest:
        return CommandRequest(**dict(self))


class SandboxOut(Output):
    id: SandboxId
    object: Literal["sandbox"] = "sandbox"
    status: str = Field(examples=["ready"], description="starting, ready, stopping, stopped or failed.")
    reason: str | None = Field(description="Why it ended.", examples=[None])
    run_id: RunId | None = Field(description="The run it belongs to, if any.")
    template: str = Field(examples=["python"])
    cpu_units: int = Field(description="1,024 are one vCPU.", examples=[256])
    memory_mib: int = Field(examples=[512])
    cost_microusd: int = Field(description="Settled once it has ended; 0 before.")
    metadata: Metadata
    created_at: datetime
    ready_at: datetime | None
    stopped_at: datetime | None
    expires_at: datetime

    @classmethod
    def of(cls, sandbox: Sandbox) -> Self:
        return cls(
            id=sandbox.id,
            status=sandbox.status,
            reason=sandbox.reason,
            run_id=sandbox.run_id,
            template=sandbox.template,
            cpu_units=sandbox.cpu_units,
            memory_mib=sandbox.memory_mib,
            cost_microusd=sandbox.cost_microusd,
            metadata=sandbox.metadata,
            created_at=sandbox.created_at,
            ready_at=sandbox.ready_at,
            stopped_at=sandbox.stopped_at,
            expires_at=sandbox.expires_at,
        )


class RegistrationOut(Output):
    object: Literal["sandbox_registration"] = "sandbox_registration"
    sandbox_id: SandboxId


class CommandOut(Output):
    id: CommandId
    object: Literal["command"] = "command"
    sandbox_id: SandboxId
    status: str = Field(description="running, exited, timed_out, killed or lost.", examples=["exited"])
    exit_code: int | None
    stdout: str
    stderr: str
    truncated: bool = Field(description="Whether output beyond max_output_bytes was dropped.")
    duration_ms: int | None
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, command: Command) -> Self:
        return cls(
            id=command.id,
            sandbox_id=command.sandbox_id,
            status=command.status,
            exit_code=command.exit_code,
            stdout=command.stdout,
            stderr=command.stderr,
            truncated=command.truncated,
            duration_ms=command.duration_ms,
            created_at=command.created_at,
            ended_at=command.ended_at,
        )


class FileOut(Output):
    object: Literal["file"] = "file"
    path: str = Field(examples=["/workspace/main.py"])
    type: str = Field(examples=["file"], description="file, directory or other.")
    size_bytes: int
    modified_at: datetime | None = None


class FileList(Output):
    object: Literal["list"] = "list"
    data: list[FileOut]
