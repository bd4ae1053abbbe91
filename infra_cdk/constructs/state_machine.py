"""A state machine as all of ours are: its definition in a file, its steps functions of ours, logged and traced."""

from collections.abc import Mapping
from pathlib import Path

from aws_cdk import RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from infra_cdk.constructs.nag import ANY_RESOURCE, accept
from infra_cdk.constructs.platform import Platform
from infra_cdk.constructs.platform_function import PlatformFunction
from infra_cdk.functions import Function


def state_machine(
    scope: Construct,
    construct_id: str,
    *,
    name: str,
    definition: Path,
    steps: Mapping[str, Function],
    platform: Platform,
) -> stepfunctions.StateMachine:
    """Return the machine. Its definition names each step as `${State}`; here the functions' ARNs are put in."""
    functions = {state: PlatformFunction(scope, step, platform=platform).function for state, step in steps.items()}
    machine = stepfunctions.StateMachine(
        scope,
        construct_id,
        state_machine_name=name,
        definition_body=stepfunctions.DefinitionBody.from_string(definition.read_text()),
        definition_substitutions={state: function.function_arn for state, function in functions.items()},
        logs=stepfunctions.LogOptions(
            destination=logs.LogGroup(
                scope,
                "Logs",
                log_group_name=f"/aws/vendedlogs/states/{name}",
                retention=platform.stage.log_retention,
                removal_policy=RemovalPolicy.DESTROY,
            ),
            level=stepfunctions.LogLevel.ALL,
            # States hold ids only, but a failure's cause may quote what a user wrote.
            include_execution_data=False,
        ),
        tracing_enabled=True,
    )
    machine.add_to_role_policy(
        iam.PolicyStatement(
            actions=["lambda:InvokeFunction"],
            resources=[function.function_arn for function in functions.values()],
        )
    )
    accept(
        machine,
        ANY_RESOURCE,
        because="delivery of logs and traces (logs:*LogDelivery, xray:Put*) knows no resources",
    )
    return machine
