"""A machine with real jails and a small front door, for tests of what runs in a sandbox and of what runs it."""

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from local.fargate.container import Container
from local.fargate.ecs import Task
from local.fargate.host import Host
from local.fargate.sandbox_environment import SandboxEnvironment, ensure_sandbox_environment
from local.settings import Home, read_home

CLUSTER = "arn:aws:ecs:us-east-1:000000000000:cluster/sandboxes"
MIB = 1024 * 1024


class FrontDoor:
    """An HTTP server with the platform's registration endpoint. `answers` are statuses to give before 200."""

    def __init__(self) -> None:
        self.answers: deque[int] = deque()
        self.attempts: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self._registered = threading.Condition()
        self._tokens_spent: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def registration(self, sandbox_id: str, within_s: float = 20) -> dict[str, Any]:
        """Wait for this sandbox's accepted registration and return it."""

        def found() -> dict[str, Any] | None:
            accepted = (a for a in self.attempts if a["sandbox_id"] == sandbox_id and a["status"] == 200)
            return next(accepted, None)

        with self._registered:
            assert self._registered.wait_for(found, within_s), f"{sandbox_id} has not registered"
            registration = found()
        assert registration is not None
        return registration

    def _register(self, body: dict[str, Any]) -> int:
        if self.answers:
            return self.answers.popleft()
        if body["registration_token"] in self._tokens_spent:
            return 401
        # As the platform does: a sandbox is ready when a first command has succeeded.
        first = httpx.post(
            f"{body['address']}/commands",
            headers={"Authorization": f"Bearer {body['access_token']}"},
            json={"id": "platform-check", "argv": ["true"]},
            timeout=10,
            trust_env=False,
        )
        if first.json()["exit_code"] != 0:
            return 500
        self._tokens_spent.add(body["registration_token"])
        return 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                front.requests.append(("GET", self.path))
                self._answer(200, {})

            def do_POST(self) -> None:
                front.requests.append(("POST", self.path))
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = front._register(body)
                self._answer(status, {"object": "sandbox_registration", "sandbox_id": body["sandbox_id"]})
                with front._registered:
                    front.attempts.append(body | {"status": status})
                    front._registered.notify_all()

            def _answer(self, status: int, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests are quiet."""

        return Handler


@dataclass(slots=True)
class RunningSandbox:
    """A sandbox in its jail: its program's client, and its container."""

    machine: "Machine"
    task: Task
    container: Container
    client: httpx.Client
    workspace: Path
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def run(self, **command: Any) -> dict[str, Any]:
        """Run a command and return its result; its id is new unless given."""
        answer = self.client.post("/commands", json={"id": f"cmd_{id(command)}_{len(command)}"} | command)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def shell(self, text: str, **more: Any) -> str:
        """Run a shell command that must succeed and return what it prints."""
        self.machine.commands += 1
        result = self.run(id=f"shell-{self.machine.commands}", shell=text, **more)
        assert result["exit_code"] == 0, result
        return str(result["stdout"])

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.machine.call_soon(self.container.terminate)
        return self.machine.wait(self.container.wait()).exit_code


class Machine:
    """A home whose stand-in is driven by hand: no emulator, but everything else is what `local.fargate` runs."""

    def __init__(self, folder: Path, environment: SandboxEnvironment | None = None) -> None:
        self.front = FrontDoor()
        self.home: Home = read_home({"RUNYARD_HOME": str(folder), "RUNYARD_FRONT_PORT": str(self.front.port)})
        self.home.run.mkdir(parents=True, exist_ok=True)
        self.commands = 0
        self._number = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.host = self.wait(self._prepared(environment or ensure_sandbox_environment(self.home)))

    async def _prepared(self, environment: SandboxEnvironment) -> Host:
        host = Host(self.home, environment)
        await host.prepare()
        return host

    def close(self) -> None:
        self.wait(self.host.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.front.close()

    def wait[T](self, work: Coroutine[Any, Any, T], timeout_s: float = 60) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def call_soon(self, function: Any) -> None:
        self._loop.call_soon_threadsafe(function)

    def task(self, *, memory_bytes: int = 512 * MIB, command: tuple[str, ...] = ("python", "-m", "sandbox")) -> Task:
        """Return a new task, as ECS would record it."""
        self._number += 1
        return Task(
            arn=f"{CLUSTER.replace('cluster', 'task')}/{self._number:032x}",
            cluster_arn=CLUSTER,
            definition_arn="arn:aws:ecs:us-east-1:000000000000:task-definition/sandbox:1",
            container_name="sandbox",
            command=command,
            environment={
                "SANDBOX_ID": f"sbx_{self._number}",
                "SANDBOX_REGISTRATION_TOKEN": f"registration-secret-{self._number}",
            },
            memory_bytes=memory_bytes,
            started_by=None,
        )

    @contextlib.contextmanager
    def container(self, task: Task) -> Iterator[Container]:
        """Run a task's container until the end of the block."""
        starting = self.host.container(task)
        container = self.wait(starting.__aenter__())
        try:
            yield container
        finally:
            self.wait(starting.__aexit__(None, None, None))

    @contextlib.contextmanager
    def sandbox(self, *, memory_bytes: int = 512 * MIB) -> Iterator[RunningSandbox]:
        """Run a registered sandbox until the end of the block."""
        task = self.task(memory_bytes=memory_bytes)
        with self.container(task) as container:
            registered = self.front.registration(str(task.sandbox_id))
            headers = {"Authorization": f"Bearer {registered['access_token']}"}
            with httpx.Client(base_url=registered["address"], headers=headers, timeout=60, trust_env=False) as client:
                workspace = self.home.state / "workspaces" / str(task.sandbox_id)
                yield RunningSandbox(self, task, container, client, workspace)
