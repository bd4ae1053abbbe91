"""The environment variables of a function: those that its needs call for. Read in `shared/kernel/settings.py`."""

from collections.abc import Callable, Mapping

from aws_cdk import Stack

from infra_cdk.constructs.platform import Platform
from infra_cdk.functions import Function, Need

type _Variables = Mapping[str, str]

# How the AWS Lambda Web Adapter starts our server, where it finds it, and that it passes answers on as they come. The
# server listens once it can answer, so that a connection is enough to know.
_WEB_ADAPTER = {
    "AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap",
    "AWS_LWA_INVOKE_MODE": "response_stream",
    "AWS_LWA_PORT": "8080",
    "AWS_LWA_READINESS_CHECK_PROTOCOL": "tcp",
}


def environment_of(function: Function, platform: Platform, stack: Stack) -> dict[str, str]:
    """Return the function's environment. Tracing and metrics are named by their owner, AWS Lambda Powertools."""
    variables = {
        "RUNYARD_STAGE": platform.stage.name,
        "POWERTOOLS_SERVICE_NAME": function.name,
        "POWERTOOLS_METRICS_NAMESPACE": "Runyard",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_TRACE_DISABLED": "0" if platform.stage.in_aws else "1",
    }
    if function.server:
        variables |= _WEB_ADAPTER
    for need in sorted(function.needs, key=lambda need: need.name):
        variables |= _VARIABLES[need](platform, stack)
    return variables


def _database(platform: Platform, _: Stack) -> _Variables:
    return {
        "RUNYARD_DATABASE_URL": platform.data.database_url,
        "RUNYARD_DATABASE_IAM_AUTH": "1" if platform.data.database_user_arn else "0",
    }


def _schema_owner(platform: Platform, _: Stack) -> _Variables:
    variables = {"RUNYARD_MIGRATION_DATABASE_URL": platform.data.migration_database_url}
    if platform.data.owner_secret_arn:
        variables["RUNYARD_MIGRATION_SECRET_ARN"] = platform.data.owner_secret_arn
    return variables


def _model_provider(platform: Platform, _: Stack) -> _Variables:
    source = platform.stage.home or platform.stage
    return {
        "RUNYARD_MODEL_BASE_URL": source.model_base_url,
        "RUNYARD_MODEL_SECRET_ARN": platform.secrets.model_provider_arn,
    }


def _default_models(platform: Platform, _: Stack) -> _Variables:
    source = platform.stage.home or platform.stage
    return {"RUNYARD_MODEL": source.model, "RUNYARD_EMBEDDING_MODEL": source.embedding_model}


def _read_provider_keys(platform: Platform, _: Stack) -> _Variables:
    # At home a provider may be this machine; in AWS nobody makes a function call into the VPC.
    return {"RUNYARD_PRIVATE_PROVIDERS": "0" if platform.stage.in_aws else "1"}


def _write_provider_keys(platform: Platform, _: Stack) -> _Variables:
    return {
        "RUNYARD_PROVIDER_SECRETS": platform.names.provider_secrets,
        "RUNYARD_PROVIDER_SECRETS_KEY_ARN": platform.secrets.key_arn,
    }


def _public_url(platform: Platform, _: Stack) -> _Variables:
    stage = platform.stage
    return {
        "RUNYARD_PUBLIC_URL": stage.home.public_url if stage.home else stage.public_url or _api_url(platform),
        "RUNYARD_EDGE_SECRET": platform.secrets.edge,
    }


def _runs(platform: Platform, stack: Stack) -> _Variables:
    return {"RUNYARD_RUN_MACHINE_ARN": platform.names.run_machine_arn(stack)}


def _sandboxes(platform: Platform, _: Stack) -> _Variables:
    return {
        "RUNYARD_SANDBOX_CLUSTER": platform.names.sandbox_cluster,
        "RUNYARD_SANDBOX_TASK_DEFINITION": platform.names.sandbox_task_family,
        "RUNYARD_SANDBOX_SUBNETS": ",".join(platform.sandboxes.subnet_ids),
        "RUNYARD_SANDBOX_SECURITY_GROUP": platform.sandboxes.security_group_id,
        "RUNYARD_PLATFORM_URL_FOR_SANDBOXES": (
            platform.stage.home.public_url if platform.stage.home else _api_url(platform)
        ),
    }


def _mail(platform: Platform, _: Stack) -> _Variables:
    return {"RUNYARD_MAIL_FROM": (platform.stage.home or platform.stage).mail_from}


def _logins(platform: Platform, _: Stack) -> _Variables:
    return {
        "RUNYARD_OAUTH_SECRET_ARN": platform.secrets.oauth_clients_arn,
        # At home an issuer may be this machine; in AWS nobody makes a function call into the VPC.
        "RUNYARD_PRIVATE_ISSUERS": "0" if platform.stage.in_aws else "1",
    }


def _api_url(platform: Platform) -> str:
    if not platform.api_url:
        raise ValueError("the API's address is needed here, but this stack is made before the API's")
    return platform.api_url


def _nothing(_: Platform, __: Stack) -> _Variables:
    return {}


_VARIABLES: Mapping[Need, Callable[[Platform, Stack], _Variables]] = {
    Need.DATABASE: _database,
    Need.READ_REPLICA: lambda platform, _: {"RUNYARD_DATABASE_READER_URL": platform.data.database_reader_url},
    Need.CACHE: lambda platform, _: {"RUNYARD_REDIS_URL": platform.data.redis_url},
    Need.PUBLIC_URL: _public_url,
    Need.MODEL_PROVIDER: _model_provider,
    Need.DEFAULT_MODELS: _default_models,
    Need.READ_PROVIDER_KEYS: _read_provider_keys,
    Need.WRITE_PROVIDER_KEYS: _write_provider_keys,
    Need.PUBLISH_EVENTS: lambda platform, _: {"RUNYARD_EVENT_BUS": platform.names.event_bus},
    Need.START_RUNS: _runs,
    Need.OBSERVE_RUNS: _runs,
    Need.STOP_RUNS: _runs,
    Need.ANSWER_TASK_TOKENS: _nothing,
    Need.START_SANDBOXES: _sandboxes,
    Need.STOP_SANDBOXES: _sandboxes,
    Need.WRAP_SECRETS: lambda platform, _: {"RUNYARD_IDENTITY_KEY_ARN": platform.secrets.identity_key_arn},
    Need.REQUEST_LETTERS: lambda platform, _: {"RUNYARD_MAIL_QUEUE": platform.names.mail_queue},
    Need.SEND_MAIL: _mail,
    Need.RECORD_USAGE: lambda platform, _: {"RUNYARD_USAGE_QUEUE": platform.names.usage_queue},
    Need.SIGN_IN_ELSEWHERE: _logins,
    Need.OWN_SCHEMA: _schema_owner,
    Need.MIGRATE: lambda platform, _: {"RUNYARD_OPERATOR_SECRET_ARN": platform.secrets.operator_arn},
}
