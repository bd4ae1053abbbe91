"""Runs: the state machine AgentRun and the function of each of its steps."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from infra_cdk.constructs.code import REPOSITORY
from infra_cdk.constructs.nag import ANY_RESOURCE, accept
from infra_cdk.constructs.platform import Platform
from infra_cdk.constructs.platform_function import PlatformFunction
from infra_cdk.functions import STEPS
from infra_cdk.stacks.base import PlatformStack

DEFINITION = REPOSITORY / "infra_cdk" / "state_machines" / "agent_run.asl.json"


class RunsStack(PlatformStack):
    """The machine's definition names each step as `${State}`; here the functions' ARNs are put in."""

    def __init__(self, scope: Construct, *, platform: Platform) -> None:
        super().__init__(scope, "runs", stage=platform.stage, description="Runyard: agent runs")
        names = platform.names
        steps = {state: PlatformFunction(self, step, platform=platform) for state, step in STEPS.items()}
        machine = stepfunctions.StateMachine(
            self,
            "AgentRun",
            state_machine_name=names.run_machine,
            definition_body=stepfunctions.DefinitionBody.from_string(DEFINITION.read_text()),
            definition_substitutions={state: step.function.function_arn for state, step in steps.items()},
            logs=stepfunctions.LogOptions(
                destination=logs.LogGroup(
                    self,
                    "Logs",
                    log_group_name=f"/aws/vendedlogs/states/{names.run_machine}",
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
                resources=[step.function.function_arn for step in steps.values()],
            )
        )
        accept(
            machine,
            ANY_RESOURCE,
            because="delivery of logs and traces (logs:*LogDelivery, xray:Put*) knows no resources",
        )
