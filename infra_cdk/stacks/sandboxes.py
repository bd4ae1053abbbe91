"""Sandboxes: the cluster and task in which agents' code runs, with no rights at all."""

from typing import TYPE_CHECKING

from aws_cdk import RemovalPolicy
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk.aws_ecr_assets import Platform
from constructs import Construct

from infra_cdk.constructs.code import REPOSITORY
from infra_cdk.constructs.nag import ANY_RESOURCE, accept
from infra_cdk.constructs.platform import SandboxPlace
from infra_cdk.names import Names
from infra_cdk.stacks.base import PlatformStack
from infra_cdk.stages import SANDBOX_PORT, Stage

if TYPE_CHECKING:
    from infra_cdk.stacks.network import NetworkStack

_COMMAND = ["python", "-m", "sandbox"]
_SANDBOX_USER = "1000"


class SandboxesStack(PlatformStack):
    """A Fargate task definition; who may talk to a sandbox is said in the network stack."""

    def __init__(self, scope: Construct, *, stage: Stage, network: "NetworkStack | None") -> None:
        super().__init__(scope, "sandboxes", stage=stage, description="Runyard: where agents run code")
        names = Names(stage)
        self.place = network.sandboxes if network else SandboxPlace()
        self._cluster(names, network)
        execution_role = self._role("ExecutionRole", names.sandbox_execution_role)
        accept(
            execution_role,
            ANY_RESOURCE,
            because="logging in to the image registry (ecr:GetAuthorizationToken) knows no resources",
        )
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            family=names.sandbox_task_family,
            cpu=256,
            memory_limit_mib=512,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.ARM64,
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            # No policies: code in a sandbox can use this role, and must gain nothing by it.
            task_role=self._role("TaskRole", names.sandbox_task_role),
            execution_role=execution_role,
        )
        task.add_container(
            "sandbox",
            image=_image(stage),
            command=_COMMAND,
            user=_SANDBOX_USER,
            essential=True,
            privileged=False,
            port_mappings=[ecs.PortMapping(container_port=SANDBOX_PORT)],
            linux_parameters=_without_capabilities(self),
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix="sandbox",
                log_group=logs.LogGroup(
                    self,
                    "Logs",
                    log_group_name=f"/runyard/{stage.name}/sandboxes",
                    retention=stage.log_retention,
                    removal_policy=RemovalPolicy.DESTROY,
                ),
            ),
        )

    def _cluster(self, names: Names, network: "NetworkStack | None") -> None:
        if network:
            ecs.Cluster(
                self,
                "Cluster",
                cluster_name=names.sandbox_cluster,
                vpc=network.vpc,
                container_insights_v2=ecs.ContainerInsights.ENABLED,
            )
        else:
            # The construct above would make itself a VPC.
            insights = ecs.CfnCluster.ClusterSettingsProperty(name="containerInsights", value="enabled")
            ecs.CfnCluster(self, "Cluster", cluster_name=names.sandbox_cluster, cluster_settings=[insights])

    def _role(self, construct_id: str, name: str) -> iam.Role:
        return iam.Role(self, construct_id, role_name=name, assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))


def _image(stage: Stage) -> ecs.ContainerImage:
    """Return the image; at home nothing pulls it, the Fargate stand-in runs the same command from the working copy."""
    if stage.in_aws:
        return ecs.ContainerImage.from_asset(
            str(REPOSITORY),
            file="sandbox/Dockerfile",
            exclude=["*", "!sandbox", "sandbox/__pycache__", "sandbox/*.md"],
            platform=Platform.LINUX_ARM64,
        )
    return ecs.ContainerImage.from_registry("runyard/sandbox")


def _without_capabilities(scope: Construct) -> ecs.LinuxParameters:
    parameters = ecs.LinuxParameters(scope, "Linux")
    parameters.drop_capabilities(ecs.Capability.ALL)
    return parameters
