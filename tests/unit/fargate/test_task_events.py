"""The event of a stopped task, as EventBridge would carry it."""

from datetime import UTC, datetime

from local.fargate.task_events import TaskStopped


def test_the_event_has_the_shape_that_ecs_gives_it() -> None:
    stopped = TaskStopped(
        "arn:task/1", "arn:cluster/c", "arn:definition:1", "sandbox", "sbx_1", "code", "why", 137, "org"
    )
    event = stopped.event(datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC))
    assert (event["source"], event["detail-type"], event["time"]) == (
        "aws.ecs",
        "ECS Task State Change",
        "2026-01-02T03:04:05Z",
    )
    assert event["resources"] == ["arn:task/1"]
    detail = event["detail"]
    assert detail["stoppedAt"] == "2026-01-02T03:04:05.678Z"
    assert detail["startedBy"] == "org"
    assert (detail["lastStatus"], detail["stopCode"], detail["stoppedReason"]) == ("STOPPED", "code", "why")
    assert detail["containers"] == [
        {"name": "sandbox", "lastStatus": "STOPPED", "taskArn": "arn:task/1", "exitCode": 137}
    ]


def test_a_container_that_never_started_has_no_exit_code() -> None:
    stopped = TaskStopped("arn:task/1", "arn:cluster/c", "arn:definition:1", "sandbox", None, "code", "why", None, None)
    detail = stopped.event(datetime.now(UTC))["detail"]
    assert "exitCode" not in detail["containers"][0]
    assert detail["overrides"]["containerOverrides"][0]["environment"] == []
