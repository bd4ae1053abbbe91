"""Runyard as one CDK app: what is deployed, and what stands on what.

cdk deploy --all                     to the home on this machine (stage local)
cdk deploy --all -c stage=prod       to AWS
"""

import sys

from aws_cdk import App

from infra_cdk.constructs.platform import Data, Platform
from infra_cdk.stacks.api import ApiStack
from infra_cdk.stacks.events import EventsStack
from infra_cdk.stacks.foundation import FoundationStack
from infra_cdk.stacks.ops import OpsStack
from infra_cdk.stacks.runs import RunsStack
from infra_cdk.stacks.sandboxes import SandboxesStack
from infra_cdk.stacks.schema import SchemaStack
from infra_cdk.stacks.usage import UsageStack
from infra_cdk.stages import Stage, StageError, stage_of


def add_stacks(app: App, stage: Stage) -> None:
    """Describe all stacks of one stage."""
    foundation = FoundationStack(app, stage=stage)

    # What only AWS has is imported where it is used: three seconds that a deploy at home does without.
    # At home, Postgres and Redis are processes of this machine, and there is no network around them.
    if stage.home:
        network, data = None, Data.at_home(stage.home)
    else:
        from infra_cdk.stacks.data import DataStack
        from infra_cdk.stacks.network import NetworkStack

        network = NetworkStack(app, stage=stage)
        data = DataStack(app, stage=stage, network=network, key=foundation.key).data

    sandboxes = SandboxesStack(app, stage=stage, network=network)
    platform = Platform(
        stage=stage,
        secrets=foundation.secrets,
        data=data,
        network=network.functions if network else None,
        sandboxes=sandboxes.place,
    )

    schema = SchemaStack(app, platform=platform)

    api = ApiStack(app, platform=platform)
    runs = RunsStack(app, platform=api.platform)
    events = EventsStack(app, platform=api.platform)
    usage = UsageStack(app, platform=api.platform)
    for user_of_schema in (api, runs, events, usage):
        user_of_schema.add_stack_dependency(schema, "the schema is migrated first")

    OpsStack(
        app,
        stage=stage,
        key=foundation.key,
        http_api_id=api.http.api_id,
        dead_letter_queues=[*events.dead_letter_queues, *usage.dead_letter_queues],
    )
    if stage.in_aws:
        from infra_cdk.stacks.delivery import DeliveryStack
        from infra_cdk.stacks.gateway import GatewayStack

        # At home a part of its own serves the gateway, as the emulator's functions can't stream.
        gateway = GatewayStack(app, platform=api.platform)
        gateway.add_stack_dependency(schema, "the schema is migrated first")
        DeliveryStack(
            app,
            stage=stage,
            api_url=api.http.url,
            gateway_url=gateway.url,
            websocket_domain=api.sockets.domain_name,
        )


if __name__ == "__main__":
    app = App(tree_metadata=False)
    try:
        add_stacks(app, stage_of(app.node))
    except StageError as error:
        sys.exit(str(error))
    app.synth()
