"""Generated from the OpenAPI document: whatever a route changes is in the audit trail, without its secrets."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from shared.audit import service as audit
from shared.audit.redaction import is_secret
from shared.kernel import aws, db, settings
from shared.kernel.caller import Caller
from shared.kernel.telemetry import Handler
from shared.sandboxes import model as sandbox_model
from tests.api_gateway import Answer
from tests.emulator import Emulator
from tests.integration.people.somebody import OTHER_PASSWORD, PASSWORD
from tests.model_provider import Provider
from tests.security.mutations import AUDITED, EXEMPT, PROVIDER_KEY, World, elsewhere
from tests.security.requests import routes
from tests.services import Services

type Trail = Callable[[], list[dict[str, Any]]]
_MUTATING = {"POST", "PUT", "PATCH", "DELETE"}
_COLUMNS = "id, org_id, actor, action, resource_type, resource_id, old, new, request_id"


@pytest.fixture
def trail(services: Services, database: str) -> Trail:
    """`trail()`: every tenant's events in the order of their writing."""

    def read() -> list[dict[str, Any]]:
        with psycopg.connect(services.superuser_url(database), row_factory=dict_row) as connection:
            return connection.execute(f"SELECT {_COLUMNS} FROM audit_events ORDER BY id").fetchall()

    return read


class Watched:
    """Calls handlers, and remembers what was last called and which events there were before."""

    def __init__(self, call: Callable[..., Answer], trail: Trail) -> None:
        self._call, self._trail = call, trail
        self.asked = ""
        self.before: set[UUID] = set()

    def __call__(self, handler: Handler, method: str, path: str, *rest: Any, **named: Any) -> Answer:
        self.asked = f"{method} {path}"
        self.before = {event["id"] for event in self._trail()}
        return self._call(handler, method, path, *rest, **named)


@pytest.fixture
def watched(call: Callable[..., Answer], trail: Trail) -> Watched:
    return Watched(call, trail)


@pytest.fixture
def world(
    watched: Watched,
    org: Caller,
    operator: Caller,
    emulator: Emulator,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """A tenant, and all that lies beyond the database on loopback."""
    with elsewhere() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", url)
        monkeypatch.setattr(sandbox_model, "PROGRAM_PORT", urlsplit(url).port)
        settings.forget()
        aws.client.cache_clear()
        yield World(watched, org, operator, emulator, url)
    aws.client.cache_clear()


def test_every_route_that_changes_something_is_written_down_or_says_why_not() -> None:
    mutating = {str(route) for route in routes() if route.method in _MUTATING}
    assert mutating - AUDITED.keys() - EXEMPT.keys() == set(), "add it to tests/security/mutations.py"
    assert AUDITED.keys() | EXEMPT.keys() == mutating
    assert AUDITED.keys() & EXEMPT.keys() == set()
    assert all(EXEMPT.values())


@pytest.mark.parametrize("route", AUDITED)
def test_a_route_leaves_its_action_in_the_trail_and_no_secret(
    route: str, world: World, watched: Watched, trail: Trail
) -> None:
    audited = AUDITED[route]
    answer = audited.request(world)
    assert 200 <= answer.status < 300, answer.text
    assert re.fullmatch(re.sub(r"{\w+}", "[^/]+", route), watched.asked), "the route itself is to be called last"

    events = trail()
    left = [event for event in events if event["id"] not in watched.before]
    event = next((each for each in left if each["action"] == audited.action), None)
    assert event is not None, [each["action"] for each in left]
    assert event["resource_type"]
    assert event["resource_id"]
    # Its actor and the request can be found again, but for the program in a sandbox, which is nobody.
    assert event["actor"] == "system" or (event["actor"][:4] in ("user", "key_") and event["request_id"])

    written = repr(events)
    for secret in (PASSWORD, OTHER_PASSWORD, PROVIDER_KEY, *_secrets(answer.json if answer.text else None)):
        assert secret not in written
    for org_id in {each["org_id"] for each in events}:
        with db.tenant(Caller.system(org_id)) as tx:
            assert audit.verify(tx).faults == ()


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    """Every text in an answer that goes by the name of a secret."""
    match value:
        case dict():
            for inner_name, inner in value.items():
                yield from _secrets(inner, inner_name)
        case list():
            for inner in value:
                yield from _secrets(inner, name)
        case str() if is_secret(name) and name != "token_type":
            yield value
        case _:
            pass
