"""Delivery (AWS only): the console and the APIs behind one CloudFront name, guarded by WAF."""

from typing import cast

from aws_cdk import CfnElement, CfnOutput, Duration, Fn
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_deployment as deployment
from aws_cdk import aws_wafv2 as waf
from constructs import Construct

from infra_cdk.constructs.code import REPOSITORY
from infra_cdk.constructs.nag import ANY_RESOURCE, accept
from infra_cdk.constructs.websocket_api import STAGE_NAME
from infra_cdk.names import Names
from infra_cdk.routes import GATEWAY_PATHS
from infra_cdk.stacks.base import PlatformStack
from infra_cdk.stacks.foundation import CLOUDFRONT_REGION, edge_secret
from infra_cdk.stages import Stage

_MANAGED_RULES = ("AWSManagedRulesCommonRuleSet", "AWSManagedRulesKnownBadInputsRuleSet")
# Files go up to 10 MiB through the API; the common rule set would refuse bodies over 8 KB.
_NOT_ENFORCED = {"AWSManagedRulesCommonRuleSet": ("SizeRestrictions_BODY",)}
_UPLOAD_ACTIONS = ("GetBucket", "GetObject", "List", "Abort", "DeleteObject")
_REQUESTS_PER_ADDRESS_IN_5_MINUTES = 10_000


# What the API answers; the same paths that the front door at home forwards.
_API_PATHS = ("/v1/*", "/mcp", "/mcp/*", "/.well-known/*")
# Pages have addresses without a suffix.
_PAGES = """function handler(event) {
  var request = event.request;
  if (request.uri === '/docs' || request.uri === '/errors' || request.uri === '/account') request.uri += '.html';
  return request;
}"""


# API Gateway answers a request without this header by itself; with it the API does, in its own envelope.
_ASK = """function handler(event) {
  var headers = event.request.headers;
  if (!headers.authorization || !headers.authorization.value.trim()) headers.authorization = { value: 'none' };
  return event.request;
}"""


class DeliveryStack(PlatformStack):
    """`/` console, `/v1` HTTP API and gateway, `/ws` WebSocket API."""

    def __init__(
        self, scope: Construct, *, stage: Stage, api_url: str, gateway_url: str, websocket_domain: str
    ) -> None:
        super().__init__(
            scope, "delivery", stage=stage, region=CLOUDFRONT_REGION, description="Runyard: CloudFront, WAF, console"
        )
        log_bucket = self._bucket("Logs", stage, holds_logs=True)
        console = self._bucket("Console", stage, log_bucket=log_bucket)
        # The functions believe the client's address that comes with it, and the gateway answers nobody without it.
        proof = {"x-runyard-edge": edge_secret(stage)}
        api = _forward(_host_of(api_url), self._on_request("Ask", _ASK), headers=proof)
        gateway = _forward(_host_of(gateway_url), headers=proof, patient=True)
        distribution = cloudfront.Distribution(
            self,
            "Distribution",
            comment=Names(stage).prefix,
            default_root_object="index.html",
            default_behavior=cloudfront.BehaviorOptions(
                origin=origins.S3BucketOrigin.with_origin_access_control(console),
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
                response_headers_policy=cloudfront.ResponseHeadersPolicy.SECURITY_HEADERS,
                function_associations=[self._on_request("Pages", _PAGES)],
            ),
            additional_behaviors={
                # The first that fits answers.
                **dict.fromkeys(GATEWAY_PATHS, gateway),
                **dict.fromkeys(_API_PATHS, api),
                f"/{STAGE_NAME}": _forward(websocket_domain),
            },
            web_acl_id=self._web_acl(stage).attr_arn,
            log_bucket=log_bucket,
            log_file_prefix="cloudfront/",
        )
        accept(
            distribution,
            "AwsSolutions-CFR4",
            because="CloudFront's own domain brings its own certificate and TLS policy; a stage with a domain of its "
            "own brings a certificate and with it TLS 1.2",
        )
        accept(distribution, "AwsSolutions-CFR1", because="Runyard is offered in every country")
        self._upload_console(console, distribution)
        CfnOutput(self, "ConsoleUrl", value=f"https://{distribution.distribution_domain_name}")

    def _on_request(self, construct_id: str, code: str) -> cloudfront.FunctionAssociation:
        function = cloudfront.Function(
            self,
            construct_id,
            code=cloudfront.FunctionCode.from_inline(code),
            runtime=cloudfront.FunctionRuntime.JS_2_0,
        )
        return cloudfront.FunctionAssociation(event_type=cloudfront.FunctionEventType.VIEWER_REQUEST, function=function)

    def _bucket(
        self, construct_id: str, stage: Stage, *, log_bucket: s3.IBucket | None = None, holds_logs: bool = False
    ) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            construct_id,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            versioned=not holds_logs,
            removal_policy=stage.removal_policy,
            server_access_logs_bucket=log_bucket,
            server_access_logs_prefix=f"{construct_id.lower()}/" if log_bucket else None,
            # CloudFront writes its logs through an ACL.
            object_ownership=(
                s3.ObjectOwnership.BUCKET_OWNER_PREFERRED if holds_logs else s3.ObjectOwnership.BUCKET_OWNER_ENFORCED
            ),
            lifecycle_rules=[
                s3.LifecycleRule(expiration=Duration.days(90))
                if holds_logs
                else s3.LifecycleRule(noncurrent_version_expiration=Duration.days(30))
            ],
        )
        if holds_logs:
            accept(bucket, "AwsSolutions-S1", because="the bucket of logs does not log access to itself")
        return bucket

    def _upload_console(self, console: s3.Bucket, distribution: cloudfront.Distribution) -> None:
        upload = deployment.BucketDeployment(
            self,
            "ConsoleFiles",
            sources=[
                deployment.Source.asset(str(REPOSITORY / "console"), exclude=["node_modules", "src", "*.md"]),
                deployment.Source.asset(str(REPOSITORY / "docs"), exclude=["**", "!openapi.json"]),
            ],
            destination_bucket=console,
            distribution=distribution,
            distribution_paths=["/*"],
            # What draws the API's docs is kept beside, under a prefix of its own.
            prune=False,
        )
        deployment.BucketDeployment(
            self,
            "DocsViewer",
            sources=[
                deployment.Source.asset(
                    str(REPOSITORY / "node_modules" / "swagger-ui-dist"),
                    exclude=["**", "!swagger-ui.css", "!swagger-ui-bundle.js"],
                )
            ],
            destination_bucket=console,
            destination_key_prefix="docs/viewer",
            distribution=distribution,
            distribution_paths=["/docs/viewer/*"],
        )
        bucket = self.get_logical_id(cast("CfnElement", console.node.default_child))
        accept(
            upload.handler_role,
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole]",
            *(f"AwsSolutions-IAM5[Action::s3:{action}*]" for action in _UPLOAD_ACTIONS),
            f"AwsSolutions-IAM5[Resource::arn:aws:s3:::cdk-hnb659fds-assets-<AWS::AccountId>-{self.region}/*]",
            f"AwsSolutions-IAM5[Resource::<{bucket}.Arn>/*]",
            ANY_RESOURCE,
            because="CDK's own uploader: it reads assets, writes this one bucket and invalidates this distribution",
        )
        for handler in self.node.children:
            if handler.node.id.startswith("Custom::CDKBucketDeployment"):
                accept(handler, "AwsSolutions-L1", because="CDK's own uploader chooses its runtime")

    def _web_acl(self, stage: Stage) -> waf.CfnWebACL:
        """AWS's managed rules and a rate limit per address; tenants' own limits are the platform's business."""
        names = Names(stage)
        managed = [_managed_rule(priority, rules) for priority, rules in enumerate(_MANAGED_RULES, start=1)]
        rate = waf.CfnWebACL.RuleProperty(
            name="rate-per-address",
            priority=0,
            action=waf.CfnWebACL.RuleActionProperty(block={}),
            statement=waf.CfnWebACL.StatementProperty(
                rate_based_statement=waf.CfnWebACL.RateBasedStatementProperty(
                    aggregate_key_type="IP", limit=_REQUESTS_PER_ADDRESS_IN_5_MINUTES
                )
            ),
            visibility_config=_visible("rate-per-address"),
        )
        return waf.CfnWebACL(
            self,
            "WebAcl",
            name=names.prefix,
            scope="CLOUDFRONT",
            default_action=waf.CfnWebACL.DefaultActionProperty(allow={}),
            rules=[rate, *managed],
            visibility_config=_visible(names.prefix),
        )


