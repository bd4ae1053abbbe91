"""What goes on when the first leg was lost: events relayed by a schedule, runs started from the bus, logs to see it."""

import json
from uuid import UUID

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.runs import service as runs
from tests.e2e.deployed import Deployed, functions_environment
from tests.e2e.waiting import until


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


def test_the_reaper_finds_nothing_left_over_by_the_tests_before(home: Deployed) -> None:
    answer = home.aws("lambda").invoke(FunctionName="runyard-local-schedules-reap", Payload=b"{}")
    assert "FunctionError" not in answer
    assert set(json.loads(answer["Payload"].read())) == {"runs", "sandboxes", "holds", "keys"}


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
