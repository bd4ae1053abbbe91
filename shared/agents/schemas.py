"""Public JSON of agents, versions and grants."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from shared.agents.model import (
    DEFAULT_TOOLS,
    MAX_BUDGET_MICROUSD,
    TOOLS,
    Access,
    Agent,
    AgentConfig,
    AgentVersion,
    Grant,
)
from shared.kernel.fields import AgentId, GrantId, Input, Metadata, Output, TeamId, UserId

Name = Annotated[str, Field(min_length=1, max_length=100, examples=["Analyst"])]


class Config(Input):
    """What a version of an agent fixes."""

    instructions: Annotated[
        str,
        Field(
            max_length=100_000,
            description="The system prompt.",
            examples=["Write a program for the task, run it, and answer from its output."],
        ),
    ] = "Use your tools to do what you are asked. Check your results by running code, then answer briefly."
    model: Annotated[
        str | None, Field(max_length=200, description="The platform's default model if none.", examples=[None])
    ] = None
    tools: Annotated[
        list[str],
        Field(max_length=32, description=f"Any of: {', '.join(TOOLS)}.", examples=[["sandbox.exec", "memory.save"]]),
    ] = list(DEFAULT_TOOLS)
    max_steps: Annotated[int, Field(ge=1, le=200, description="Model calls at most.")] = 20
    timeout_s: Annotated[int, Field(ge=10, le=3000, description="Seconds a run may take.")] = 600
    budget_microusd: Annotated[
        int, Field(ge=1, le=MAX_BUDGET_MICROUSD, description="What one run may cost at most; 1,000,000 are $1.")
    ] = 500_000

    def to_model(self) -> AgentConfig:
        return AgentConfig(**(dict(self) | {"tools": tuple(dict.fromkeys(self.tools))}))

    @classmethod
    def of(cls, config: AgentConfig) -> Self:
        return cls(**config.to_json())


class CreateAgent(Input):
    name: Name
    config: Config = Config()
    metadata: Metadata = {}


class UpdateAgent(Input):
    """Only what is given changes; a changed config makes a new version."""

    name: Annotated[Name | None, Field(examples=["Analyst"])] = None
    config: Config | None = None
    metadata: Metadata | None = None


class AgentOut(Output):
    id: AgentId
    object: Literal["agent"] = "agent"
    name: str
    version: int = Field(description="The live version.", examples=[1])
    config: Config
    metadata: Metadata
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, agent: Agent) -> Self:
        return cls(
            id=agent.id,
            name=agent.name,
            version=agent.version,
            config=Config.of(agent.config),
            metadata=agent.metadata,
            created_at=agent.created_at,
            updated_at=agent.updated_at,
        )


class AgentVersionOut(Output):
    object: Literal["agent_version"] = "agent_version"
    agent_id: AgentId
    version: int
    config: Config
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, version: AgentVersion) -> Self:
        return cls(
            agent_id=version.agent_id,
            version=version.version,
            config=Config.of(version.config),
            created_by=version.created_by,
            created_at=version.created_at,
        )


class ShareAgent(Input):
    """With whom, a team or a person, and what for. Sharing with the same one again changes what for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user_id": "user_01h455vb4pex5vsknk084sn02q", "access": "read"}]}
    )

    team_id: TeamId | None = None
    user_id: UserId | None = None
    access: Annotated[Access, Field(description="`read`: see and run it; `write`: change it as well.")] = Access.READ

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.team_id is None) == (self.user_id is None):
            raise ValueError("Give either team_id or user_id.")
        return self


class GrantOut(Output):
    id: GrantId
    object: Literal["grant"] = "grant"
    agent_id: AgentId
    team_id: TeamId | None
    user_id: UserId | None
    access: Access
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, grant: Grant) -> Self:
        return cls(
            id=grant.id,
            agent_id=grant.agent_id,
            team_id=grant.team_id,
            user_id=grant.user_id,
            access=grant.access,
            created_by=grant.created_by,
            created_at=grant.created_at,
        )
