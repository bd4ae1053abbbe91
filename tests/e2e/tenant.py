"""A customer of the deployed platform: an org with its first key, and the API over HTTP through the front door."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from local.event_stream import Event, parse
from tests.waiting import until

ENDS = {"run.succeeded", "run.failed", "run.cancelled"}


@dataclass(frozen=True, slots=True)
class Tenant:
    """An org. `http` carries its key; the methods fail on any answer that is not a success."""

    org_id: str
    key: str
    http: httpx.Client

    def get(self, url: str, **parameters: Any) -> Any:
        return success(self.http.get(url, params=parameters)).json()

    def post(self, path: str, body: dict[str, Any] | None = None, *, idempotency_key: str | None = None) -> Any:
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return success(self.http.post(path, json=body or {}, headers=headers)).json()

    def agent(self, *tools: str) -> str:
        """Return the id of a new agent; without tools named it has the default ones, sandbox included."""
        config = {"tools": list(tools)} if tools else {}
        return str(self.post("/v1/agents", {"name": "Agent", "config": config})["id"])

    def start_run(self, *lines: str, agent: str | None = None) -> str:
        """Start a run whose task are these lines, e.g. `exec ls` for the model to do, and return its id."""
        text = "\n".join(f"offline: {line}" for line in lines)
        return str(self.post(f"/v1/agents/{agent or self.agent()}/runs", {"input": text})["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/v1/runs/{run_id}")
        return found

    def ended_run(self, run_id: str, *, within_s: float = 60) -> dict[str, Any]:
        """Return the run once it has ended; while the database is down nobody can tell, and we ask again."""

        def look() -> dict[str, Any] | None:
            answer = self.http.get(f"/v1/runs/{run_id}")
            if answer.status_code == 503:
                return None
            run: dict[str, Any] = success(answer).json()
            return run if run["ended_at"] else None

        return until(look, f"the end of {run_id}", within_s=within_s)

    def results(self, run_id: str) -> list[dict[str, Any]]:
        """Return what each tool call of the run told the model, in order."""
        steps = self.get(f"/v1/runs/{run_id}/steps")["data"]
        return [json.loads(call["result"] or "null") for step in steps for call in step["tool_calls"]]

    def sandbox_of(self, run_id: str) -> dict[str, Any] | None:
        """Return the run's sandbox once it has one."""
        sandboxes = self.get("/v1/sandboxes", limit=100)["data"]
        return next((sandbox for sandbox in sandboxes if sandbox["run_id"] == run_id), None)

    def events(self, run_id: str, *, after: int = 0) -> list[Event]:
        """Return the events there are beyond number `after`; empty when the run has no more to tell."""
        answer = success(self.http.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": str(after)}))
        return [] if answer.status_code == 204 else list(parse(answer.text.splitlines()))

    def balance(self) -> dict[str, int]:
        found: dict[str, int] = self.get("/v1/credits")
        return found


def success(answer: httpx.Response) -> httpx.Response:
    assert answer.is_success, (
        f"{answer.request.method} {answer.request.url} answered {answer.status_code}: {answer.text}"
    )
    return answer
