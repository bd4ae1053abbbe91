"""Runs: the state machine AgentRun and the function of each of its steps."""

from constructs import Construct

from infra_cdk.constructs.code import REPOSITORY
from infra_cdk.constructs.platform import Platform
from infra_cdk.constructs.state_machine import state_machine
from infra_cdk.functions import STEPS
from infra_cdk.stacks.base import PlatformStack

DEFINITION = REPOSITORY / "infra_cdk" / "state_machines" / "agent_run.asl.json"


class RunsStack(PlatformStack):
    """Executions are started by the queue of requested runs."""

    def __init__(self, scope: Construct, *, platform: Platform) -> None:
        super().__init__(scope, "runs", stage=platform.stage, description="Runyard: agent runs")
        state_machine(
            self, "AgentRun", name=platform.names.run_machine, definition=DEFINITION, steps=STEPS, platform=platform
        )
