"""What the platform really publishes against the schemas in `events/schemas`, which others build on."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator

from shared.billing import service as billing
from shared.events import event_bridge, store
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.runs import machine
from shared.runs import service as runs
from shared.runs.model import ENDED, EndReason, RunStatus
from shared.sandboxes import program
from shared.sandboxes import service as sandboxes
from shared.sandboxes import store as sandbox_store
from shared.sandboxes.model import Registration, StopReason
from tests.integration.runs.conftest import queued as queued
from tests.integration.sandbox.conftest import machine as machine_with_jails
from tests.integration.sandbox.machine import Machine
from tests.model_provider import Provider

SCHEMAS = Path(__file__).resolve().parents[3] / "events" / "schemas"
TYPES = {file.stem for file in SCHEMAS.glob("*.json")}

type Queued = Callable[..., UUID]
jails = machine_with_jails


def schema(event_type: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{event_type}.json").read_text())
    return found


def published(caller: Caller) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every event of the tenant's outbox as (detail-type, detail), as the bus is given it."""
    with db.tenant(caller) as tx:
        events = store.unsent(tx, limit=100)
    for event in events:
        yield event.type, json.loads(json.dumps(event_bridge._detail(event)))


def valid_types(caller: Caller) -> list[str]:
    """The types of the tenant's events, each of which fits its schema."""
    found = list(published(caller))
    for event_type, detail in found:
        Draft202012Validator(schema(event_type)).validate(detail)
        assert detail["org_id"] == ids.show("org", caller.org_id)
    return [event_type for event_type, _ in found]


@pytest.mark.parametrize("event_type", sorted(TYPES))
def test_a_schema_is_one_and_refuses_what_it_does_not_describe(event_type: str) -> None:
    Draft202012Validator.check_schema(schema(event_type))
    assert schema(event_type)["title"] == event_type
    assert not Draft202012Validator(schema(event_type)).is_valid({"id": "1", "data": {}})


def test_a_run_that_succeeds_publishes_its_request_and_its_end(org: Caller, provider: Provider, queued: Queued) -> None:
    run_id = queued("offline: say done")
    machine.prepare(org, run_id)
    assert machine.think(org, run_id, 1, worker="w") == []
    machine.finish(org, run_id)
    assert valid_types(org) == ["run.requested", "run.succeeded"]


@pytest.mark.parametrize(
    "reason", [each for each in EndReason if each not in (EndReason.COMPLETED, EndReason.CANCELLED_BY_USER)]
)
def test_a_run_that_fails_publishes_why(org: Caller, queued: Queued, reason: EndReason) -> None:
    run_id = queued("Fail.")
    machine.recover(org, run_id, reason=reason, failure="for a test")
    machine.fail(org, run_id)
    assert valid_types(org) == ["run.requested", "run.failed"]
    assert dict(published(org))["run.failed"]["data"]["end_reason"] == reason


def test_a_cancelled_run_publishes_that(org: Caller, queued: Queued) -> None:
    assert runs.cancel_run(org, queued("Never mind.")).status is RunStatus.CANCELLED
    assert valid_types(org) == ["run.requested", "run.cancelled"]


@pytest.mark.parametrize("reason", list(StopReason))
def test_a_sandbox_publishes_why_it_ended(org: Caller, reason: StopReason) -> None:
    sandboxes.end(org, new_sandbox(org), reason=reason)
    assert valid_types(org) == ["sandbox.ended"]


def test_a_sandbox_publishes_that_it_is_ready(org: Caller, jails: Machine) -> None:
    """The program in a real jail, registered by hand."""
    sandbox_id, registration = new_sandbox(org), Registration.generate()
    with db.tenant(org) as tx:
        sandbox_store.set_registration(tx, sandbox_id, registration.sha256)
    with jails.sandbox() as running:
        sandboxes.register(
            sandbox_id=sandbox_id,
            token=registration.token,
            address=str(running.client.base_url).rstrip("/"),
            access_token=running.client.headers["authorization"].removeprefix("Bearer "),
        )
        # The platform keeps its connection; the jail is about to go.
        program._pool().clear()
    assert valid_types(org) == ["sandbox.ready"]


def test_every_type_of_event_in_the_code_has_a_schema() -> None:
    code = "".join(file.read_text() for file in (SCHEMAS.parents[1] / "shared").rglob("*.py"))
    named = set(re.findall(r'event_type=f?"([^"]+)"', code))
    assert "run.{run.status}" in named
    ends = {f"run.{status}" for status in ENDED}
    assert (named - {"run.{run.status}"}) | ends == TYPES


def new_sandbox(org: Caller) -> UUID:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id="test", reason="to test with")
        return sandboxes.create(tx, org, ttl_s=60, metadata={}).id
