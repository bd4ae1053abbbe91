"""An agent is a name for a line of immutable versions; a run keeps the version it began with."""

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from shared.kernel.errors import Forbidden, InvalidRequest

# What an agent may be given; runs know how to execute each.
TOOLS = (
    "memory.save",
    "memory.search",
    "sandbox.exec",
    "sandbox.list_files",
    "sandbox.read_file",
    "sandbox.write_file",
)
DEFAULT_TOOLS = TOOLS
MAX_BUDGET_MICROUSD = 100_000_000


class SharedToRead(Forbidden):
    """The agent was shared with you to read and run: whoever made it, or an admin, can let you change it."""

    code = "shared_to_read"


class SharingRefused(Forbidden):
    """Only whoever made an agent, or an admin of the org, says with whom it is shared."""

    code = "sharing_refused"


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What a version fixes. `model` None: the platform's default at the time of the run."""

    instructions: str
    model: str | None
    tools: tuple[str, ...]
    max_steps: int
    timeout_s: int
    budget_microusd: int

    def checked(self) -> Self:
        """Return it; raise `InvalidRequest` for tools that don't exist."""
        if unknown := sorted(set(self.tools) - set(TOOLS)):
            raise InvalidRequest(
                f"Unknown tools: {', '.join(unknown)}. There are: {', '.join(TOOLS)}.", param="config.tools"
            )
        return self

    @property
    def needs_sandbox(self) -> bool:
        return any(tool.startswith("sandbox.") for tool in self.tools)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"tools": list(self.tools)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        return cls(**(stored | {"tools": tuple(stored["tools"])}))


@dataclass(frozen=True, slots=True)
class AgentVersion:
    agent_id: UUID
    version: int
    config: AgentConfig
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent with its live version's config. `created_by_user` is the person who made it, where a person did."""

    id: UUID
    created_by_user: UUID | None
    name: str
    version: int
    config: AgentConfig
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime


class Access(StrEnum):
    """What an agent is shared for; writing includes reading. Who may read an agent may run it."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Grant:
    """An agent shared with one team or one person."""

    id: UUID
    agent_id: UUID
    team_id: UUID | None
    user_id: UUID | None
    access: Access
    created_by: str
    created_at: datetime
