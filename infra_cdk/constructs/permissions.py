"""The IAM statements of a function: those that its needs call for, on the narrowest resources there are."""

from collections.abc import Callable, Mapping

from aws_cdk import Stack
from aws_cdk.aws_iam import PolicyStatement

from infra_cdk.constructs.platform import Platform
from infra_cdk.functions import Function, Need

type _Statements = list[PolicyStatement]


def statements_of(function: Function, platform: Platform, stack: Stack) -> _Statements:
    """Return what the function may do in AWS beyond writing its own logs and traces."""
    needs = sorted(function.needs & _STATEMENTS.keys(), key=lambda need: need.name)
    return [statement for need in needs for statement in _STATEMENTS[need](platform, stack)]


def wildcard_findings(function: Function, platform: Platform, stack: Stack) -> list[str]:
    """Return cdk-nag's names for the resources with a `*` in them (executions, tasks, revisions: made at run time)."""
    resources = {
        resource
        for statement in statements_of(function, platform, stack)
        for resource in statement.resources
        if "*" in resource
    }
    return [f"AwsSolutions-IAM5[Resource::{_as_nag_writes(resource, stack)}]" for resource in sorted(resources)]


def _as_nag_writes(resource: str, stack: Stack) -> str:
    resolved = stack.resolve(resource)
    if isinstance(resolved, str):
        return resolved
    parts = resolved["Fn::Join"][1]
    return "".join(part if isinstance(part, str) else f"<{part['Ref']}>" for part in parts)


def _allow(*actions: str, on: list[str], when: Mapping[str, object] | None = None) -> PolicyStatement:
    return PolicyStatement(actions=list(actions), resources=on, conditions=when)


def _database(platform: Platform, _: Stack) -> _Statements:
    user = platform.data.database_user_arn
    return [_allow("rds-db:connect", on=[user])] if user else []


def _decrypt(platform: Platform) -> PolicyStatement:
    return _allow("kms:Decrypt", on=[platform.secrets.key_arn])


def _model_provider(platform: Platform, stack: Stack) -> _Statements:
    # Which of Bedrock's models are asked, and in which regions, is the operator's to set up while all this runs.
    models = f"arn:{stack.partition}:bedrock:*::foundation-model/*"
    profiles = f"arn:{stack.partition}:bedrock:*:{stack.account}:inference-profile/*"
    return [
        _allow("secretsmanager:GetSecretValue", on=[platform.secrets.model_provider_arn]),
        _allow("bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream", on=[models, profiles]),
        _decrypt(platform),
    ]


def _read_provider_keys(platform: Platform, stack: Stack) -> _Statements:
    keys = platform.names.provider_secret_arns(stack)
    return [_allow("secretsmanager:GetSecretValue", on=[keys]), _decrypt(platform)]


def _write_provider_keys(platform: Platform, stack: Stack) -> _Statements:
    keys = platform.names.provider_secret_arns(stack)
    return [
        _allow(
            "secretsmanager:CreateSecret", "secretsmanager:DeleteSecret", "secretsmanager:PutSecretValue", on=[keys]
        ),
        _allow("kms:Decrypt", "kms:GenerateDataKey", on=[platform.secrets.key_arn]),
    ]


def _own_schema(platform: Platform, _: Stack) -> _Statements:
    if not platform.data.owner_secret_arn:
        return []
    return [_allow("secretsmanager:GetSecretValue", on=[platform.data.owner_secret_arn]), _decrypt(platform)]


def _migrate(platform: Platform, _: Stack) -> _Statements:
    return [
        _allow("secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue", on=[platform.secrets.operator_arn]),
        _allow("kms:Decrypt", "kms:GenerateDataKey", on=[platform.secrets.key_arn]),
    ]


def _publish_events(platform: Platform, stack: Stack) -> _Statements:
    return [_allow("events:PutEvents", on=[platform.names.event_bus_arn(stack)])]


