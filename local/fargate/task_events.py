"""Delivers "ECS Task State Change" as EventBridge would.

AWS services put such events on the default bus themselves, and PutEvents refuses sources that begin with `aws.`,
here as in AWS. So the stand-in takes EventBridge's part for this one event: it asks which rules of the default bus
match, and sends the event to their queues.
"""

import json
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from local.settings import ACCOUNT, REGION

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sqs import SQSClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskStopped:
    """A task that has stopped, why, and how its container ended (None: it never started)."""

    task_arn: str
    cluster_arn: str
    definition_arn: str
    container_name: str
    sandbox_id: str | None
    stop_code: str
    reason: str
    exit_code: int | None
    started_by: str | None

    def event(self, at: datetime) -> dict[str, Any]:
        """Return the event in EventBridge's envelope. Of the environment it carries the sandbox's id, no token."""
        container = {"name": self.container_name, "lastStatus": "STOPPED", "taskArn": self.task_arn}
        if self.exit_code is not None:
            container |= {"exitCode": self.exit_code}  # type: ignore[dict-item]
        environment = [{"name": "SANDBOX_ID", "value": self.sandbox_id}] if self.sandbox_id else []
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "ECS Task State Change",
            "source": "aws.ecs",
            "account": ACCOUNT,
            "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": [self.task_arn],
            "detail": {
                "clusterArn": self.cluster_arn,
                "containers": [container],
                "desiredStatus": "STOPPED",
                "lastStatus": "STOPPED",
                "launchType": "FARGATE",
                "overrides": {"containerOverrides": [{"name": self.container_name, "environment": environment}]},
                "startedBy": self.started_by,
                "stopCode": self.stop_code,
                "stoppedAt": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "stoppedReason": self.reason,
                "taskArn": self.task_arn,
                "taskDefinitionArn": self.definition_arn,
            },
        }


class TaskEvents:
    """Blocking calls; every method raises botocore's errors."""

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url

    @cached_property
    def _session(self) -> dict[str, Any]:
        return {
            "endpoint_url": self._endpoint_url,
            "region_name": REGION,
            "aws_access_key_id": ACCOUNT,
            "aws_secret_access_key": "local",
            "config": Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        }

    @cached_property
    def _events(self) -> "EventBridgeClient":
        return boto3.client("events", **self._session)

    @cached_property
    def _sqs(self) -> "SQSClient":
        return boto3.client("sqs", **self._session)

    def deliver(self, stopped: TaskStopped) -> int:
        """Send the event to every queue whose rule matches. Returns how many there were; may repeat after an error."""
        body = json.dumps(stopped.event(datetime.now(UTC)))
        queues = [target for rule in self._matching_rules(body) for target in self._queues(rule)]
        for name, account in queues:
            url = self._sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
            self._sqs.send_message(QueueUrl=url, MessageBody=body)
        return len(queues)

    def _matching_rules(self, body: str) -> Iterator[str]:
        for page in self._events.get_paginator("list_rules").paginate():
            for rule in page["Rules"]:
                pattern = rule.get("EventPattern")
                if rule.get("State") != "ENABLED" or not pattern:
                    continue
                if self._events.test_event_pattern(EventPattern=pattern, Event=body)["Result"]:
                    yield rule["Name"]

    def _queues(self, rule: str) -> Iterator[tuple[str, str]]:
        for page in self._events.get_paginator("list_targets_by_rule").paginate(Rule=rule):
            for target in page["Targets"]:
                _, _, service, _, account, name = target["Arn"].split(":", 5)
                if service == "sqs":
                    yield name, account
                else:
                    logger.warning("rule %s has a target that is no queue: %s is not served", rule, service)
