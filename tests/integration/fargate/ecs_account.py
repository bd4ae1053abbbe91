"""What the platform and its stacks do with ECS: a cluster, tasks, and a rule that sends their ends to a queue."""

import json
import time
from typing import Any

import boto3

_PATTERN = {
    "source": ["aws.ecs"],
    "detail-type": ["ECS Task State Change"],
    "detail": {"lastStatus": ["STOPPED"], "clusterArn": [{"suffix": "cluster/sandboxes"}]},
}


class EcsAccount:
    """The account as the platform sees it. Sandboxes are numbered."""

    def __init__(self, endpoint_url: str) -> None:
        session = boto3.Session("test", "test", region_name="us-east-1")
        self.ecs = session.client("ecs", endpoint_url=endpoint_url)
        self._events = session.client("events", endpoint_url=endpoint_url)
        self._sqs = session.client("sqs", endpoint_url=endpoint_url)
        self._number = 0
        self._received: list[dict[str, Any]] = []
        self.set_up()

    def set_up(self) -> None:
        """Make what a deployment makes."""
        self.ecs.create_cluster(clusterName="sandboxes")
        self.ecs.register_task_definition(
            family="sandbox",
            cpu="256",
            memory="512",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            containerDefinitions=[{"name": "sandbox", "image": "sandbox", "command": ["python", "-m", "sandbox"]}],
        )
        self._queue = self._sqs.create_queue(QueueName="stopped")["QueueUrl"]
        self._events.put_rule(Name="stopped", EventPattern=json.dumps(_PATTERN))
        self._events.put_rule(Name="other", EventPattern=json.dumps({"source": ["aws.s3"]}))
        queue = "arn:aws:sqs:us-east-1:000000000000:stopped"
        for rule in ("stopped", "other"):
            self._events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": queue}])

    def run_task(self) -> tuple[str, str]:
        """Start a sandbox's task. Returns the task's ARN and the sandbox's id."""
        self._number += 1
        sandbox_id = f"sbx_{self._number}"
        variables = {
            "SANDBOX_ID": sandbox_id,
            "SANDBOX_REGISTRATION_TOKEN": f"registration-secret-{self._number}",
            "RUNYARD_PLATFORM_URL": "https://platform.example",
        }
        environment: list[Any] = [{"name": name, "value": value} for name, value in variables.items()]
        started = self.ecs.run_task(
            cluster="sandboxes",
            taskDefinition="sandbox",
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
            overrides={"containerOverrides": [{"name": "sandbox", "environment": environment}]},
        )
        return started["tasks"][0]["taskArn"], sandbox_id

    def stop_task(self, arn: str, reason: str) -> None:
        self.ecs.stop_task(cluster="sandboxes", task=arn, reason=reason)

    def task(self, arn: str) -> dict[str, Any]:
        return dict(self.ecs.describe_tasks(cluster="sandboxes", tasks=[arn])["tasks"][0])

    def event(self, arn: str, within_s: float = 20) -> dict[str, Any]:
        """Wait for the event of this task's end and return its detail."""
        deadline = time.monotonic() + within_s
        while True:
            found = next((e for e in self._received if e["taskArn"] == arn), None)
            if found is not None:
                return found
            assert time.monotonic() < deadline, f"no event for {arn}"
            self.receive(wait_s=1)

    def receive(self, *, wait_s: int) -> list[dict[str, Any]]:
        """Take what is in the queue and return all events so far."""
        answer = self._sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=wait_s, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            event = json.loads(message["Body"])
            assert (event["source"], event["detail-type"]) == ("aws.ecs", "ECS Task State Change")
            self._received.append(event["detail"])
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return self._received
