"""The WebSocket API: who connects is checked once, then every message goes to its route's function."""

from collections.abc import Mapping

from aws_cdk import RemovalPolicy, Stack
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_apigateway import CfnAccount
from constructs import Construct

from infra_cdk.constructs.http_api import access_log_format, access_log_group, invocation_uri, invoke_arns
from infra_cdk.constructs.nag import ANY_RESOURCE, accept
from infra_cdk.names import Names
from infra_cdk.stages import Stage

_API_GATEWAY = iam.ServicePrincipal("apigateway.amazonaws.com")

_LOG_ACTIONS = [
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:DescribeLogGroups",
    "logs:DescribeLogStreams",
    "logs:FilterLogEvents",
    "logs:GetLogEvents",
    "logs:PutLogEvents",
]

# Also the path under which the console's address forwards to it.
STAGE_NAME = "ws"


class WebSocketApi(Construct):
    """Routes `$connect`, `$disconnect` and `$default`, named without the dollar in `functions`."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stage: Stage,
        functions: Mapping[str, lambda_.IFunction],
        authorizer: lambda_.IFunction,
    ) -> None:
        super().__init__(scope, construct_id)
        self._api = apigateway.CfnApi(
            self,
            "Api",
            name=f"{Names(stage).prefix}-sockets",
            protocol_type="WEBSOCKET",
            route_selection_expression="$request.body.action",
        )
        self.api_id = self._api.ref
        authorizer_id = self._authorizer(authorizer)
        for name, function in functions.items():
            self._route(name, function, authorizer_id if name == "connect" else None)
        access_log = access_log_group(self, stage=stage, name="websocket")
        stage_resource = apigateway.CfnStage(
            self,
            "Stage",
            api_id=self.api_id,
            stage_name=STAGE_NAME,
            auto_deploy=True,
            access_log_settings=apigateway.CfnStage.AccessLogSettingsProperty(
                destination_arn=access_log.log_group_arn, format=access_log_format("eventType", "connectionId")
            ),
            default_route_settings=apigateway.CfnStage.RouteSettingsProperty(
                throttling_rate_limit=stage.requests_per_second, throttling_burst_limit=stage.burst_requests
            ),
        )
        stage_resource.add_resource_dependency(self._allow_access_log())

    @property
    def domain_name(self) -> str:
        stack = Stack.of(self)
        return f"{self.api_id}.execute-api.{stack.region}.{stack.url_suffix}"

    @property
    def url(self) -> str:
        return f"wss://{self.domain_name}/{STAGE_NAME}"

    def _route(self, name: str, function: lambda_.IFunction, authorizer_id: str | None) -> None:
        function.add_permission("WebSocketApi", principal=_API_GATEWAY, source_arn=invoke_arns(self, self.api_id))
        integration = apigateway.CfnIntegration(
            self,
            f"Integration-{name}",
            api_id=self.api_id,
            integration_type="AWS_PROXY",
            integration_uri=invocation_uri(self, function),
        )
        route = apigateway.CfnRoute(
            self,
            f"${name}",
            api_id=self.api_id,
            route_key=f"${name}",
            target=f"integrations/{integration.ref}",
            authorization_type="CUSTOM" if authorizer_id else "NONE",
            authorizer_id=authorizer_id,
        )
        if not authorizer_id:
            accept(
                route,
                "AwsSolutions-APIG4",
                because="a WebSocket is authorised when it connects; API Gateway knows no authorizer on other routes",
            )

    def _authorizer(self, function: lambda_.IFunction) -> str:
        function.add_permission("WebSocketApi", principal=_API_GATEWAY, source_arn=invoke_arns(self, self.api_id))
        authorizer = apigateway.CfnAuthorizer(
            self,
            "Authorizer",
            api_id=self.api_id,
            name="caller",
            authorizer_type="REQUEST",
            authorizer_uri=invocation_uri(self, function),
            # Browsers can't set headers on a WebSocket; they send the token as a subprotocol.
            identity_source=[],
        )
        return authorizer.ref

    def _allow_access_log(self) -> CfnAccount:
        """Let API Gateway write logs in this account and region; WebSocket APIs ask for that, HTTP APIs do not.

        The setting belongs to the account, so it stays when a stage that shares the account goes.
        """
        role = iam.Role(self, "AccessLogRole", assumed_by=_API_GATEWAY)
        role.add_to_policy(iam.PolicyStatement(actions=_LOG_ACTIONS, resources=["*"]))
        role.apply_removal_policy(RemovalPolicy.RETAIN)
        accept(role, ANY_RESOURCE, because="the setting serves all log groups of the account's WebSocket APIs")
        account = CfnAccount(self, "Account", cloud_watch_role_arn=role.role_arn)
        account.apply_removal_policy(RemovalPolicy.RETAIN)
        return account