def _host_of(url: str) -> str:
    return Fn.select(2, Fn.split("/", url))


def _forward(
    domain: str,
    *on_request: cloudfront.FunctionAssociation,
    headers: dict[str, str] | None = None,
    patient: bool = False,
) -> cloudfront.BehaviorOptions:
    """Return the behaviour of a path that is an API's: nothing cached, all but the host passed on.

    Who is `patient` waits a minute, rather than half of one, for an answer's first byte and for each that follows.
    """
    patience = Duration.seconds(60) if patient else None
    return cloudfront.BehaviorOptions(
        origin=origins.HttpOrigin(
            domain,
            protocol_policy=cloudfront.OriginProtocolPolicy.HTTPS_ONLY,
            custom_headers=headers,
            read_timeout=patience,
            keepalive_timeout=patience,
        ),
        allowed_methods=cloudfront.AllowedMethods.ALLOW_ALL,
        cache_policy=cloudfront.CachePolicy.CACHING_DISABLED,
        origin_request_policy=cloudfront.OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
        viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
        function_associations=list(on_request),
    )


def _managed_rule(priority: int, rules: str) -> waf.CfnWebACL.RuleProperty:
    return waf.CfnWebACL.RuleProperty(
        name=rules,
        priority=priority,
        override_action=waf.CfnWebACL.OverrideActionProperty(none={}),
        statement=waf.CfnWebACL.StatementProperty(
            managed_rule_group_statement=waf.CfnWebACL.ManagedRuleGroupStatementProperty(
                vendor_name="AWS",
                name=rules,
                rule_action_overrides=[
                    waf.CfnWebACL.RuleActionOverrideProperty(
                        name=rule, action_to_use=waf.CfnWebACL.RuleActionProperty(count={})
                    )
                    for rule in _NOT_ENFORCED.get(rules, ())
                ],
            )
        ),
        visibility_config=_visible(rules),
    )


def _visible(metric: str) -> waf.CfnWebACL.VisibilityConfigProperty:
    return waf.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=metric, sampled_requests_enabled=True
    )
