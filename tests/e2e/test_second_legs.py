"""What goes on when the first leg was lost: events relayed by a schedule, runs started from the bus, logs to see it."""

import json
from uuid import UUID

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.runs import service as runs
from tests.e2e.deployed import Deployed, execution_arn, functions_environment, uuid_of
from tests.e2e.tenant import success
from tests.waiting import until


def test_a_run_that_was_committed_and_never_started_is_started_by_the_relay(home: Deployed) -> None:
    tenant = home.tenant()
    caller = Caller.system(ids.read("org", tenant.org_id))
    agent_id: UUID = ids.read("agent", tenant.agent("memory.save"))
    with functions_environment(home.home), db.tenant(caller) as tx:
        run = runs.create_run(
            tx, caller, agent_id=agent_id, text="offline: say hello", budget_microusd=None, timeout_s=None, metadata={}
        )
    # All that is left of a request whose function died after its commit. Each minute the schedule does this:
    answer = home.aws("lambda").invoke(FunctionName="runyard-local-schedules-relay-outbox", Payload=b"{}")
    assert json.loads(answer["Payload"].read())["events"] >= 1
    ended = tenant.ended_run(ids.show("run", run.id))
    assert (ended["status"], ended["output"]["text"]) == ("succeeded", "hello")
    home.assert_ended_once(tenant, ended["id"])


def test_a_run_that_nothing_drives_any_more_is_ended_by_the_reaper(home: Deployed) -> None:
    tenant = home.tenant()
    run_id = tenant.start_run("exec sleep 60")
    until(lambda: tenant.get(f"/v1/runs/{run_id}/steps")["data"], "the run's first step")
    home.aws("stepfunctions").stop_execution(executionArn=execution_arn(home, run_id))
    _reap(home)
    assert tenant.run(run_id)["ended_at"] is None, "only what has made no progress for long is ended"
    home.rows("UPDATE runs SET progressed_at = now() - interval '1 day' WHERE id = %s RETURNING 1", uuid_of(run_id))
    assert _reap(home)["runs"] == 1
    ended = tenant.ended_run(run_id)
    assert (ended["status"], ended["end_reason"]) == ("failed", "internal")
    home.assert_ended_once(tenant, run_id)


def test_a_sandbox_past_its_time_is_stopped_by_the_reaper(home: Deployed) -> None:
    tenant = home.tenant()
    sandbox = success(tenant.http.post("/v1/sandboxes?wait=25", json={"ttl_s": 60})).json()
    assert sandbox["status"] == "ready"
    statement = "UPDATE sandboxes SET expires_at = now() - interval '1 second' WHERE id = %s RETURNING 1"
    home.rows(statement, uuid_of(sandbox["id"]))
    assert _reap(home)["sandboxes"] >= 1
    stopped = tenant.get(f"/v1/sandboxes/{sandbox['id']}")
    assert (stopped["status"], stopped["reason"]) == ("stopped", "ttl")
    assert tenant.balance()["held_microusd"] == 0


def _reap(home: Deployed) -> dict[str, int]:
    answer = home.aws("lambda").invoke(FunctionName="runyard-local-schedules-reap", Payload=b"{}")
    assert "FunctionError" not in answer
    done: dict[str, int] = json.loads(answer["Payload"].read())
    return done


def test_an_event_that_was_sent_is_marked_as_sent(home: Deployed) -> None:
    tenant = home.tenant()
    run = tenant.ended_run(tenant.start_run("say hello", agent=tenant.agent("memory.save")))
    statement = "SELECT type FROM outbox WHERE subject = %s AND sent_at IS NULL"
    until(lambda: not home.rows(statement, run["id"]), "the relay of the run's events")


def test_the_functions_logs_are_shown_each_line_with_its_function(home: Deployed) -> None:
    tenant = home.tenant()
    tenant.ended_run(tenant.start_run("say hello", agent=tenant.agent("memory.save")))
    shown = home.command("logs", "functions", "-n", "400")
    assert shown.returncode == 0, shown.stderr
    assert any(line.startswith("steps-think ") and '"done"' in line for line in shown.stdout.splitlines())
    assert tenant.key not in shown.stdout
