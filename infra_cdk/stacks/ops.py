"""Ops: alarms on whatever a person has to look at, and one dashboard."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra_cdk.functions import AUTHORIZER, GATEWAY, MIGRATE, QUEUES, SCHEDULES, SOCKETS, STEPS, WEBSOCKET_AUTHORIZER
from infra_cdk.names import Names
from infra_cdk.stacks.base import PlatformStack
from infra_cdk.stages import Stage

_PERIOD_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    """A metric that should stay at zero, or below `threshold` per minute."""

    name: str
    why: str
    namespace: str
    metric: str
    dimensions: dict[str, str] = field(default_factory=dict)
    statistic: str = "Sum"
    threshold: int = 1
    minutes: int = 1


class OpsStack(PlatformStack):
    """Alarms publish to one topic; whoever is on call subscribes to it."""

    def __init__(
        self,
        scope: Construct,
        *,
        stage: Stage,
        key: kms.IKey,
        http_api_id: str,
        dead_letter_queues: Sequence[str],
    ) -> None:
        super().__init__(scope, "ops", stage=stage, description="Runyard: alarms and dashboard")
        names = Names(stage)
        run_machine_arn = names.run_machine_arn(self)
        self._topic = self._alarm_topic(names, key)
        watches = [
            *(_dead_letters(names, queue) for queue in dead_letter_queues),
            *_function_errors(names),
            *_gateway_errors(names),
            *_run_failures(run_machine_arn),
            *_aggregation_failures(names.usage_machine_arn(self)),
            _late_settlements(stage),
            _uncounted_calls(stage),
            _throttles(),
            _api_errors(http_api_id),
        ]
        for watch in watches:
            self._alarm(names, watch)
        self._dashboard(names, stage.region, watches, http_api_id, run_machine_arn)

    def _alarm_topic(self, names: Names, key: kms.IKey) -> sns.Topic:
        topic = sns.Topic(self, "Alarms", topic_name=f"{names.prefix}-alarms", master_key=key, enforce_ssl=True)
        topic.grant_publish(iam.ServicePrincipal("cloudwatch.amazonaws.com"))
        return topic

    def _alarm(self, names: Names, watch: _Watch) -> None:
        cloudwatch.CfnAlarm(
            self,
            f"Alarm-{watch.name}",
            alarm_name=f"{names.prefix}-{watch.name}",
            alarm_description=watch.why,
            namespace=watch.namespace,
            metric_name=watch.metric,
            dimensions=[
                cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value)
                for name, value in watch.dimensions.items()
            ],
            statistic=watch.statistic,
            period=_PERIOD_S,
            evaluation_periods=watch.minutes,
            threshold=watch.threshold,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[self._topic.topic_arn],
            ok_actions=[self._topic.topic_arn],
        )

    def _dashboard(
        self, names: Names, region: str, watches: Sequence[_Watch], http_api_id: str, run_machine_arn: str
    ) -> None:
        def metric(namespace: str, name: str, statistic: str, **dimensions: str) -> cloudwatch.Metric:
            return cloudwatch.Metric(
                namespace=namespace, metric_name=name, statistic=statistic, dimensions_map=dimensions, region=region
            )

        def api(name: str, statistic: str) -> cloudwatch.Metric:
            return metric("AWS/ApiGateway", name, statistic, ApiId=http_api_id)

        def runs(name: str, statistic: str = "Sum") -> cloudwatch.Metric:
            return metric("AWS/States", name, statistic, StateMachineArn=run_machine_arn)

        def gateway(name: str, statistic: str = "Sum") -> cloudwatch.Metric:
            return metric("AWS/Lambda", name, statistic, FunctionName=names.function(GATEWAY.name))

        def graph(title: str, *left: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
            return cloudwatch.GraphWidget(title=title, left=list(left), width=12)

        errors = [
            metric(watch.namespace, watch.metric, watch.statistic, **watch.dimensions)
            for watch in watches
            if watch.namespace in {"AWS/Lambda", "AWS/SQS"}
        ]
        dashboard = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=names.prefix)
        dashboard.add_widgets(
            graph("Requests", api("Count", "Sum"), api("4xx", "Sum"), api("5xx", "Sum")),
            graph("API latency, ms", api("Latency", "p50"), api("Latency", "p95"), api("Latency", "p99")),
        )
        dashboard.add_widgets(
            graph("Gateway", gateway("UrlRequestCount"), gateway("Url4xxCount"), gateway("Url5xxCount")),
            graph("Gateway instances in use", gateway("ConcurrentExecutions", "Maximum")),
        )
        dashboard.add_widgets(
            graph("Runs", runs("ExecutionsStarted"), runs("ExecutionsSucceeded"), runs("ExecutionsFailed")),
            graph("Run time, ms", runs("ExecutionTime", "p50"), runs("ExecutionTime", "p95")),
        )
        dashboard.add_widgets(graph("What should stay at zero", *errors))


def _dead_letters(names: Names, queue: str) -> _Watch:
    return _Watch(
        name=f"{queue.removeprefix(f'{names.prefix}-')}-not-empty",
        why=f"Messages wait in {queue}: they failed for good. See docs/operations.md, dead letters.",
        namespace="AWS/SQS",
        metric="ApproximateNumberOfMessagesVisible",
        dimensions={"QueueName": queue},
        statistic="Maximum",
    )


def _function_errors(names: Names) -> list[_Watch]:
    """Errors of functions no caller waits for; those of API functions show as 5xx, and steps are retried."""
    watched = (AUTHORIZER, WEBSOCKET_AUTHORIZER, MIGRATE, *SCHEDULES.values(), *QUEUES.values(), *SOCKETS.values())
    finishing = (STEPS["Recover"], STEPS["Fail"], STEPS["Finish"])
    return [
        _Watch(
            name=f"{function.name}-errors",
            why=f"{names.function(function.name)} fails again and again.",
            namespace="AWS/Lambda",
            metric="Errors",
            dimensions={"FunctionName": names.function(function.name)},
            minutes=3,
        )
        for function in (*watched, *finishing)
    ]


def _gateway_errors(names: Names) -> list[_Watch]:
    """What the gateway answers by itself is in its logs; a server that doesn't start, or dies, shows here alone."""
    return [
        _Watch(
            name=f"{GATEWAY.name}-{name}",
            why=why,
            namespace="AWS/Lambda",
            metric=metric,
            dimensions={"FunctionName": names.function(GATEWAY.name)},
            threshold=threshold,
            minutes=3,
        )
        for name, metric, threshold, why in (
            ("errors", "Errors", 1, "The model gateway's server fails. See docs/operations.md, the gateway."),
            ("5xx", "Url5xxCount", 5, "The model gateway answers with 5xx. See docs/operations.md, the gateway."),
        )
    ]


