"""A run that ends while its sandbox is being made leaves no sandbox behind."""

import threading
from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.runs import machine
from shared.runs import service as runs
from shared.runs.model import RunEnded
from shared.sandboxes import service as sandboxes
from tests.http_server import listening
from tests.model_provider import Provider
from tests.services import Services

TASK = "arn:aws:ecs:us-east-1:000000000000:task/sandboxes/1"


def _aws(calls: list[str]) -> Starlette:
    """Answer RunTask, StopTask and SendTaskFailure as AWS does, and note the calls."""

    async def answer(request: Request) -> Response:
        calls.append(request.headers["x-amz-target"].rpartition(".")[2])
        return JSONResponse({"tasks": [{"taskArn": TASK}], "failures": []} if calls[-1] == "RunTask" else {})

    return Starlette(routes=[Route("/", answer, methods=["POST"])])


def test_a_run_cancelled_just_before_its_sandbox_is_made_stops_it_again(
    org: Caller,
    queued: Callable[..., UUID],
    provider: Provider,
    services: Services,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = queued("offline: say hello")
    calls: list[str] = []
    raised: list[type[BaseException]] = []

    def launch() -> None:
        try:
            machine.launch_sandbox(org, run_id, wake_token="token")
        except RunEnded as error:
            raised.append(type(error))

    with listening(_aws(calls)) as url, psycopg.connect(services.superuser_url(database)) as blocker:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", url)
        # Another row for the run, not committed: the launch gets past its check of the run and waits to insert.
        blocker.execute(
            "INSERT INTO sandboxes (id, org_id, run_id, template, cpu_units, memory_mib, status, expires_at)"
            " VALUES (%s, %s, %s, 'x', 1, 1, 'starting', now())",
            (ids.new(), org.org_id, run_id),
        )
        launching = threading.Thread(target=launch)
        launching.start()
        waiting = "SELECT FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        with psycopg.connect(services.superuser_url(database), autocommit=True) as observer:
            while observer.execute(waiting, (database,)).fetchone() is None:
                launching.join(0.01)
        runs.cancel_run(org, run_id)
        blocker.rollback()
        launching.join(30)
    assert raised == [RunEnded]
    assert calls[:2] == ["StopExecution", "RunTask"]
    assert "StopTask" in calls
    with db.tenant(org) as tx:
        sandbox = sandboxes.of_run(tx, run_id)
    assert sandbox is not None
    assert sandbox.ended
