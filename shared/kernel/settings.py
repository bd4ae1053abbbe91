"""The one place that reads environment variables; each group is read once, on first use."""

import os
from dataclasses import dataclass
from functools import cache

from shared.kernel.errors import ConfigurationError

# Every variable a function may be given. `infra_cdk` hands them over and its tests compare the two lists.
VARIABLES = frozenset(
    {
        "RUNYARD_STAGE",
        "RUNYARD_DATABASE_URL",
        "RUNYARD_DATABASE_IAM_AUTH",
        "RUNYARD_DATABASE_READER_URL",
        "RUNYARD_MIGRATION_DATABASE_URL",
        "RUNYARD_MIGRATION_SECRET_ARN",
        "RUNYARD_OPERATOR_SECRET_ARN",
        "RUNYARD_REDIS_URL",
        "RUNYARD_PUBLIC_URL",
        "RUNYARD_PLATFORM_URL_FOR_SANDBOXES",
        "RUNYARD_MODEL_BASE_URL",
        "RUNYARD_MODEL_SECRET_ARN",
        "RUNYARD_MODEL",
        "RUNYARD_EMBEDDING_MODEL",
        "RUNYARD_EVENT_BUS",
        "RUNYARD_RUN_MACHINE_ARN",
        "RUNYARD_SANDBOX_CLUSTER",
        "RUNYARD_SANDBOX_TASK_DEFINITION",
        "RUNYARD_SANDBOX_SUBNETS",
        "RUNYARD_SANDBOX_SECURITY_GROUP",
        "RUNYARD_IDENTITY_KEY_ARN",
        "RUNYARD_MAIL_QUEUE",
        "RUNYARD_MAIL_FROM",
        "RUNYARD_USAGE_QUEUE",
        "RUNYARD_OAUTH_SECRET_ARN",
        "RUNYARD_PRIVATE_ISSUERS",
        "RUNYARD_EDGE_SECRET",
        "RUNYARD_PROVIDER_SECRETS",
        "RUNYARD_PROVIDER_SECRETS_KEY_ARN",
        "RUNYARD_PRIVATE_PROVIDERS",
    }
)


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """How the application role reaches Postgres. With `iam_auth` the password is a token made per connection."""

    url: str
    iam_auth: bool


@dataclass(frozen=True, slots=True)
class SchemaOwnerSettings:
    """How the schema's owner reaches Postgres: to migrate, and to make partitions."""

    url: str
    password_secret_arn: str | None


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The platform's own model provider: any OpenAI-compatible endpoint."""

    base_url: str
    api_key_secret_arn: str


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """Sign-in elsewhere: where the providers' client secrets are, and whether issuers may be at private addresses."""

    clients_secret_arn: str
    private_issuers: bool


@dataclass(frozen=True, slots=True)
class ProviderSecretSettings:
    """Under which name the keys of model providers are kept that were set up over the API, and what encrypts them."""

    prefix: str
    encryption_key_arn: str


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Where sandbox tasks are started and how they find their way back."""

    cluster: str
    task_definition: str
    subnets: tuple[str, ...]
    security_group: str
    platform_url: str


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigurationError(f"The environment variable {name} is not set for this function.")
    return value


def _optional(name: str) -> str | None:
    return os.environ.get(name) or None


@cache
def stage() -> str:
    """Return the stage's name: a dimension of logs and metrics, never a reason to behave differently."""
    return os.environ.get("RUNYARD_STAGE", "unknown")


@cache
def database() -> DatabaseSettings:
    return DatabaseSettings(
        url=_required("RUNYARD_DATABASE_URL"), iam_auth=_optional("RUNYARD_DATABASE_IAM_AUTH") == "1"
    )


@cache
def database_reader() -> DatabaseSettings:
    """Return where long looks back are read: a replica, or the database itself where there is none."""
    return DatabaseSettings(
        url=_optional("RUNYARD_DATABASE_READER_URL") or _required("RUNYARD_DATABASE_URL"),
        iam_auth=_optional("RUNYARD_DATABASE_IAM_AUTH") == "1",
    )


