"""The mix of requests by which the API is measured: one transaction each, nothing outside Postgres and Redis."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from bench.in_process import Platform
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.telemetry import Handler


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request. `body` and `headers` are made anew for each, so that no two are the same."""

    name: str
    handler: Handler
    method: str
    path: str
    caller: Caller
    status: int = 200
    body: Callable[[], Any] = lambda: None
    headers: Callable[[], dict[str, str]] = dict


def routes(platform: Platform) -> list[Route]:
    tenant, operator = platform.tenant, platform.operator
    agent, run = f"/v1/agents/{platform.agent_id}", f"/v1/runs/{platform.run_id}"
    org = ids.show("org", tenant.org_id)
    read = [
        ("agents", agent, "/v1/agents/{agent_id}"),
        ("agents", "/v1/agents", "/v1/agents"),
        ("runs", run, "/v1/runs/{run_id}"),
        ("runs", "/v1/runs", "/v1/runs"),
        ("runs", f"{run}/steps", "/v1/runs/{run_id}/steps"),
        ("orgs", f"/v1/orgs/{org}", "/v1/orgs/{org_id}"),
        ("api_keys", "/v1/api-keys", "/v1/api-keys"),
        ("sandboxes", "/v1/sandboxes", "/v1/sandboxes"),
        ("memory", "/v1/memories", "/v1/memories"),
        ("billing", "/v1/credits", "/v1/credits"),
        ("billing", "/v1/credits/entries", "/v1/credits/entries"),
        ("usage", "/v1/usage", "/v1/usage"),
        ("audit", "/v1/audit-events", "/v1/audit-events"),
    ]
    return [
        *(Route(f"GET {shown}", _handler(area), "GET", path, tenant) for area, path, shown in read),
        Route("POST /v1/agents", _handler("agents"), "POST", "/v1/agents", tenant, 201, lambda: {"name": "Bench"}),
        Route(
            "POST /v1/agents, Idempotency-Key",
            _handler("agents"),
            "POST",
            "/v1/agents",
            tenant,
            201,
            lambda: {"name": "Bench"},
            lambda: {"Idempotency-Key": uuid4().hex},
        ),
        Route(
            "PATCH /v1/agents/{agent_id}",
            _handler("agents"),
            "PATCH",
            agent,
            tenant,
            body=lambda: {"name": f"Bench {uuid4().hex[:8]}"},
        ),
        Route(
            "POST /v1/api-keys", _handler("api_keys"), "POST", "/v1/api-keys", tenant, 201, lambda: {"name": "Bench"}
        ),
        Route(
            "POST /v1/credits/grants",
            _handler("billing"),
            "POST",
            "/v1/credits/grants",
            operator,
            201,
            lambda: {"amount_microusd": 1, "reason": "Bench", "org_id": org},
        ),
    ]


def _handler(area: str) -> Handler:
    handler: Handler = importlib.import_module(f"functions.api.{area}").handler
    return handler
