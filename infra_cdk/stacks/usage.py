"""Usage: the state machine AggregateUsage, which adds up the days, and what starts it each night."""

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk.aws_scheduler_targets import StepFunctionsStartExecution
from constructs import Construct

from infra_cdk.constructs.code import REPOSITORY
from infra_cdk.constructs.nag import accept
from infra_cdk.constructs.platform import Platform
from infra_cdk.constructs.queue import DeadLetterQueue
from infra_cdk.constructs.state_machine import state_machine
from infra_cdk.functions import AGGREGATION
from infra_cdk.stacks.base import PlatformStack

DEFINITION = REPOSITORY / "infra_cdk" / "state_machines" / "aggregate_usage.asl.json"
# The day before is over, in UTC, and what was used last has come in.
SCHEDULE = "cron(5 0 * * ? *)"


class UsageStack(PlatformStack):
    """An execution without input catches up; with one it fills in a range of days. See docs/operations.md."""

    def __init__(self, scope: Construct, *, platform: Platform) -> None:
        super().__init__(scope, "usage", stage=platform.stage, description="Runyard: days of usage")
        names = platform.names
        machine = state_machine(
            self,
            "AggregateUsage",
            name=names.usage_machine,
            definition=DEFINITION,
            steps=AGGREGATION,
            platform=platform,
        )
        # An execution with too many tenants hands the rest on to another.
        itself = names.usage_machine_arn(self)
        machine.add_to_role_policy(iam.PolicyStatement(actions=["states:StartExecution"], resources=[itself]))

        dead_letters = DeadLetterQueue(self, "ScheduleDeadLetters", name=names.function("aggregate-usage-dead"))
        accept(dead_letters, "AwsSolutions-SQS3", because="this is the dead-letter queue of a schedule")
        self.dead_letter_queues = [dead_letters.name]
        role = iam.Role(self, "SchedulerRole", assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com"))
        start = iam.PolicyStatement(actions=["states:StartExecution"], resources=[machine.state_machine_arn])
        role.add_to_policy(start)
        role.add_to_policy(iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[dead_letters.queue_arn]))
        scheduler.Schedule(
            self,
            "Schedule",
            schedule_name=names.usage_machine,
            schedule=scheduler.ScheduleExpression.expression(SCHEDULE),
            target=StepFunctionsStartExecution(
                machine,
                role=role.without_policy_updates(),
                input=scheduler.ScheduleTargetInput.from_object({}),
                dead_letter_queue=dead_letters,
                retry_attempts=20,
                max_event_age=Duration.hours(6),
            ),
        )