@cache
def schema_owner() -> SchemaOwnerSettings:
    return SchemaOwnerSettings(
        url=_required("RUNYARD_MIGRATION_DATABASE_URL"),
        password_secret_arn=_optional("RUNYARD_MIGRATION_SECRET_ARN"),
    )


@cache
def operator_secret_arn() -> str:
    """Return where the migration keeps the operator's key."""
    return _required("RUNYARD_OPERATOR_SECRET_ARN")


@cache
def redis_url() -> str:
    return _required("RUNYARD_REDIS_URL")


@cache
def public_url() -> str:
    return _required("RUNYARD_PUBLIC_URL").rstrip("/")


@cache
def model() -> ModelSettings:
    return ModelSettings(
        base_url=_required("RUNYARD_MODEL_BASE_URL"),
        api_key_secret_arn=_required("RUNYARD_MODEL_SECRET_ARN"),
    )


@cache
def default_chat_model() -> str:
    """Return the model of an agent that names none."""
    return _required("RUNYARD_MODEL")


@cache
def default_embedding_model() -> str:
    """Return the model that embeds where none is named."""
    return _required("RUNYARD_EMBEDDING_MODEL")


@cache
def provider_secrets() -> ProviderSecretSettings:
    return ProviderSecretSettings(
        prefix=_required("RUNYARD_PROVIDER_SECRETS"),
        encryption_key_arn=_required("RUNYARD_PROVIDER_SECRETS_KEY_ARN"),
    )


@cache
def private_providers() -> bool:
    """Tell whether model providers may be at private addresses: at home, where they run on the same machine."""
    return _optional("RUNYARD_PRIVATE_PROVIDERS") == "1"


@cache
def identity_key_arn() -> str:
    """Return the KMS key that wraps signing keys, second factors' secrets and sign-in clients' secrets."""
    return _required("RUNYARD_IDENTITY_KEY_ARN")


@cache
def mail_queue() -> str:
    """Return the name of the queue whose consumer sends letters."""
    return _required("RUNYARD_MAIL_QUEUE")


@cache
def mail_from() -> str:
    """Return the address letters come from."""
    return _required("RUNYARD_MAIL_FROM")


@cache
def usage_queue() -> str:
    """Return the name of the queue whose consumer meters what was used."""
    return _required("RUNYARD_USAGE_QUEUE")


@cache
def logins() -> LoginSettings:
    return LoginSettings(
        clients_secret_arn=_required("RUNYARD_OAUTH_SECRET_ARN"),
        private_issuers=_optional("RUNYARD_PRIVATE_ISSUERS") == "1",
    )


@cache
def edge_secret() -> str | None:
    """Return what the edge in front of the API proves itself with, so that its word on the client's address counts."""
    return _optional("RUNYARD_EDGE_SECRET")


@cache
def event_bus() -> str:
    return _required("RUNYARD_EVENT_BUS")


@cache
def run_machine_arn() -> str:
    return _required("RUNYARD_RUN_MACHINE_ARN")


@cache
def sandboxes() -> SandboxSettings:
    return SandboxSettings(
        cluster=_required("RUNYARD_SANDBOX_CLUSTER"),
        task_definition=_required("RUNYARD_SANDBOX_TASK_DEFINITION"),
        subnets=tuple(filter(None, os.environ.get("RUNYARD_SANDBOX_SUBNETS", "").split(","))),
        security_group=os.environ.get("RUNYARD_SANDBOX_SECURITY_GROUP", ""),
        platform_url=_required("RUNYARD_PLATFORM_URL_FOR_SANDBOXES"),
    )


def forget() -> None:
    """Drop everything read so far, so that a test may change the environment."""
    for read in _READERS:
        read.cache_clear()


_READERS = (
    stage,
    database,
    database_reader,
    schema_owner,
    operator_secret_arn,
    redis_url,
    public_url,
    model,
    default_chat_model,
    default_embedding_model,
    provider_secrets,
    private_providers,
    identity_key_arn,
    mail_queue,
    mail_from,
    usage_queue,
    logins,
    edge_secret,
    event_bus,
    run_machine_arn,
    sandboxes,
)
