"""What every function of a stage stands on: network, data, secrets, names. Made by `app.py`, passed to the stacks."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from infra_cdk.names import Names
from infra_cdk.stages import HomeEndpoints, Stage

if TYPE_CHECKING:  # a second of import time that a home has no use for
    from aws_cdk.aws_ec2 import ISecurityGroup, IVpc, SubnetSelection


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionNetwork:
    """Where in the VPC the functions run (AWS only)."""

    vpc: "IVpc"
    subnets: "SubnetSelection"
    security_group: "ISecurityGroup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """How functions reach Postgres and Redis. The URLs hold a password at home and none in AWS (IAM)."""

    database_url: str
    # A replica, where there is one: the same role at the same proxy, so that it takes no further permission.
    database_reader_url: str
    migration_database_url: str
    redis_url: str
    # AWS only: the resource of `rds-db:connect`, and Aurora's own secret with the owner's password.
    database_user_arn: str | None = None
    owner_secret_arn: str | None = None

    @classmethod
    def at_home(cls, home: HomeEndpoints) -> Self:
        return cls(
            database_url=home.database_url,
            database_reader_url=home.database_url,
            migration_database_url=home.migration_database_url,
            redis_url=home.redis_url,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The stage's secrets and the key they are encrypted with; the key that wraps what identity keeps in Postgres."""

    key_arn: str
    operator_arn: str
    model_provider_arn: str
    oauth_clients_arn: str
    identity_key_arn: str
    # What the edge in front of the API proves itself with; resolved when it is deployed.
    edge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPlace:
    """Where sandbox tasks are started. Without a VPC (at home) both are empty."""

    subnet_ids: tuple[str, ...] = ()
    security_group_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Everything functions are given, once."""

    stage: Stage
    secrets: Secrets
    data: Data
    network: FunctionNetwork | None = None
    sandboxes: SandboxPlace = SandboxPlace()
    # The API's address; known from the API stack on.
    api_url: str = ""

    @property
    def names(self) -> Names:
        return Names(self.stage)

    def with_sandboxes(self, place: SandboxPlace) -> Self:
        return replace(self, sandboxes=place)

    def with_api(self, url: str) -> Self:
        return replace(self, api_url=url)
