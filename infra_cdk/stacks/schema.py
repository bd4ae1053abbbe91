"""Schema: the migration, run by each deploy that changes it, before any function that relies on it is updated."""

from aws_cdk import Duration
from aws_cdk.triggers import Trigger
from constructs import Construct

from infra_cdk.constructs.platform import Platform
from infra_cdk.constructs.platform_function import PlatformFunction
from infra_cdk.functions import MIGRATE
from infra_cdk.stacks.base import PlatformStack


class SchemaStack(PlatformStack):
    """Alembic in a function: inside the VPC, where the database is. A failed migration fails the deploy."""

    def __init__(self, scope: Construct, *, platform: Platform) -> None:
        super().__init__(scope, "schema", stage=platform.stage, description="Runyard: database migrations")
        migrate = PlatformFunction(self, MIGRATE, platform=platform)
        Trigger(self, "Migrate", handler=migrate.function, timeout=Duration.seconds(MIGRATE.timeout_s))
