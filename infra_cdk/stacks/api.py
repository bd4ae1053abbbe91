"""API: the HTTP and WebSocket APIs and their functions."""

from aws_cdk import CfnOutput
from aws_cdk.aws_lambda import IFunction
from constructs import Construct

from infra_cdk.constructs.http_api import HttpApi
from infra_cdk.constructs.platform import Platform
from infra_cdk.constructs.platform_function import PlatformFunction
from infra_cdk.constructs.websocket_api import WebSocketApi
from infra_cdk.functions import API, AUTHORIZER, SOCKETS, WEBSOCKET_AUTHORIZER, Function
from infra_cdk.stacks.base import PlatformStack


class ApiStack(PlatformStack):
    """Callers wait for the HTTP functions, so in AWS each of them starts from a snapshot instead of cold."""

    def __init__(self, scope: Construct, *, platform: Platform) -> None:
        super().__init__(scope, "api", stage=platform.stage, description="Runyard: HTTP and WebSocket APIs")
        self.http = HttpApi(self, "Http", stage=platform.stage)
        self.platform = platform.with_api(self.http.url)
        self.http.serve(
            {area: self._snapshot(function) for area, function in API.items()},
            authorizer=self._snapshot(AUTHORIZER),
        )
        self.sockets = WebSocketApi(
            self,
            "Sockets",
            stage=platform.stage,
            functions={
                route: PlatformFunction(self, function, platform=self.platform).function
                for route, function in SOCKETS.items()
            },
            authorizer=PlatformFunction(self, WEBSOCKET_AUTHORIZER, platform=self.platform).function,
        )
        CfnOutput(self, "ApiUrl", value=self.http.url)
        CfnOutput(self, "HttpApiId", value=self.http.api_id)
        CfnOutput(self, "WebSocketApiId", value=self.sockets.api_id)

    def _snapshot(self, function: Function) -> IFunction:
        return PlatformFunction(self, function, platform=self.platform, starts_from_snapshot=True).invocable
