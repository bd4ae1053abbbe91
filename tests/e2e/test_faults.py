"""What may break while runs are under way. After each fault: one end, one effect of each tool call, balanced books."""

import contextlib
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from local.parts import POSTGRES, REDIS
from tests.e2e.deployed import Deployed
from tests.e2e.redelivery import Redelivery
from tests.e2e.tenant import Tenant
from tests.waiting import until

# Something that can be counted afterwards, and time to break something before its result is written down.
EFFECT = "exec echo effect >> log; sleep 2; echo told"
COUNT = "exec wc -l < log"
# How a step that comes too late or beside another one may decline.
DECLINED = {None, "RunEnded", "StepBusy", "Unavailable"}


@pytest.fixture(autouse=True)
def mended(home: Deployed) -> Iterator[None]:
    """Whatever a test broke and could not mend must not break the next one."""
    yield
    home.start_missing()


def assert_one_effect(tenant: Tenant, run_id: str) -> None:
    """Check that the command ran once and that the model was told its result."""
    first, second = tenant.results(run_id)
    assert first["stdout"] == "told\n"
    assert second["stdout"] == "1\n"


def test_every_step_delivered_twice_at_once_and_again_after_the_end_changes_nothing(
    home: Deployed, tenant: Tenant
) -> None:
    run_id = tenant.start_run("exec echo effect >> log; echo told", COUNT, "say done")
    with Redelivery(home, run_id) as redelivery:
        run = tenant.ended_run(run_id)
    functions = Counter(delivery.function for delivery in redelivery.delivered)
    assert functions == {
        "steps-prepare": 1, "steps-launch-sandbox": 1, "steps-think": 3, "steps-act": 2, "steps-finish": 1,
    }  # fmt: skip
    assert {delivery.error for delivery in redelivery.delivered} <= DECLINED
    assert (run["status"], run["output"]) == ("succeeded", {"text": "done"})
    assert_one_effect(tenant, run_id)
    events = tenant.events(run_id)

    late = [redelivery.deliver(delivery) for delivery in list(redelivery.delivered)]

    assert {delivery.error for delivery in late} <= DECLINED
    assert tenant.run(run_id) == run
    assert tenant.events(run_id) == events
    assert len(tenant.get("/v1/sandboxes")["data"]) == 1
    home.assert_ended_once(tenant, run_id)


def test_a_sandbox_killed_in_mid_command_fails_its_run_and_is_paid_until_then(home: Deployed, tenant: Tenant) -> None:
    run_id = tenant.start_run("exec echo effect >> log; sleep 27182")
    with Redelivery(home, run_id) as redelivery:
        home.wait_for_file(tenant, run_id, "log")
        jail = until(lambda: home.jail_with("27182"), "the jail in which the command runs")
        for process in (*jail.children(recursive=True), jail):
            # One that died with another is as dead as it should be.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        run = tenant.ended_run(run_id)
    assert (run["status"], run["end_reason"]) == ("failed", "sandbox_lost")
    assert run["failure"]["code"] == "sandbox_lost"
    sandbox = tenant.sandbox_of(run_id)
    assert sandbox is not None
    assert sandbox["status"] in {"failed", "stopped"}
    # Failing comes twice, too.
    assert {"steps-recover", "steps-fail"} <= {delivery.function for delivery in redelivery.delivered}
    home.assert_ended_once(tenant, run_id)


def test_postgres_killed_and_restarted_in_mid_run_costs_nothing_but_time(home: Deployed, tenant: Tenant) -> None:
    run_id = tenant.start_run(EFFECT, COUNT, "say done")
    home.wait_for_file(tenant, run_id, "log")
    home.kill(POSTGRES)
    answer = tenant.http.get(f"/v1/runs/{run_id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.json()["error"]["retryable"] is True
    home.start_missing()
    assert tenant.ended_run(run_id)["output"] == {"text": "done"}
    assert_one_effect(tenant, run_id)
    home.assert_ended_once(tenant, run_id)


def test_without_redis_a_run_goes_all_the_way_reads_are_answered_and_spending_waits(
    home: Deployed, tenant: Tenant
) -> None:
    agent = tenant.agent()
    run_id = tenant.start_run(EFFECT, COUNT, "say done", agent=agent)
    home.stop(REDIS)
    try:
        health = home.client().get("/v1/health")
        refused = tenant.http.post(f"/v1/agents/{agent}/runs", json={"input": "offline: say more"})
        made = tenant.http.post("/v1/agents", json={"name": "Made meanwhile"})
        run = tenant.ended_run(run_id)
    finally:
        home.start_missing()
    assert (health.status_code, health.json()["status"], health.json()["redis"]) == (200, "degraded", "down")
    # What spends credits must be counted; all else goes on.
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "rate_limiter_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert made.status_code == 201
    assert run["output"] == {"text": "done"}
    assert_one_effect(tenant, run_id)
    home.assert_ended_once(tenant, run_id)
    assert home.client().get("/v1/health").json()["status"] == "ok"
    until(
        lambda: tenant.http.post(f"/v1/agents/{agent}/runs", json={"input": "offline: say more"}).status_code == 202,
        "runs can be started again",
    )


def test_a_worker_killed_between_effect_and_checkpoint_is_replaced_and_the_effect_is_not_repeated(
    home: Deployed, tenant: Tenant
) -> None:
    acting = tenant.start_run(EFFECT, COUNT, "say done")
    home.wait_for_file(tenant, acting, "log")
    assert home.kill_workers("steps-act") > 0
    assert tenant.ended_run(acting)["output"] == {"text": "done"}
    assert_one_effect(tenant, acting)
    home.assert_ended_once(tenant, acting)


@pytest.mark.timeout(120)
def test_a_worker_killed_while_its_model_thinks_is_replaced_and_one_answer_is_paid(
    home: Deployed, tenant: Tenant
) -> None:
    thinking = tenant.start_run("delay 3000", "say done", agent=tenant.agent("memory.search"))
    # Claimed is the last that is written down before the model is asked.
    until(lambda: tenant.get(f"/v1/runs/{thinking}/steps")["data"], "the first step")
    assert home.kill_workers("steps-think") > 0
    run = tenant.ended_run(thinking, within_s=90)
    assert run["output"] == {"text": "done"}
    (step,) = tenant.get(f"/v1/runs/{thinking}/steps")["data"]
    assert step["attempts"] == 2
    assert run["cost_microusd"] == step["cost_microusd"]
    home.assert_ended_once(tenant, thinking)
