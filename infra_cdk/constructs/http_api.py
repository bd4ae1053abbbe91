"""The HTTP API: routes by table, one integration per function, the authorizer on all but the public routes."""

import json
from collections.abc import Mapping

from aws_cdk import RemovalPolicy, Stack
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra_cdk.constructs.nag import accept
from infra_cdk.names import Names
from infra_cdk.routes import ROUTES
from infra_cdk.stages import Stage

_API_GATEWAY = iam.ServicePrincipal("apigateway.amazonaws.com")
_AUTHORIZER_TTL_S = 5
_ALLOWED_HEADERS = ["authorization", "content-type", "idempotency-key", "last-event-id"]
_EXPOSED_HEADERS = ["idempotency-replayed", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id"]


class HttpApi(Construct):
    """An HTTP API without routes; its address is known before the functions that are told about it."""

    def __init__(self, scope: Construct, construct_id: str, *, stage: Stage) -> None:
        super().__init__(scope, construct_id)
        names = Names(stage)
        self._api = apigateway.CfnApi(
            self,
            "Api",
            name=names.prefix,
            protocol_type="HTTP",
            cors_configuration=_cors(stage),
        )
        self.api_id = self._api.ref
        access_log = access_log_group(self, stage=stage, name="http")
        apigateway.CfnStage(
            self,
            "Stage",
            api_id=self.api_id,
            stage_name="$default",
            auto_deploy=True,
            access_log_settings=apigateway.CfnStage.AccessLogSettingsProperty(
                destination_arn=access_log.log_group_arn, format=access_log_format("routeKey", "path")
            ),
            default_route_settings=apigateway.CfnStage.RouteSettingsProperty(
                throttling_rate_limit=stage.requests_per_second, throttling_burst_limit=stage.burst_requests
            ),
        )

    @property
    def url(self) -> str:
        """The API's own address, e.g. `https://a1b2c3.execute-api.us-east-1.amazonaws.com`."""
        return self._api.attr_api_endpoint

    def serve(self, functions: Mapping[str, lambda_.IFunction], *, authorizer: lambda_.IFunction) -> None:
        """Send each route of the table to its function."""
        integrations = {name: self._integration(name, function) for name, function in functions.items()}
        authorizer_id = self._authorizer(authorizer)
        for route in ROUTES:
            resource = apigateway.CfnRoute(
                self,
                route.key,
                api_id=self.api_id,
                route_key=route.key,
                target=f"integrations/{integrations[route.function]}",
                authorization_type="NONE" if route.public else "CUSTOM",
                authorizer_id=None if route.public else authorizer_id,
            )
            if route.public:
                accept(
                    resource,
                    "AwsSolutions-APIG4",
                    because="health tells nothing about tenants; a registering sandbox has a one-time token",
                )

    def _integration(self, name: str, function: lambda_.IFunction) -> str:
        function.add_permission("HttpApi", principal=_API_GATEWAY, source_arn=invoke_arns(self, self.api_id))
        integration = apigateway.CfnIntegration(
            self,
            f"Integration-{name}",
            api_id=self.api_id,
            integration_type="AWS_PROXY",
            integration_uri=function.function_arn,
            payload_format_version="2.0",
        )
        return integration.ref

    def _authorizer(self, function: lambda_.IFunction) -> str:
        function.add_permission("HttpApi", principal=_API_GATEWAY, source_arn=invoke_arns(self, self.api_id))
        authorizer = apigateway.CfnAuthorizer(
            self,
            "Authorizer",
            api_id=self.api_id,
            name="caller",
            authorizer_type="REQUEST",
            authorizer_uri=invocation_uri(self, function),
            authorizer_payload_format_version="2.0",
            enable_simple_responses=True,
            identity_source=["$request.header.Authorization"],
            authorizer_result_ttl_in_seconds=_AUTHORIZER_TTL_S,
        )
        return authorizer.ref


def _cors(stage: Stage) -> apigateway.CfnApi.CorsProperty | None:
    """Browsers reach the API under the console's own address; other origins only where a stage names them."""
    if not stage.cors_origins:
        return None
    return apigateway.CfnApi.CorsProperty(
        allow_origins=list(stage.cors_origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        allow_headers=_ALLOWED_HEADERS,
        expose_headers=_EXPOSED_HEADERS,
        max_age=600,
    )


def access_log_group(scope: Construct, *, stage: Stage, name: str) -> logs.LogGroup:
    """Return the log group of an API's access log; API Gateway writes it under its own service-linked role."""
    return logs.LogGroup(
        scope,
        "AccessLog",
        log_group_name=f"/aws/vendedlogs/{Names(stage).prefix}/{name}-access",
        retention=stage.log_retention,
        removal_policy=RemovalPolicy.DESTROY,
    )


def access_log_format(*context: str) -> str:
    """Return one JSON line per request: who called what, with which result; never headers, queries or bodies."""
    fields = (
        "requestId", "requestTime", "status", "responseLatency", "integrationLatency", "integrationErrorMessage",
        "identity.sourceIp", "identity.userAgent", "authorizer.error", *context,
    )  # fmt: skip
    return json.dumps({field.split(".")[-1]: f"$context.{field}" for field in fields})


def invoke_arns(scope: Construct, api_id: str) -> str:
    """Return the source ARN of any call made by this API."""
    return Stack.of(scope).format_arn(service="execute-api", resource=api_id, resource_name="*")


def invocation_uri(scope: Construct, function: lambda_.IFunction) -> str:
    """Return the URI under which API Gateway invokes an authorizer or a WebSocket function."""
    stack = Stack.of(scope)
    return (
        f"arn:{stack.partition}:apigateway:{stack.region}:lambda:path/2015-03-31/functions/"
        f"{function.function_arn}/invocations"
    )
