"""A sandbox's life and what it is paid for; which addresses the platform will call."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.kernel import ids
from shared.kernel.errors import InvalidRequest, InvalidTransition
from shared.sandboxes.model import (
    Sandbox,
    SandboxLost,
    SandboxNotReady,
    SandboxStatus,
    StopReason,
    program_address,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STARTING = Sandbox(
    created_by_user=None,
    created_by_actor=None,
    agent_id=None,
    id=ids.new(),
    run_id=None,
    template="python",
    cpu_units=256,
    memory_mib=512,
    status=SandboxStatus.STARTING,
    reason=None,
    task_arn=None,
    address=None,
    access_token=None,
    wake_token=None,
    cost_microusd=0,
    metadata={},
    created_at=NOW,
    ready_at=None,
    stopped_at=None,
    expires_at=NOW + timedelta(seconds=900),
)
READY = STARTING.registered(address="http://10.0.0.1:7100", access_token="a").ready(NOW)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_sandbox_that_was_never_ready_costs_nothing() -> None:
    assert STARTING.end(StopReason.START_FAILED, after(50)).billable_s(after(60)) == 0


@pytest.mark.parametrize(("seconds", "billed"), [(0, 0), (0.001, 1), (1, 1), (59.5, 60), (900, 900), (5_000, 900)])
def test_begun_seconds_count_and_none_beyond_the_ttl(seconds: float, billed: int) -> None:
    assert READY.end(StopReason.REQUESTED, after(seconds)).billable_s(after(9_999)) == billed


def test_ending_again_changes_nothing() -> None:
    ended = READY.end(StopReason.REQUESTED, after(5))
    assert ended.end(StopReason.LOST, after(9)) == ended


def test_a_token_registers_once_but_may_be_repeated() -> None:
    registered = STARTING.registered(address="http://10.0.0.1:7100", access_token="a")
    assert registered.registered(address="http://10.0.0.1:7100", access_token="a") == registered
    with pytest.raises(InvalidTransition):
        registered.registered(address="http://10.0.0.2:7100", access_token="b")


def test_an_ended_sandbox_does_not_become_ready() -> None:
    ended = STARTING.end(StopReason.REQUESTED, NOW)
    with pytest.raises(InvalidTransition):
        ended.ready(NOW)
    with pytest.raises(InvalidTransition):
        ended.registered(address="http://10.0.0.1:7100", access_token="a")


def test_commands_need_a_ready_sandbox() -> None:
    assert READY.reachable() == ("http://10.0.0.1:7100", "a")
    for other in (STARTING, READY.end(StopReason.REQUESTED, NOW)):
        with pytest.raises(SandboxNotReady):
            other.reachable()
    with pytest.raises(SandboxLost):
        READY.end(StopReason.LOST, NOW).reachable()


def test_the_shown_state_of_a_lost_sandbox_is_failed() -> None:
    assert READY.end(StopReason.LOST, NOW).status is SandboxStatus.FAILED
    assert replace(READY).status is SandboxStatus.READY


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://169.254.169.254:7100",
        "http://169.254.170.2:7100",
        "http://8.8.8.8:7100",
        "http://10.0.0.1:80",
        "http://10.0.0.1",
        "https://10.0.0.1:7100",
        "http://localhost:7100",
        "http://10.0.0.1:7100/path",
        "http://10.0.0.1:7100?x=1",
        "http://user@10.0.0.1:7100",
        "http://[::1]:7100",
        "http://0.0.0.0:7100",
        "http://10.0.0.1:99999",
        "file:///etc/passwd",
    ],
)
def test_the_platform_calls_no_other_address_than_a_tasks(address: str) -> None:
    with pytest.raises(InvalidRequest):
        program_address(address)


@pytest.mark.parametrize("address", ["http://10.0.3.7:7100", "http://127.77.0.5:7100", "http://172.31.9.9:7100"])
def test_a_tasks_address_is_accepted(address: str) -> None:
    assert program_address(address) == address
