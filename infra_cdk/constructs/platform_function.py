"""One Lambda function as all of ours are: own role, own log group, JSON logs, tracing, environment by need."""

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from aws_cdk.aws_lambda_destinations import SqsDestination
from constructs import Construct

from infra_cdk.constructs.code import RUNTIME, layer_of, our_code
from infra_cdk.constructs.environment import environment_of
from infra_cdk.constructs.nag import ANY_RESOURCE, accept
from infra_cdk.constructs.permissions import statements_of, wildcard_findings
from infra_cdk.constructs.platform import Platform
from infra_cdk.functions import Function
from infra_cdk.stages import Stage

_NETWORK_INTERFACE_ACTIONS = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
]


class PlatformFunction(Construct):
    """A function of the catalogue. `invocable` is what triggers point at: an alias with SnapStart, or the function."""

    def __init__(
        self,
        scope: Construct,
        function: Function,
        *,
        platform: Platform,
        starts_from_snapshot: bool = False,
        on_failure: sqs.IQueue | None = None,
    ) -> None:
        super().__init__(scope, function.name)
        stack, stage = Stack.of(self), platform.stage
        name = platform.names.function(function.name)
        self.log_group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/lambda/{name}",
            retention=stage.log_retention,
            removal_policy=RemovalPolicy.DESTROY,
        )
        role = self._role(function, platform)
        published = starts_from_snapshot and stage.in_aws
        network = platform.network
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=name,
            code=our_code(),
            handler=function.server or function.handler,
            runtime=RUNTIME,
            architecture=stage.architecture,
            layers=[
                *(layer_of(stack, layer, stage=stage) for layer in function.layers),
                *self._web_adapter(function, stage),
            ],
            timeout=Duration.seconds(function.timeout_s),
            memory_size=function.memory_mb,
            environment=environment_of(function, platform, stack),
            role=role,
            log_group=self.log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            tracing=lambda_.Tracing.ACTIVE,
            reserved_concurrent_executions=1 if function.at_most_one and stage.reserves_concurrency else None,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if published else None,
            vpc=network.vpc if network else None,
            vpc_subnets=network.subnets if network else None,
            security_groups=[network.security_group] if network else None,
            on_failure=SqsDestination(on_failure) if on_failure else None,
            retry_attempts=2 if on_failure else None,
        )
        self.invocable: lambda_.IFunction = self.function
        if published:
            self.invocable = self.function.add_alias("live")
            accept(
                self,
                "@aws-cdk/aws-lambda:snapStartRequirePublish",
                because="the alias above points at a published version",
            )
        accept(
            self,
            "AwsSolutions-L1",
            because="Python 3.13 is the version everything is tested with; it changes for all functions at once",
        )
        accept(
            self,
            ANY_RESOURCE,
            *wildcard_findings(function, platform, stack),
            because="X-Ray and the network interfaces of a function in a VPC know no resources; executions, tasks "
            "and task definition revisions get their ids at run time",
        )

    def _web_adapter(self, function: Function, stage: Stage) -> list[lambda_.ILayerVersion]:
        if not function.server:
            return []
        return [lambda_.LayerVersion.from_layer_version_arn(self, "WebAdapter", stage.web_adapter_layer_arn)]

    def _role(self, function: Function, platform: Platform) -> iam.Role:
        stack = Stack.of(self)
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[self.log_group.log_group_arn]
            )
        )
        for statement in statements_of(function, platform, stack):
            role.add_to_policy(statement)
        if platform.network:
            function_arn = platform.names.function_arn(stack, function.name)
            for statement in _network_interfaces(function_arn):
                role.add_to_policy(statement)
        return role


def _network_interfaces(function_arn: str) -> list[iam.PolicyStatement]:
    """Lambda itself makes the network interfaces, under the function's role; the function's code may not."""
    return [
        iam.PolicyStatement(actions=_NETWORK_INTERFACE_ACTIONS, resources=["*"]),
        iam.PolicyStatement(
            effect=iam.Effect.DENY,
            actions=_NETWORK_INTERFACE_ACTIONS,
            resources=["*"],
            conditions={"ArnEquals": {"lambda:SourceFunctionArn": function_arn}},
        ),
    ]
