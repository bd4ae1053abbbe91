"""Data (AWS only): Aurora Postgres with pgvector behind RDS Proxy, Valkey for what may be forgotten."""

from aws_cdk import ArnFormat, Duration, Fn
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticache as elasticache
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_rds as rds
from constructs import Construct

from infra_cdk.constructs.nag import accept
from infra_cdk.constructs.platform import Data
from infra_cdk.names import Names
from infra_cdk.stacks.base import PlatformStack
from infra_cdk.stacks.network import DATABASE_PORT, NetworkStack
from infra_cdk.stages import Stage

DATABASE = "runyard"
OWNER = "runyard_owner"
APPLICATION_ROLE = "runyard_app"

_COLON = ArnFormat.COLON_RESOURCE_NAME

# Carries pgvector 0.8, the version at home.
_ENGINE = rds.DatabaseClusterEngine.aurora_postgres(version=rds.AuroraPostgresEngineVersion.VER_17_7)


class DataStack(PlatformStack):
    """The application role signs in with IAM from function to proxy to database: it has no password anywhere."""

    def __init__(self, scope: Construct, *, stage: Stage, network: NetworkStack, key: kms.IKey) -> None:
        super().__init__(scope, "data", stage=stage, description="Runyard: Aurora Postgres, RDS Proxy, Valkey")
        cluster = self._database(stage, network, key)
        proxy = self._proxy(network, cluster)
        cache = self._cache(stage, network, key)
        reader = self._reader_endpoint(stage, network, proxy) if stage.database_readers else proxy.endpoint
        database = f"{DATABASE_PORT}/{DATABASE}?sslmode=require"
        self.data = Data(
            database_url=f"postgresql://{APPLICATION_ROLE}@{proxy.endpoint}:{database}",
            database_reader_url=f"postgresql://{APPLICATION_ROLE}@{reader}:{database}",
            migration_database_url=f"postgresql://{cluster.cluster_endpoint.hostname}:{database}",
            redis_url=f"rediss://{cache.attr_endpoint_address}:{cache.attr_endpoint_port}/0",
            # A proxy's id is the last part of its ARN.
            database_user_arn=self._user_arn(Fn.select(6, Fn.split(":", proxy.db_proxy_arn))),
            owner_secret_arn=cluster.secret.secret_arn if cluster.secret else None,
        )

    def _database(self, stage: Stage, network: NetworkStack, key: kms.IKey) -> rds.DatabaseCluster:
        cluster = rds.DatabaseCluster(
            self,
            "Database",
            engine=_ENGINE,
            writer=rds.ClusterInstance.serverless_v2("writer", auto_minor_version_upgrade=True),
            readers=[
                rds.ClusterInstance.serverless_v2(
                    f"reader{number}", scale_with_writer=number == 0, auto_minor_version_upgrade=True
                )
                for number in range(stage.database_readers)
            ],
            serverless_v2_min_capacity=stage.database_min_acu,
            serverless_v2_max_capacity=stage.database_max_acu,
            vpc=network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_group_name="data"),
            security_groups=[self._as_it_is(network.database_group)],
            # RDS keeps the owner's password itself and changes it every week.
            credentials=rds.Credentials.from_username(OWNER),
            manage_master_user_password=True,
            default_database_name=DATABASE,
            iam_authentication=True,
            storage_encrypted=True,
            storage_encryption_key=key,
            backup=rds.BackupProps(retention=Duration.days(stage.backup_days)),
            copy_tags_to_snapshot=True,
            cloudwatch_logs_exports=["postgresql"],
            deletion_protection=stage.keeps_data,
            removal_policy=stage.removal_policy,
        )
        accept(
            cluster,
            "AwsSolutions-RDS11",
            because="a port nobody expects hides nothing: only the proxy and the migration may open a connection",
        )
        if not stage.keeps_data:
            accept(cluster, "AwsSolutions-RDS10", because="a stage for trying things out is deleted at will")
        return cluster

    def _proxy(self, network: NetworkStack, cluster: rds.DatabaseCluster) -> rds.DatabaseProxy:
        return rds.DatabaseProxy(
            self,
            "Proxy",
            proxy_target=rds.ProxyTarget.from_cluster(cluster),
            default_auth_scheme=rds.DefaultAuthScheme.IAM_AUTH,
            iam_auth=True,
            role=self._proxy_role(cluster),
            require_tls=True,
            vpc=network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_group_name="data"),
            security_groups=[self._as_it_is(network.proxy_group)],
        )

    def _reader_endpoint(self, stage: Stage, network: NetworkStack, proxy: rds.DatabaseProxy) -> str:
        """Return the host behind which the proxy asks replicas only; without one it could ask nobody."""
        endpoint = rds.CfnDBProxyEndpoint(
            self,
            "Readers",
            db_proxy_name=proxy.db_proxy_name,
            db_proxy_endpoint_name=f"{Names(stage).prefix}-readers",
            target_role="READ_ONLY",
            vpc_subnet_ids=network.vpc.select_subnets(subnet_group_name="data").subnet_ids,
            vpc_security_group_ids=[network.proxy_group.security_group_id],
        )
        return endpoint.attr_endpoint

    def _proxy_role(self, cluster: rds.DatabaseCluster) -> iam.Role:
        """Return the proxy's own role: it signs in to the database with IAM too, as the application role only."""
        role = iam.Role(self, "ProxyRole", assumed_by=iam.ServicePrincipal("rds.amazonaws.com"))
        user = self._user_arn(cluster.cluster_resource_identifier)
        role.add_to_policy(iam.PolicyStatement(actions=["rds-db:connect"], resources=[user]))
        return role

    def _cache(self, stage: Stage, network: NetworkStack, key: kms.IKey) -> elasticache.CfnServerlessCache:
        """TLS is always on in a serverless cache, and only functions may connect."""
        return elasticache.CfnServerlessCache(
            self,
            "Cache",
            serverless_cache_name=Names(stage).prefix,
            engine="valkey",
            major_engine_version="8",
            description="Rate limits, idempotency, live feeds: nothing that may not be forgotten",
            kms_key_id=key.key_arn,
            security_group_ids=[network.cache_group.security_group_id],
            subnet_ids=network.vpc.select_subnets(subnet_group_name="data").subnet_ids,
            cache_usage_limits=elasticache.CfnServerlessCache.CacheUsageLimitsProperty(
                data_storage=elasticache.CfnServerlessCache.DataStorageProperty(unit="GB", maximum=stage.cache_max_gb)
            ),
        )

    def _user_arn(self, resource_id: str) -> str:
        """Return the resource of `rds-db:connect`: our role at a cluster (`cluster-…`) or proxy (`prx-…`)."""
        return self.format_arn(
            service="rds-db", resource="dbuser", resource_name=f"{resource_id}/{APPLICATION_ROLE}", arn_format=_COLON
        )

    def _as_it_is(self, group: ec2.SecurityGroup) -> ec2.ISecurityGroup:
        """Return the group as one that constructs don't add rules to: the network stack says who may talk to whom."""
        return ec2.SecurityGroup.from_security_group_id(
            self, f"{group.node.id}AsItIs", group.security_group_id, mutable=False
        )
