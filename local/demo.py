"""The main job, over the public HTTP API: an org, a key, an agent, a run followed live, and what came of it."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import httpx
from rich.table import Table

from local import aws
from local.errors import HomeError
from local.event_stream import Event, follow
from local.settings import Home
from local.terminal import Terminal

DEFAULT_TASK: Final = (
    "Write a Python program that prints the first twenty primes and their sum, run it in the sandbox, tell me the "
    "result, and remember it."
)
_RUN_WITHIN_S: Final = 600.0
_WIDEST: Final = 110


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ended run as the API tells it, and how many events led there."""

    run: dict[str, Any]
    events: int

    @property
    def succeeded(self) -> bool:
        return bool(self.run["status"] == "succeeded")

    @property
    def seconds(self) -> float:
        """From the request to the end: waiting for a sandbox counts."""
        ended = datetime.fromisoformat(self.run["ended_at"])
        return (ended - datetime.fromisoformat(self.run["created_at"])).total_seconds()


class Api:
    """The public API with one key; every refusal becomes a `HomeError` that shows the API's own message."""

    def __init__(self, client: httpx.Client, key: str) -> None:
        self._client = client
        client.headers["Authorization"] = f"Bearer {key}"
        self.key = key

    def get(self, path: str) -> dict[str, Any]:
        return self._json("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._json("POST", path, body)

    def _json(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Idempotency-Key": str(uuid4())} if method == "POST" else {}
        answer = self._client.request(method, path, json=body, headers=headers)
        if answer.is_error:
            raise HomeError(f"{method} {path} answered {answer.status_code}: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found


def run_demo(home: Home, terminal: Terminal, *, task: str | None) -> int:
    """Do the main job and return the exit status. The last line printed is for machines and stays as it is."""
    began = time.monotonic()
    try:
        with httpx.Client(base_url=home.public_url, timeout=60, trust_env=False) as client:
            outcome = _do(home, client, terminal, task or DEFAULT_TASK)
    except (HomeError, httpx.HTTPError) as error:
        message = error.message if isinstance(error, HomeError) else f"{type(error).__name__}: {error}"
        terminal.fail(message, error.hint if isinstance(error, HomeError) else "")
        terminal.say(f"demo: failed after {time.monotonic() - began:.1f} s")
        return 1
    cost = outcome.run["cost_microusd"]
    if not outcome.succeeded:
        reason = outcome.run.get("end_reason") or outcome.run["status"]
        terminal.say(
            f"demo: failed ({reason}) in {outcome.seconds:.1f} s, cost {cost} microusd, {outcome.events} events"
        )
        return 1
    terminal.say(f"demo: succeeded in {outcome.seconds:.1f} s, cost {cost} microusd, {outcome.events} events")
    return 0


def _do(home: Home, client: httpx.Client, terminal: Terminal, task: str) -> Outcome:
    _introduce(home, terminal, task)
    operator = Api(client, aws.operator_key(home))
    suffix = uuid4().hex[:6]
    created = operator.post("/v1/orgs", {"name": f"Demo {suffix}", "slug": f"demo-{suffix}"})
    api = Api(client, created["api_key"]["secret"])
    terminal.say(f"org    {created['org']['id']}  with a first API key")
    agent = api.post("/v1/agents", {"name": "Demo agent"})
    terminal.say(f"agent  {agent['id']}")
    run = api.post(f"/v1/agents/{agent['id']}/runs", {"input": task})
    terminal.say(f"run    {run['id']}")
    outcome = _watch(api, client, run["id"], terminal)
    _show_answer(outcome.run, terminal)
    _show_steps(api.get(f"/v1/runs/{run['id']}/steps")["data"], terminal)
    _show_cost(outcome.run, terminal)
    if outcome.succeeded:
        _show_memory(api, task, terminal)
        _show_next(home, api, agent["id"], run["id"], terminal)
    return outcome


def _introduce(home: Home, terminal: Terminal, task: str) -> None:
    provider = home.provider
    if provider.is_scripted:
        terminal.say(
            f"model  {provider.chat_model}: a scripted stand-in, not a real model. It plays the same scene whatever it "
            "is asked; set OPENAI_API_KEY for a real one."
        )
    else:
        terminal.say(f"model  {provider.chat_model} at {provider.base_url}")
    terminal.say(f"task   {task}")


def _watch(api: Api, client: httpx.Client, run_id: str, terminal: Terminal) -> Outcome:
    """Show the run's events as they happen and return how it ended."""
    terminal.heading("events")
    began = time.monotonic()
    count = 0
    for event in follow(client, run_id, timeout_s=_RUN_WITHIN_S):
        count += 1
        terminal.say(f"{time.monotonic() - began:6.1f} s  {event.name:<20}{_summary(event)}".rstrip())
    return Outcome(api.get(f"/v1/runs/{run_id}"), count)


def _summary(event: Event) -> str:
    """Return the part of the event a reader wants to see, on one line."""
    data = event.data
    match event.name:
        case "run.step.thought":
            calls = [f"calls {call['name']}({call['arguments']})" for call in data["calls"]]
            text = f"step {data['step_no']}: " + "; ".join(filter(None, [data["text"], *calls]))
        case "run.tool.completed":
            text = f"step {data['step_no']}: {data['name']} {data['status']}: {data['result']}"
        case "run.failed":
            text = str(data.get("failure") or data.get("end_reason"))
        case _:
            text = ""
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _show_answer(run: dict[str, Any], terminal: Terminal) -> None:
    terminal.heading("answer")
    output = run.get("output") or {}
    terminal.say(output.get("text") or f"(none: the run ended as {run['status']}, {run.get('end_reason')})")


def _show_steps(steps: list[dict[str, Any]], terminal: Terminal) -> None:
    terminal.heading("steps")
    table = Table(box=None, pad_edge=False)
    for title in ("step", "what", "ms", "microusd"):
        table.add_column(title, justify="left" if title == "what" else "right")
    for step in steps:
        table.add_row(str(step["step_no"]), "think", _number(step["latency_ms"]), _number(step["cost_microusd"]))
        for call in step["tool_calls"]:
            table.add_row("", f"  {call['name']}: {call['status']}", _number(call["latency_ms"]), "")
    terminal.console.print(table)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _show_cost(run: dict[str, Any], terminal: Terminal) -> None:
    cost = run["cost_microusd"]
    terminal.heading("cost")
    terminal.say(f"{cost:,} micro-dollars (${cost / 1_000_000:.6f}), charged to the org's credits")


def _show_memory(api: Api, task: str, terminal: Terminal) -> None:
    terminal.heading("memory")
    hits = api.post("/v1/memories/search", {"query": task, "k": 1})["data"]
    if not hits:
        terminal.say("(the agent saved nothing)")
    for hit in hits:
        terminal.say(f"{hit['memory']['id']}  {hit['memory']['content']}")


def _show_next(home: Home, api: Api, agent_id: str, run_id: str, terminal: Terminal) -> None:
    url = home.public_url
    get = 'curl -sw "\\n" -H "Authorization: Bearer $RUNYARD_API_KEY"'
    post = f"{get} -H 'Content-Type: application/json'"
    terminal.heading("what to try next")
    terminal.say(
        f"""\
export RUNYARD_API_KEY={api.key}
{get} {url}/v1/runs/{run_id}
{get} {url}/v1/runs/{run_id}/steps
{post} {url}/v1/memories/search -d '{{"query": "primes"}}'
{post} '{url}/v1/agents/{agent_id}/runs?wait=25' -d '{{"input": "Say hello."}}'
API docs: {url}/docs"""
    )
    terminal.say("")
