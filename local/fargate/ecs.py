"""The emulator's ECS as the stand-in sees it: tasks that should run, what they run, and how their end is reported."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from local.settings import ACCOUNT, REGION

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import TaskTypeDef

_DESCRIBED_AT_ONCE = 100  # the API's limit
_DEFAULT_COMMAND = ("python", "-m", "sandbox")
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Task:
    """A task as recorded: its container's command and environment after overrides, and its size."""

    arn: str
    cluster_arn: str
    definition_arn: str
    container_name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    memory_bytes: int
    started_by: str | None

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def sandbox_id(self) -> str | None:
        return self.environment.get("SANDBOX_ID")


@dataclass(frozen=True, slots=True)
class RecordedStop:
    """What ECS says about a task that should not run any more. `known` is false when it has forgotten it."""

    known: bool
    reason: str


class Ecs:
    """Blocking calls; every method raises botocore's errors."""

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url
        self._definitions: dict[str, dict[str, Any]] = {}

    @cached_property
    def _client(self) -> "ECSClient":
        return boto3.client(
            "ecs",
            endpoint_url=self._endpoint_url,
            region_name=REGION,
            aws_access_key_id=ACCOUNT,
            aws_secret_access_key="local",  # noqa: S106 - the emulator checks none
            # The caller tries again by itself, in step with its polling.
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )

    def clusters(self) -> list[str]:
        """Return the ARNs of all clusters: a home's ECS has no other purpose than sandboxes."""
        pages = self._client.get_paginator("list_clusters").paginate()
        return [arn for page in pages for arn in page["clusterArns"]]

    def wanted(self, cluster_arns: list[str]) -> dict[str, str]:
        """Return the tasks that should be running, as task ARN -> cluster ARN."""
        paginator = self._client.get_paginator("list_tasks")
        return {
            task: cluster
            for cluster in cluster_arns
            for page in paginator.paginate(cluster=cluster, desiredStatus="RUNNING")
            for task in page["taskArns"]
        }

    def describe(self, tasks: dict[str, str]) -> list[Task]:
        """Return what these tasks (ARN -> cluster ARN) are; without those that are stopped or gone by now."""
        return [self._task(said) for said in self._described(tasks) if said["desiredStatus"] == "RUNNING"]

    def recorded_stop(self, task_arn: str, cluster_arn: str) -> RecordedStop | None:
        """Return why a task should stop, or None when it should not."""
        for said in self._described({task_arn: cluster_arn}):
            if said["desiredStatus"] == "RUNNING":
                return None
            return RecordedStop(known=True, reason=said.get("stoppedReason") or "Task stopped by user")
        return RecordedStop(known=False, reason="ECS does not know this task any more")

    def report_stopped(self, task_arn: str, cluster_arn: str, reason: str) -> None:
        """Record that a task has ended. StopTask is the only way: the emulator has no agent that could tell it."""
        errors = self._client.exceptions
        # Forgotten by an emulator that lost its state: nothing is left to record.
        with contextlib.suppress(errors.InvalidParameterException, errors.ClusterNotFoundException):
            self._client.stop_task(cluster=cluster_arn, task=task_arn, reason=reason)

    def _described(self, tasks: dict[str, str]) -> Iterator["TaskTypeDef"]:
        for cluster in set(tasks.values()):
            arns = [arn for arn, of in tasks.items() if of == cluster]
            for start in range(0, len(arns), _DESCRIBED_AT_ONCE):
                batch = arns[start : start + _DESCRIBED_AT_ONCE]
                try:
                    yield from self._client.describe_tasks(cluster=cluster, tasks=batch)["tasks"]
                except self._client.exceptions.ClusterNotFoundException:
                    break

    def _task(self, said: "TaskTypeDef") -> Task:
        definition = self._definition(said["taskDefinitionArn"])
        container = definition["containerDefinitions"][0]
        overrides = said.get("overrides", {}).get("containerOverrides", [])
        override: Any = next((o for o in overrides if o.get("name") == container["name"]), {})
        environment = [*container.get("environment", []), *override.get("environment", [])]
        command = [*container.get("entryPoint", []), *(override.get("command") or container.get("command", []))]
        memory_mib = int(override.get("memory") or definition.get("memory") or container.get("memory") or 512)
        return Task(
            arn=said["taskArn"],
            cluster_arn=said["clusterArn"],
            definition_arn=said["taskDefinitionArn"],
            container_name=container["name"],
            command=tuple(command) or _DEFAULT_COMMAND,
            environment={pair["name"]: pair["value"] for pair in environment},
            memory_bytes=memory_mib * _MIB,
            started_by=said.get("startedBy"),
        )

    def _definition(self, arn: str) -> dict[str, Any]:
        """Return a task definition; a revision never changes, except in an emulator that started afresh."""
        if arn not in self._definitions:
            said = self._client.describe_task_definition(taskDefinition=arn)
            self._definitions[arn] = dict(said["taskDefinition"])
        return self._definitions[arn]

    def forget_definitions(self) -> None:
        """Read definitions again: the emulator was away, and revisions may have been given anew."""
        self._definitions.clear()
