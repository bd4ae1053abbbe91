"""Events: the bus, the queues behind it, what happens by schedule."""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_ses as ses
from aws_cdk.aws_events_targets import SqsQueue
from aws_cdk.aws_lambda_event_sources import SqsEventSource
from aws_cdk.aws_scheduler_targets import LambdaInvoke
from constructs import Construct

from infra_cdk.constructs.nag import accept
from infra_cdk.constructs.platform import Platform
from infra_cdk.constructs.platform_function import PlatformFunction
from infra_cdk.constructs.queue import DeadLetterQueue, DurableQueue
from infra_cdk.functions import QUEUES, SCHEDULES
from infra_cdk.stacks.base import PlatformStack

EVENT_SOURCE = "runyard"
_BATCH_SIZE = 10
_MAX_CONCURRENT_BATCHES = 10


class EventsStack(PlatformStack):
    """run.requested -> start-runs; a sandbox's task stopped -> sandbox-stopped; letters, usage -> their queues."""

    def __init__(self, scope: Construct, *, platform: Platform) -> None:
        super().__init__(scope, "events", stage=platform.stage, description="Runyard: bus, queues, schedules")
        self._platform = platform
        self.dead_letter_queues: list[str] = []
        bus = events.EventBus(self, "Bus", event_bus_name=platform.names.event_bus)
        self._rule(
            "run-requested",
            queue=self._queue("start_runs"),
            bus=bus,
            pattern=events.EventPattern(source=[EVENT_SOURCE], detail_type=["run.requested"]),
        )
        self._rule(
            "sandbox-stopped",
            queue=self._queue("sandbox_stopped"),
            bus=None,  # AWS services publish on the default bus
            pattern=events.EventPattern(
                source=["aws.ecs"],
                detail_type=["ECS Task State Change"],
                detail={
                    "clusterArn": [platform.names.sandbox_cluster_arn(self)],
                    "lastStatus": ["STOPPED"],
                },
            ),
        )
        # Fed by the functions themselves: a person waits for the letter.
        self._queue("send_letters")
        # Fed by the API and by what meters outside of it.
        self._queue("record_usage")
        ses.CfnEmailIdentity(self, "Sender", email_identity=(platform.stage.home or platform.stage).mail_from)
        self._schedules()

    def _queue(self, name: str) -> DurableQueue:
        consumer = QUEUES[name]
        queue = DurableQueue(
            self,
            f"Queue-{name}",
            name=self._platform.names.function(name.replace("_", "-")),
            consumer_timeout_s=consumer.timeout_s,
        )
        self.dead_letter_queues.append(queue.dead_letters.name)
        function = PlatformFunction(self, consumer, platform=self._platform).function
        function.add_event_source(
            SqsEventSource(
                queue.queue,
                batch_size=_BATCH_SIZE,
                report_batch_item_failures=True,
                max_concurrency=_MAX_CONCURRENT_BATCHES,
            )
        )
        return queue

    def _rule(
        self, name: str, *, queue: DurableQueue, bus: events.IEventBus | None, pattern: events.EventPattern
    ) -> None:
        events.Rule(
            self,
            f"Rule-{name}",
            rule_name=f"{self._platform.names.prefix}-{name}",
            event_bus=bus,
            event_pattern=pattern,
            targets=[SqsQueue(queue.queue, dead_letter_queue=queue.dead_letters)],
        )

    def _schedules(self) -> None:
        names = self._platform.names
        dead_letters = DeadLetterQueue(self, "SchedulesDeadLetters", name=names.function("schedules-dead"))
        accept(dead_letters, "AwsSolutions-SQS3", because="this is the dead-letter queue of schedules and functions")
        self.dead_letter_queues.append(dead_letters.name)
        invoked = {
            name: PlatformFunction(self, function, platform=self._platform, on_failure=dead_letters).function
            for name, function in SCHEDULES.items()
        }
        role = self._scheduler_role(list(invoked.values()), dead_letters)
        for name, function in invoked.items():
            target = LambdaInvoke(
                function,
                role=role,
                dead_letter_queue=dead_letters,
                retry_attempts=2,
                max_event_age=Duration.minutes(5),
            )
            scheduler.Schedule(
                self,
                f"Schedule-{name}",
                schedule_name=names.function(SCHEDULES[name].name),
                schedule=scheduler.ScheduleExpression.expression(SCHEDULES[name].schedule),
                target=target,
            )

    def _scheduler_role(self, functions: Sequence[lambda_.IFunction], dead_letters: DeadLetterQueue) -> iam.IRole:
        """Return the scheduler's role, closed: targets would add every version of their function to it."""
        role = iam.Role(self, "SchedulerRole", assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com"))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["lambda:InvokeFunction"], resources=[function.function_arn for function in functions]
            )
        )
        role.add_to_policy(iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[dead_letters.queue_arn]))
        return role.without_policy_updates()
