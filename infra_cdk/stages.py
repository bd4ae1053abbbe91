"""The stages Runyard is deployed to, and everything in which they differ."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from aws_cdk import RemovalPolicy
from aws_cdk.aws_lambda import Architecture
from aws_cdk.aws_logs import RetentionDays
from constructs import Node

from layers.catalogue import DEFAULT_CACHE, Platform

# The AWS Lambda Web Adapter 1.0.1 for arm64, as its makers publish it in AWS's commercial regions.
_WEB_ADAPTER_LAYER = "arn:aws:lambda:{region}:753240598075:layer:LambdaAdapterLayerArm64:28"
# Where the program in a sandbox listens.
SANDBOX_PORT = 7100


class StageError(Exception):
    """The stage or its settings can't be used; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeEndpoints:
    """Where the parts of a home on one machine listen; `local/` writes them to the file given as `-c endpoints=`.

    The defaults are the home's default ports, so that the stage can be synthesised before a home exists.
    """

    database_url: str = "postgresql://runyard_app:runyard_app@127.0.0.1:7072/runyard"
    migration_database_url: str = "postgresql://runyard_owner:runyard_owner@127.0.0.1:7072/runyard"
    redis_url: str = "redis://127.0.0.1:7073/0"
    public_url: str = "http://127.0.0.1:7070"
    model_base_url: str = "http://127.0.0.1:7074/v1"
    model: str = "runyard-offline"
    embedding_model: str = "runyard-offline-embed"
    mail_from: str = "runyard@localhost"
    # What the front door proves itself with.
    edge_secret: str = "edge"  # noqa: S105 - a stand-in for synthesis; a real home's is random

    @classmethod
    def read(cls, path: Path) -> "HomeEndpoints":
        """Read the file; raise `StageError` when it is not a complete one."""
        try:
            given: Any = json.loads(path.read_text())
            return cls(**{field.name: str(given[field.name]) for field in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StageError(
                f"The endpoints file {path} can't be used ({type(error).__name__}: {error}); `make up` writes it anew."
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One deployment of Runyard. `home` is set for the stage on one machine, and for no other."""

    name: str
    region: str = "us-east-1"
    account: str | None = None
    home: HomeEndpoints | None = None
    layers_cache: Path = DEFAULT_CACHE

    # What customers call it. Without one the API's own address is used.
    public_url: str | None = None
    cors_origins: tuple[str, ...] = ()
    # Letters to people come from here: an address, or a domain, that SES has verified.
    mail_from: str = "no-reply@runyard.invalid"
    model_base_url: str = "https://api.openai.com/v1"
    model: str = "gpt-5-mini"
    embedding_model: str = "text-embedding-3-small"

    # Data outlives the stack and is backed up for longer.
    keeps_data: bool = False
    backup_days: int = 7
    log_retention: RetentionDays = RetentionDays.ONE_MONTH

    # The AWS Lambda Web Adapter's layer, where it isn't the public one of the stage's region.
    web_adapter_layer: str | None = None

    # Reserving needs an account whose concurrency quota was raised above the initial 10.
    reserves_concurrency: bool = True
    requests_per_second: int = 500
    burst_requests: int = 1000

    availability_zones: int = 2
    nat_gateways: int = 1
    interface_endpoints: bool = False
    database_min_acu: float = 0.5
    database_max_acu: float = 4
    database_readers: int = 0
    cache_max_gb: int = 2

    @property
    def in_aws(self) -> bool:
        return self.home is None

    @property
    def layer_platform(self) -> Platform:
        return Platform.AWS if self.in_aws else Platform.LOCAL

    @property
    def architecture(self) -> Architecture:
        if self.in_aws or platform.machine() in {"arm64", "aarch64"}:
            return Architecture.ARM_64
        return Architecture.X86_64

    @property
    def web_adapter_layer_arn(self) -> str:
        return self.web_adapter_layer or _WEB_ADAPTER_LAYER.format(region=self.region)

    @property
    def removal_policy(self) -> RemovalPolicy:
        """What happens to data when its stack is deleted."""
        return RemovalPolicy.RETAIN if self.keeps_data else RemovalPolicy.DESTROY


LOCAL = Stage(name="local", account="000000000000", home=HomeEndpoints(), log_retention=RetentionDays.ONE_WEEK)
DEV = Stage(name="dev", reserves_concurrency=False, log_retention=RetentionDays.TWO_WEEKS)
STAGING = Stage(name="staging", database_max_acu=8, database_readers=1)
PROD = Stage(
    name="prod",
    keeps_data=True,
    backup_days=35,
    log_retention=RetentionDays.ONE_YEAR,
    availability_zones=3,
    nat_gateways=3,
    interface_endpoints=True,
    database_min_acu=1,
    database_max_acu=64,
    database_readers=1,
    cache_max_gb=20,
    requests_per_second=2000,
    burst_requests=4000,
)
STAGES: Mapping[str, Stage] = {stage.name: stage for stage in (LOCAL, DEV, STAGING, PROD)}


def stage_of(node: Node) -> Stage:
    """Return the stage chosen with `-c stage=`, with the settings given as `-c endpoints=`, `layers=`, `public_url=`,
    `mail_from=`, `web_adapter_layer=`.

    Raises `StageError` when there is no such stage, or a setting can't be used.
    """
    name = str(node.try_get_context("stage") or LOCAL.name)
    if name not in STAGES:
        raise StageError(f"There is no stage `{name}`; choose one with -c stage={'|'.join(STAGES)}.")
    stage = STAGES[name]
    if layers_cache := node.try_get_context("layers"):
        stage = replace(stage, layers_cache=Path(str(layers_cache)))
    if public_url := node.try_get_context("public_url"):
        stage = replace(stage, public_url=str(public_url))
    if mail_from := node.try_get_context("mail_from"):
        stage = replace(stage, mail_from=str(mail_from))
    if web_adapter_layer := node.try_get_context("web_adapter_layer"):
        stage = replace(stage, web_adapter_layer=str(web_adapter_layer))
    if stage.home and (endpoints := node.try_get_context("endpoints")):
        stage = replace(stage, home=HomeEndpoints.read(Path(str(endpoints))))
    return stage
