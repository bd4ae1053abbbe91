"""Requests are counted in Postgres: each that was answered once, whatever becomes of Redis, and at no answer's cost."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import psycopg
import pytest
from fastapi import APIRouter, Depends

from functions.api.agents import handler as agents
from functions.api.identity import handler as identity
from functions.api.sandboxes import handler as sandboxes
from shared.identity.policy import Role
from shared.kernel import clock, counting, db, rates
from shared.kernel.caller import Caller
from shared.kernel.http import lambda_handler, require
from shared.kernel.rates import Rate, RateKind, Share
from tests.api_gateway import Answer
from tests.people import joined
from tests.services import Services

type Call = Callable[..., Answer]
type Counts = list[tuple[datetime, str, int]]
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def forgotten_breaker() -> Iterator[None]:
    """Each test starts and ends as a process that has had no trouble with Postgres."""
    counting._breaker.succeeded()
    yield
    counting._breaker.succeeded()


def counts(caller: Caller) -> Counts:
    """Return what was counted for the caller's tenant, by window and actor."""
    with db.tenant(caller) as tx:
        rows = tx.execute(
            "SELECT window_start, actor_id, sum(calls)::bigint AS calls FROM api_calls GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()
    return [(row["window_start"], row["actor_id"], row["calls"]) for row in rows]


def counted(caller: Caller) -> int:
    return sum(calls for _, _, calls in counts(caller))


@pytest.mark.parametrize(
    ("moment", "start"),
    [
        (NOON, NOON),
        (NOON + timedelta(minutes=4, seconds=59, microseconds=999_999), NOON),
        (NOON + timedelta(minutes=5), NOON + timedelta(minutes=5)),
        (NOON.replace(hour=0, minute=0) - timedelta(microseconds=1), NOON.replace(day=14, hour=23, minute=55)),
    ],
    ids=["its first moment", "its last moment", "the next one", "before midnight"],
)
def test_a_window_is_five_minutes_of_one_day(moment: datetime, start: datetime) -> None:
    assert counting.window_of(moment) == start


def test_an_answered_request_is_counted_once_for_its_actor_and_window(
    call: Call, org: Caller, rival: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = replace(org, actor_id="key_another")
    for minute, caller in ((0, org), (4, org), (4, another), (5, org)):
        monkeypatch.setattr(clock, "now", lambda minute=minute: NOON + timedelta(minutes=minute))
        assert call(agents, "GET", "/v1/agents", caller).status == 200
    later = NOON + timedelta(minutes=5)
    assert counts(org) == sorted([(NOON, org.actor_id, 2), (NOON, "key_another", 1), (later, org.actor_id, 1)])
    assert counts(rival) == []


def test_a_request_of_a_person_is_counted_as_theirs(call: Call, org: Caller) -> None:
    person = joined(org, Role.MEMBER)
    call(agents, "GET", "/v1/agents", person)
    with db.tenant(org) as tx:
        [row] = tx.execute("SELECT actor_id, person_id FROM api_calls")
    assert (row["actor_id"], row["person_id"]) == (person.actor_id, person.person_id)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/agents", {"name": "A"}, 201),
        ("POST", "/v1/agents", {"name": ""}, 400),
        ("GET", "/v1/agents/agent_01h455vb4pex5vsknk084sn02q", None, 404),
    ],
    ids=["made", "malformed", "not there"],
)
def test_whatever_is_answered_by_no_fault_of_ours_is_counted(
    call: Call, org: Caller, method: str, path: str, body: object, status: int
) -> None:
    assert call(agents, method, path, org, json=body).status == status
    assert counted(org) == 1


def test_what_a_scope_refuses_is_counted_and_what_a_rate_limit_refuses_costs_the_database_nothing(
    call: Call, org: Caller
) -> None:
    assert call(agents, "GET", "/v1/agents", replace(org, scopes=frozenset())).status == 403
    limited = replace(org, rates=rates.show({(Share.ORG, RateKind.READ): Rate(1, 1)}))
    assert [call(agents, "GET", "/v1/agents", limited).status for _ in range(2)] == [200, 429]
    assert counted(org) == 2


