"""Every function that no HTTP request triggers, called with the payload that its trigger sends (`events/`)."""

import copy
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError

from functions import authorizer
from functions.deploy import migrate
from functions.queues import sandbox_stopped, start_runs
from functions.schedules import flush_usage, meter_storage, reap, relay_outbox
from functions.sockets import connect, default, disconnect
from functions.steps import act, fail, finish, launch_sandbox, prepare, recover, think
from shared.billing import service as billing
from shared.identity import service as identity
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.runs import service as runs
from shared.runs.model import RunEnded
from shared.sandboxes import service as sandboxes
from shared.sandboxes.model import StopReason
from tests.api_gateway import Context
from tests.http_server import listening
from tests.integration.runs.conftest import queued as queued
from tests.model_provider import Provider, forgotten, secrets_manager

EVENTS = Path(__file__).resolve().parents[3] / "events"
ROOT = EVENTS.parent

type Queued = Callable[..., UUID]


def captured(name: str) -> dict[str, Any]:
    """The payload in `events/<name>.json`."""
    found: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return found


def step(name: str, org: Caller, run_id: UUID) -> dict[str, Any]:
    """The payload of a state, for this run."""
    return captured(f"steps/{name}") | {"org_id": str(org.org_id), "run_id": str(run_id)}


def message(name: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The payload of a queue, its event's detail changed."""
    event = captured(f"queues/{name}")
    body = json.loads(event["Records"][0]["body"])
    change(body["detail"])
    event["Records"][0]["body"] = json.dumps(body)
    return event


def test_every_function_but_those_of_the_http_api_has_a_payload() -> None:
    triggers = [folder for folder in (ROOT / "functions").iterdir() if folder.is_dir() and folder.name != "__pycache__"]
    expected = {
        f"{folder.name}/{file.stem}" for folder in triggers for file in folder.glob("[!_]*.py") if folder.name != "api"
    }
    there = {file.relative_to(EVENTS).with_suffix("").as_posix() for file in EVENTS.rglob("*.json")}
    assert expected | {"authorizer/http", "authorizer/websocket", "api/request"} == {
        name for name in there if not name.startswith("schemas/")
    }
    for name in expected:
        assert callable(importlib.import_module(f"functions.{name.replace('/', '.')}").handler)


# --- authorizer --------------------------------------------------------------------------------------------------


def key_of(org: Caller) -> str:
    with db.tenant(org) as tx:
        return identity.create_key(tx, org, name="Captured", scopes=None, expires_at=None, metadata={})[1].text


def bearing(event: dict[str, Any], header: str, key: str) -> dict[str, Any]:
    changed = copy.deepcopy(event)
    changed["headers"][header] = f"Bearer {key}"
    if "multiValueHeaders" in changed:
        changed["multiValueHeaders"][header] = [f"Bearer {key}"]
    return changed


def test_the_http_apis_authorizer_admits_a_key_and_hands_its_tenant_on(org: Caller) -> None:
    answer = authorizer.handler(bearing(captured("authorizer/http"), "authorization", key_of(org)), Context())
    assert answer["isAuthorized"] is True
    assert Caller.from_context(answer["context"]).org_id == org.org_id


def test_the_http_apis_authorizer_admits_no_unknown_key(org: Caller) -> None:
    assert set(authorizer.handler(captured("authorizer/http"), Context())["context"]) == {"refusal", "refused_as"}


def test_the_websocket_apis_authorizer_answers_with_a_policy_for_the_connection(org: Caller) -> None:
    event = captured("authorizer/websocket")
    admitted = authorizer.websocket_handler(bearing(event, "Authorization", key_of(org)), Context())
    refused = authorizer.websocket_handler(event, Context())
    assert [answer["policyDocument"]["Statement"][0]["Effect"] for answer in (admitted, refused)] == ["Allow", "Deny"]
    assert admitted["policyDocument"]["Statement"][0]["Resource"] == event["methodArn"]
    assert admitted["context"]["org_id"] == str(org.org_id)


# --- sockets -----------------------------------------------------------------------------------------------------


def test_a_socket_connects_is_answered_and_disconnects() -> None:
    event = captured("sockets/default")
    answer = default.handler(event, Context())
    org_id = ids.show("org", UUID(event["requestContext"]["authorizer"]["org_id"]))
    assert json.loads(answer["body"]) == {"type": "pong", "org_id": org_id}
    assert connect.handler(captured("sockets/connect"), Context()) == {"statusCode": 200}
    assert disconnect.handler(captured("sockets/disconnect"), Context()) == {"statusCode": 200}


# --- steps -------------------------------------------------------------------------------------------------------


def test_the_steps_take_a_run_from_its_beginning_to_its_answer(org: Caller, provider: Provider, queued: Queued) -> None:
    run_id = queued("offline: say done")
    assert prepare.handler(step("prepare", org, run_id), Context()) == {"needs_sandbox": False, "step_no": 1}
    thought = think.handler(step("think", org, run_id), Context())
    assert thought == {"next": "finish", "calls": [], "step_no": 1, "next_step_no": 2}
    assert finish.handler(step("finish", org, run_id), Context()) == {"status": "succeeded"}


def test_a_tool_call_that_a_step_asked_for_is_executed(org: Caller, provider: Provider, queued: Queued) -> None:
    run_id = queued("Remember this.")
    prepare.handler(step("prepare", org, run_id), Context())
    tool_call = {"id": "call_1", "type": "function", "function": {"name": "unknown", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [tool_call]}
    provider.answers(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "runyard-offline",
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}],
            "usage": {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60},
        }
    )
    assert think.handler(step("think", org, run_id), Context())["calls"] == [0]
    assert act.handler(step("act", org, run_id), Context()) is None
    with db.tenant(org) as tx:
        call = runs.list_steps(tx, org, run_id)[0].calls[0]
    assert call.status == "failed"
    assert "unknown_tool" in str(call.result)