def _run_failures(run_machine_arn: str) -> list[_Watch]:
    return [
        _Watch(
            name=f"runs-{metric.removeprefix('Executions').lower()}",
            why=why,
            namespace="AWS/States",
            metric=metric,
            dimensions={"StateMachineArn": run_machine_arn},
            threshold=threshold,
        )
        for metric, why, threshold in (
            ("ExecutionsFailed", "Many runs fail: look at the newest failed executions of AgentRun.", 5),
            ("ExecutionsTimedOut", "A run took longer than a run may.", 1),
            ("ExecutionsAborted", "Runs are stopped from outside more often than users cancel.", 20),
        )
    ]


def _aggregation_failures(machine_arn: str) -> list[_Watch]:
    return [
        _Watch(
            name=f"aggregation-{metric.removeprefix('Executions').lower()}",
            why="Days of usage were not added up for every org. See docs/operations.md, days of usage.",
            namespace="AWS/States",
            metric=metric,
            dimensions={"StateMachineArn": machine_arn},
        )
        for metric in ("ExecutionsFailed", "ExecutionsTimedOut")
    ]


def _late_settlements(stage: Stage) -> _Watch:
    """Written by `shared/billing/ledger.py`, whichever function it runs in."""
    return _Watch(
        name="late-settlement",
        why="Work outlived its hold: what it cost is lost. See docs/operations.md, late settlements.",
        namespace="Runyard",
        metric="LateSettlement",
        dimensions={"stage": stage.name, "service": "credits"},
    )


def _uncounted_calls(stage: Stage) -> _Watch:
    """Written by `shared/kernel/counting.py`, whichever function it runs in."""
    return _Watch(
        name="api-calls-not-counted",
        why="Requests are answered and not counted. See docs/operations.md, money.",
        namespace="Runyard",
        metric="ApiCallNotCounted",
        dimensions={"stage": stage.name, "service": "counting"},
        minutes=3,
    )


def _throttles() -> _Watch:
    """All functions share the account's concurrency, so this is watched without a dimension."""
    return _Watch(
        name="throttles",
        why="Lambda throttles: the account's concurrency is used up.",
        namespace="AWS/Lambda",
        metric="Throttles",
        minutes=3,
    )


def _api_errors(http_api_id: str) -> _Watch:
    return _Watch(
        name="api-5xx",
        why="The API answers with 5xx.",
        namespace="AWS/ApiGateway",
        metric="5xx",
        dimensions={"ApiId": http_api_id},
        threshold=5,
        minutes=3,
    )