def test_a_fault_of_ours_is_not_counted(call: Call, org: Caller) -> None:
    router = APIRouter()

    @router.get("/v1/broken")
    def broken(caller: Annotated[Caller, Depends(require("agents:read"))]) -> None:
        raise RuntimeError

    assert call(lambda_handler(router), "GET", "/v1/broken", org).status == 500
    assert counted(org) == 0


def test_what_has_no_caller_is_not_counted(call: Call, org: Caller, superuser: Callable[..., int]) -> None:
    assert call(identity, "GET", "/v1/health").status == 200
    assert call(agents, "GET", "/v1/agents").status == 401
    assert call(sandboxes, "POST", "/v1/sandboxes/register", json={"token": "x" * 43}).status in (400, 401, 404)
    assert superuser() == 0


@pytest.fixture
def superuser(services: Services, database: str) -> Callable[[], int]:
    """`superuser()`: the requests counted for anybody."""

    def everybodys() -> int:
        with psycopg.connect(services.superuser_url(database)) as connection:
            row = connection.execute("SELECT coalesce(sum(calls), 0) FROM api_calls").fetchone()
        return int(row[0]) if row else -1

    return everybodys


def test_requests_of_many_clients_at_once_are_all_counted(call: Call, org: Caller) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call(agents, "GET", "/v1/agents", org).status, range(200)))
    assert answers == [200] * 200
    assert counted(org) == 200


def test_without_redis_no_request_goes_uncounted(call: Call, org: Caller, services: Services) -> None:
    services.redis.kill()
    assert call(agents, "GET", "/v1/agents", org).status == 200
    services.redis.start()
    assert counted(org) == 1


def test_a_request_whose_connection_was_cut_before_is_counted_once(
    call: Call, org: Caller, services: Services, database: str
) -> None:
    refused = replace(org, scopes=frozenset())
    for _ in range(3):
        call(agents, "GET", "/v1/agents", refused)
        with psycopg.connect(services.superuser_url(database), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    assert counted(org) == 3


def test_without_postgres_a_request_is_answered_and_its_loss_is_logged(
    call: Call, org: Caller, services: Services, logged: Callable[[], str]
) -> None:
    refused = replace(org, scopes=frozenset())
    call(agents, "GET", "/v1/agents", refused)
    services.postgres.stop()
    answers = [call(agents, "GET", "/v1/agents", refused).status for _ in range(3)]
    services.postgres.start()
    assert answers == [403] * 3
    assert logged().count("request not counted") >= 3
    # Only the first of them waited for it.
    assert logged().count("postgres was gone") >= 2
    counting._breaker.succeeded()
    call(agents, "GET", "/v1/agents", refused)
    assert counted(org) == 2


def test_a_counter_that_somebody_holds_keeps_no_request_from_its_answer(
    call: Call, org: Caller, services: Services, database: str, logged: Callable[[], str]
) -> None:
    with psycopg.connect(services.superuser_url(database)) as connection:
        connection.execute("LOCK TABLE api_calls")
        assert call(agents, "GET", "/v1/agents", org).status == 200
        assert "LockNotAvailable" in logged()
    assert call(agents, "GET", "/v1/agents", org).status == 200
    assert counted(org) == 1


def test_nothing_of_a_count_stays_on_its_connection(call: Call, org: Caller) -> None:
    for _ in range(3):
        call(agents, "GET", "/v1/agents", org)
    with db.anonymous() as tx:
        found = tx.execute(
            "SELECT current_setting('app.current_org_id') AS org, current_setting('synchronous_commit') AS waits,"
            " current_setting('lock_timeout') AS patience"
        ).fetchone()
    assert found == {"org": "", "waits": "on", "patience": "0"}
