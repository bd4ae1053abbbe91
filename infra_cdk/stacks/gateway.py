"""Gateway (AWS only): the model gateway behind an address of its own, because its answers stream."""

from aws_cdk import CfnOutput
from aws_cdk.aws_lambda import FunctionUrlAuthType, InvokeMode
from constructs import Construct

from infra_cdk.constructs.platform import Platform
from infra_cdk.constructs.platform_function import PlatformFunction
from infra_cdk.functions import GATEWAY
from infra_cdk.stacks.base import PlatformStack


class GatewayStack(PlatformStack):
    """A web server in a function, under the AWS Lambda Web Adapter; `url` is for CloudFront."""

    def __init__(self, scope: Construct, *, platform: Platform) -> None:
        super().__init__(scope, "gateway", stage=platform.stage, description="Runyard: the model gateway")
        gateway = PlatformFunction(self, GATEWAY, platform=platform)
        # IAM lets everybody in, because the gateway asks for more itself: the edge's secret, which CloudFront alone
        # knows, and a Runyard key. Signed by CloudFront (origin access control) a request would lose the caller's
        # Authorization header, and every client would have to send the hash of its body.
        address = gateway.function.add_function_url(
            auth_type=FunctionUrlAuthType.NONE, invoke_mode=InvokeMode.RESPONSE_STREAM
        )
        self.url = address.url
        CfnOutput(self, "GatewayUrl", value=self.url)
