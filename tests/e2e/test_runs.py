"""Runs over HTTP through the front door: started once, followed without a gap, cancelled at once, paid for exactly."""

import time

import httpx
import openai
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from local.event_stream import Event
from tests.e2e.deployed import Deployed, execution_arn
from tests.e2e.tenant import Tenant
from tests.waiting import until


def test_a_run_can_be_waited_for(home: Deployed, tenant: Tenant) -> None:
    agent = tenant.agent("memory.search")
    answer = tenant.http.post(f"/v1/agents/{agent}/runs", params={"wait": 25}, json={"input": "offline: say hello"})
    assert answer.status_code == 202
    run = answer.json()
    assert (run["status"], run["output"]) == ("succeeded", {"text": "hello"})
    home.assert_ended_once(tenant, run["id"])


def test_the_same_request_with_the_same_idempotency_key_starts_one_run(home: Deployed, tenant: Tenant) -> None:
    agent = tenant.agent("memory.search")

    def ask(text: str) -> httpx.Response:
        return tenant.http.post(
            f"/v1/agents/{agent}/runs", json={"input": f"offline: say {text}"}, headers={"Idempotency-Key": "once"}
        )

    first, again, other = ask("hello"), ask("hello"), ask("goodbye")
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    tenant.ended_run(first.json()["id"])
    assert [run["id"] for run in tenant.get("/v1/runs")["data"]] == [first.json()["id"]]


def test_a_stream_cut_after_every_event_loses_and_doubles_nothing(home: Deployed, tenant: Tenant) -> None:
    run_id = tenant.start_run("exec echo one", "exec echo two", "say done")
    seen: list[Event] = []

    def next_event() -> bool:
        """Take one event and hang up, whatever else the answer holds; tell when all have been seen."""
        last_id = seen[-1].id if seen else "0"
        answer = tenant.http.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": last_id})
        if answer.status_code == 204:
            return True
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen.extend(tenant.events(run_id, after=int(last_id))[:1])
        return False

    until(next_event, "the end of the events", within_s=40)
    assert [event.name for event in seen] == [
        "run.queued",
        "run.started",
        *["run.step.thought", "run.tool.completed"] * 2,
        "run.step.thought",
        "run.succeeded",
    ]
    assert seen == tenant.events(run_id)
    home.assert_ended_once(tenant, run_id)


def test_a_cancelled_run_stops_at_once_frees_its_sandbox_and_costs_no_more(home: Deployed, tenant: Tenant) -> None:
    run_id = tenant.start_run("exec echo begun > begun; sleep 31415; echo over > over")
    begun = home.wait_for_file(tenant, run_id, "begun")
    began = time.monotonic()
    cancelled = tenant.post(f"/v1/runs/{run_id}/cancel")
    assert time.monotonic() - began < 2
    assert (cancelled["status"], cancelled["end_reason"]) == ("cancelled", "cancelled_by_user")
    until(lambda: not sleeping("31415"), "the end of its command")
    until(lambda: (tenant.sandbox_of(run_id) or {}).get("status") == "stopped", "the end of its sandbox")
    until(lambda: execution_status(home, run_id) == "ABORTED", "the end of its execution")
    assert tenant.run(run_id) == cancelled
    assert tenant.post(f"/v1/runs/{run_id}/cancel") == cancelled
    assert not begun.with_name("over").exists()
    home.assert_ended_once(tenant, run_id)


def test_a_run_that_has_ended_cannot_be_cancelled(tenant: Tenant) -> None:
    run_id = tenant.start_run("say hello", agent=tenant.agent("memory.search"))
    tenant.ended_run(run_id)
    answer = tenant.http.post(f"/v1/runs/{run_id}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_state")


def test_the_openai_client_works_through_the_front_door(home: Deployed, tenant: Tenant) -> None:
    with openai.OpenAI(base_url=f"{home.home.public_url}/v1", api_key=tenant.key, max_retries=0) as client:
        answer = client.chat.completions.create(
            model="runyard-offline", messages=[{"role": "user", "content": "offline: say forty-two"}]
        )
        vectors = client.embeddings.create(model="runyard-offline-embed", input=["forty-two"])
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "forty-two"
    assert len(vectors.data[0].embedding) == 384
    assert tenant.balance()["settled_microusd"] > 0
    assert home.violations(tenant.org_id) == []


def test_a_websocket_answers_to_a_key_and_to_nothing_else(home: Deployed, tenant: Tenant) -> None:
    url = home.home.public_url.replace("http:", "ws:") + "/ws"
    with connect(url, additional_headers={"Authorization": f"Bearer {tenant.key}"}, proxy=None) as socket:
        socket.send('{"action": "ping"}')
        assert tenant.org_id in str(socket.recv(timeout=10))
    for headers in ({}, {"Authorization": "Bearer ry_live_nobody"}):
        with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers, proxy=None):
            pass
        assert refused.value.response.status_code in {401, 403}


def sleeping(seconds: str) -> list[psutil.Process]:
    """Return the processes of this machine that are this very `sleep`."""
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", seconds]]


def execution_status(home: Deployed, run_id: str) -> str:
    found = home.aws("stepfunctions").describe_execution(executionArn=execution_arn(home, run_id))
    return str(found["status"])
