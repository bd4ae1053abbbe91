"""What all stacks share: name, place, tags, and no way to be deleted by accident where data is kept."""

from aws_cdk import Environment, Stack
from constructs import Construct

from infra_cdk.names import Names
from infra_cdk.stages import Stage


class PlatformStack(Stack):
    """A stack of one stage."""

    def __init__(
        self, scope: Construct, part: str, *, stage: Stage, description: str, region: str | None = None
    ) -> None:
        super().__init__(
            scope,
            Names(stage).stack(part),
            env=Environment(account=stage.account, region=region or stage.region),
            description=description,
            tags={"runyard:stage": stage.name},
            termination_protection=stage.keeps_data,
            cross_region_references=stage.in_aws and stage.region != "us-east-1",
        )
