"""Network (AWS only): a VPC in which data can't reach the internet and a sandbox can't reach data."""

from aws_cdk import Fn, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra_cdk.constructs.platform import FunctionNetwork, SandboxPlace
from infra_cdk.stacks.base import PlatformStack
from infra_cdk.stages import SANDBOX_PORT, Stage

DATABASE_PORT = 5432
CACHE_PORTS = (6379, 6380)

# Services the functions call often; the rest, and the model provider, they reach through NAT. None for what a
# sandbox's own start needs (registry, logs): an endpoint answers for the whole VPC and would shut sandboxes out.
_ENDPOINTS = {
    "SecretsManager": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
    "StepFunctions": ec2.InterfaceVpcEndpointAwsService.STEP_FUNCTIONS,
    "EventBridge": ec2.InterfaceVpcEndpointAwsService.EVENTBRIDGE,
    "Xray": ec2.InterfaceVpcEndpointAwsService.XRAY,
}


class NetworkStack(PlatformStack):
    """Subnets: public (NAT only), functions, sandboxes, data. A security group for each of those who talk."""

    def __init__(self, scope: Construct, *, stage: Stage) -> None:
        super().__init__(scope, "network", stage=stage, description="Runyard: VPC and who may talk to whom")
        self._zones = stage.availability_zones
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            max_azs=stage.availability_zones,
            nat_gateways=stage.nat_gateways,
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(name="public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=24),
                ec2.SubnetConfiguration(name="functions", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=20),
                ec2.SubnetConfiguration(name="sandboxes", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=20),
                ec2.SubnetConfiguration(name="data", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=24),
            ],
            gateway_endpoints={"S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)},
        )
        self.vpc.add_flow_log(
            "FlowLog",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(
                logs.LogGroup(self, "FlowLogs", retention=stage.log_retention, removal_policy=RemovalPolicy.DESTROY)
            ),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
        self.functions_group = self._group("Functions", "Runyard functions")
        self.sandboxes_group = self._group("Sandboxes", "Sandboxes: hostile code")
        self.proxy_group = self._group("DatabaseProxy", "RDS Proxy")
        self.database_group = self._group("Database", "Aurora")
        self.cache_group = self._group("Cache", "ElastiCache")
        self._say_who_may_talk()
        if stage.interface_endpoints:
            self._add_interface_endpoints()

    @property
    def availability_zones(self) -> list[str]:
        """As many zones as the stage asks for; without an account to look at, CDK would settle for two."""
        return [Fn.select(number, Fn.get_azs(self.region)) for number in range(self._zones)]

    @property
    def functions(self) -> FunctionNetwork:
        return FunctionNetwork(
            vpc=self.vpc,
            subnets=ec2.SubnetSelection(subnet_group_name="functions"),
            security_group=self.functions_group,
        )

    @property
    def sandboxes(self) -> SandboxPlace:
        subnets = self.vpc.select_subnets(subnet_group_name="sandboxes")
        return SandboxPlace(
            subnet_ids=tuple(subnets.subnet_ids), security_group_id=self.sandboxes_group.security_group_id
        )

    def _group(self, construct_id: str, description: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self, f"{construct_id}Group", vpc=self.vpc, description=description, allow_all_outbound=False
        )

    def _say_who_may_talk(self) -> None:
        anywhere, https = ec2.Peer.any_ipv4(), ec2.Port.tcp(443)
        functions, sandboxes = self.functions_group, self.sandboxes_group
        functions.add_egress_rule(anywhere, https, "AWS and the model provider")
        # The registration endpoint is a public HTTPS address, and so are package registries: 443 is all there is.
        sandboxes.add_egress_rule(anywhere, https, "Registration, package registries")
        database, sandbox = ec2.Port.tcp(DATABASE_PORT), ec2.Port.tcp(SANDBOX_PORT)
        _connect(functions, sandboxes, sandbox, "Commands")
        _connect(functions, self.proxy_group, database, "Application role")
        _connect(functions, self.database_group, database, "Migrations, past the proxy")
        _connect(self.proxy_group, self.database_group, database, "Pool")
        for port in CACHE_PORTS:
            _connect(functions, self.cache_group, ec2.Port.tcp(port), "Cache")

    def _add_interface_endpoints(self) -> None:
        group = self._group("Endpoints", "Interface endpoints")
        group.add_ingress_rule(self.functions_group, ec2.Port.tcp(443), "Functions")
        for name, service in _ENDPOINTS.items():
            self.vpc.add_interface_endpoint(
                name,
                service=service,
                open=False,
                security_groups=[group],
                subnets=ec2.SubnetSelection(subnet_group_name="functions"),
            )


def _connect(source: ec2.SecurityGroup, target: ec2.SecurityGroup, port: ec2.Port, why: str) -> None:
    source.add_egress_rule(target, port, why)
    target.add_ingress_rule(source, port, why)