def _start_runs(platform: Platform, stack: Stack) -> _Statements:
    return [_allow("states:StartExecution", on=[platform.names.run_machine_arn(stack)])]


def _observe_runs(platform: Platform, stack: Stack) -> _Statements:
    return [_allow("states:DescribeExecution", on=[platform.names.run_execution_arns(stack)])]


def _stop_runs(platform: Platform, stack: Stack) -> _Statements:
    return [_allow("states:StopExecution", on=[platform.names.run_execution_arns(stack)])]


def _answer_task_tokens(platform: Platform, stack: Stack) -> _Statements:
    return [_allow("states:SendTaskSuccess", "states:SendTaskFailure", on=[platform.names.run_machine_arn(stack)])]


def _wrap_secrets(platform: Platform, _: Stack) -> _Statements:
    return [_allow("kms:Decrypt", "kms:Encrypt", on=[platform.secrets.identity_key_arn])]


def _request_letters(platform: Platform, stack: Stack) -> _Statements:
    return [_allow("sqs:GetQueueUrl", "sqs:SendMessage", on=[platform.names.mail_queue_arn(stack)])]


def _send_mail(platform: Platform, stack: Stack) -> _Statements:
    sender = (platform.stage.home or platform.stage).mail_from
    identities = [
        stack.format_arn(service="ses", resource="identity", resource_name=name)
        for name in (sender, sender.rpartition("@")[2])
    ]
    return [_allow("ses:SendEmail", on=identities, when={"StringEquals": {"ses:FromAddress": sender}})]


def _record_usage(platform: Platform, stack: Stack) -> _Statements:
    return [_allow("sqs:GetQueueUrl", "sqs:SendMessage", on=[platform.names.usage_queue_arn(stack)])]


def _sign_in_elsewhere(platform: Platform, _: Stack) -> _Statements:
    return [_allow("secretsmanager:GetSecretValue", on=[platform.secrets.oauth_clients_arn]), _decrypt(platform)]


def _start_sandboxes(platform: Platform, stack: Stack) -> _Statements:
    names = platform.names
    return [
        _allow(
            "ecs:RunTask",
            on=[names.sandbox_task_definition_arns(stack)],
            when={"ArnEquals": {"ecs:cluster": names.sandbox_cluster_arn(stack)}},
        ),
        # ECS takes the task's two roles from whoever starts it.
        _allow(
            "iam:PassRole",
            on=[
                names.role_arn(stack, names.sandbox_task_role),
                names.role_arn(stack, names.sandbox_execution_role),
            ],
            when={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        ),
    ]


def _stop_sandboxes(platform: Platform, stack: Stack) -> _Statements:
    return [_allow("ecs:StopTask", on=[platform.names.sandbox_task_arns(stack)])]


_STATEMENTS: Mapping[Need, Callable[[Platform, Stack], _Statements]] = {
    Need.DATABASE: _database,
    Need.MODEL_PROVIDER: _model_provider,
    Need.READ_PROVIDER_KEYS: _read_provider_keys,
    Need.WRITE_PROVIDER_KEYS: _write_provider_keys,
    Need.PUBLISH_EVENTS: _publish_events,
    Need.START_RUNS: _start_runs,
    Need.OBSERVE_RUNS: _observe_runs,
    Need.STOP_RUNS: _stop_runs,
    Need.ANSWER_TASK_TOKENS: _answer_task_tokens,
    Need.START_SANDBOXES: _start_sandboxes,
    Need.STOP_SANDBOXES: _stop_sandboxes,
    Need.WRAP_SECRETS: _wrap_secrets,
    Need.REQUEST_LETTERS: _request_letters,
    Need.SEND_MAIL: _send_mail,
    Need.RECORD_USAGE: _record_usage,
    Need.SIGN_IN_ELSEWHERE: _sign_in_elsewhere,
    Need.OWN_SCHEMA: _own_schema,
    Need.MIGRATE: _migrate,
}