def test_a_run_fails_for_the_reason_that_step_functions_reports(org: Caller, queued: Queued) -> None:
    run_id = queued("Think for ever.")
    prepare.handler(step("prepare", org, run_id), Context())
    assert recover.handler(step("recover", org, run_id), Context()) == {"end_reason": "step_limit"}
    assert fail.handler(step("fail", org, run_id), Context()) == {"status": "failed"}
    with db.tenant(org) as tx:
        assert runs.get_run(tx, org, run_id).failure == "The agent took its 10 steps without coming to an end."


def test_a_run_that_has_ended_is_given_no_sandbox(org: Caller, queued: Queued) -> None:
    run_id = queued("Never mind.")
    runs.cancel_run(org, run_id)
    with pytest.raises(RunEnded):
        launch_sandbox.handler(step("launch_sandbox", org, run_id), Context())


# --- queues ------------------------------------------------------------------------------------------------------


def new_sandbox(org: Caller) -> UUID:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id="test", reason="to test with")
        return sandboxes.create(tx, org, ttl_s=60, metadata={}).id


def of_sandbox(org: Caller, sandbox_id: UUID) -> Callable[[dict[str, Any]], None]:
    def change(detail: dict[str, Any]) -> None:
        detail["startedBy"] = str(org.org_id)
        environment = detail["overrides"]["containerOverrides"][0]["environment"]
        next(item for item in environment if item["name"] == "SANDBOX_ID")["value"] = ids.show("sbx", sandbox_id)

    return change


def test_a_sandbox_whose_task_stopped_by_itself_is_lost(org: Caller) -> None:
    sandbox_id = new_sandbox(org)
    event = message("sandbox_stopped", of_sandbox(org, sandbox_id))
    assert sandbox_stopped.handler(event, Context()) == {"batchItemFailures": []}
    assert sandboxes.get(org, sandbox_id).reason is StopReason.LOST


def test_a_sandbox_that_was_stopped_on_request_stays_so(org: Caller) -> None:
    sandbox_id = new_sandbox(org)
    stopped = sandboxes.end(org, sandbox_id, reason=StopReason.REQUESTED)
    sandbox_stopped.handler(message("sandbox_stopped", of_sandbox(org, sandbox_id)), Context())
    assert sandboxes.get(org, sandbox_id) == stopped


def test_a_run_that_can_not_be_started_just_now_stays_in_its_queue(org: Caller, queued: Queued) -> None:
    """Nothing answers as Step Functions here."""
    run_id = queued("Start me.")

    def change(detail: dict[str, Any]) -> None:
        detail |= {"org_id": ids.show("org", org.org_id), "subject": ids.show("run", run_id)}

    with pytest.raises(BatchProcessingError, match="can't be reached"):
        start_runs.handler(message("start_runs", change), Context())


# --- schedules and deploys ---------------------------------------------------------------------------------------


def test_schedules_find_nothing_to_do_where_there_is_nothing(org: Caller) -> None:
    assert relay_outbox.handler(captured("schedules/relay_outbox"), Context()) == {"events": 0}
    nothing = {"letters": 0, "runs": 0, "sandboxes": 0, "holds": 0, "budgets": 0, "credits": 0, "keys": 0}
    assert reap.handler(captured("schedules/reap"), Context()) == nothing
    assert flush_usage.handler(captured("schedules/flush_usage"), Context()) == {"windows": 0, "days": 0, "today": 0}
    assert meter_storage.handler(captured("schedules/meter_storage"), Context()) == {"hours": 0}


def test_a_deploy_leaves_the_schema_at_its_newest_and_the_operators_key_admitted(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = identity.operator_key("")
    arn = f"arn:aws:secretsmanager:us-east-1:000000000000:secret:operator-{ids.new().hex}"
    newest = max(file.name[:4] for file in (ROOT / "migrations" / "versions").glob("[0-9]*.py"))
    with listening(secrets_manager({arn: key.text})) as url:
        monkeypatch.setenv("RUNYARD_OPERATOR_SECRET_ARN", arn)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
        with forgotten():
            assert migrate.handler(captured("deploy/migrate"), Context()) == {"revision": newest}
    assert identity.authenticate(f"Bearer {key.text}").role == "operator"
