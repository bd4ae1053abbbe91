"""AggregateUsage on the real emulator, its functions deployed as small ones that ask this process for the answer."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from functions.steps import aggregate_org, conclude_aggregation, list_orgs
from infra_cdk.stacks.usage import DEFINITION
from tests.api_gateway import Context
from tests.emulator import Emulator
from tests.waiting import until

_HANDLERS = {
    "ListOrgs": list_orgs.handler,
    "AggregateOrg": aggregate_org.handler,
    "ConcludeAggregation": conclude_aggregation.handler,
}
_ROLE = "arn:aws:iam::000000000000:role/test"
_ASKING = """
import json, os, urllib.error, urllib.request

def handler(event, context):
    request = urllib.request.Request(os.environ["ANSWERED_BY"], json.dumps(event).encode())
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        told = json.load(error)
    raise type(told["error"], (Exception,), {})(told["message"])
"""


@dataclass
class Machine:
    """The deployed machine. `called` is what its functions were given, state by state, in the order of the calls."""

    emulator: Emulator
    arn: str = ""
    called: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    # What a test does before a function of this process answers.
    before: Callable[[str, dict[str, Any]], None] = lambda state, event: None
    context: Callable[[], Context] = Context

    def answer(self, state: str, event: dict[str, Any]) -> Any:
        self.called.append((state, event))
        self.before(state, event)
        return _HANDLERS[state](event, self.context())

    def run(self, asked: dict[str, Any] | None = None) -> dict[str, Any]:
        """Execute it to its end and return what Step Functions says of the execution."""
        states = self.emulator.client("stepfunctions")
        arn = states.start_execution(stateMachineArn=self.arn, input=json.dumps(asked or {}))["executionArn"]
        until(lambda: states.describe_execution(executionArn=arn)["status"] != "RUNNING", "its end", within_s=60)
        found: dict[str, Any] = states.describe_execution(executionArn=arn)
        return found

    def executions(self) -> list[str]:
        """Return the status of every execution so far."""
        listed = self.emulator.client("stepfunctions").list_executions(stateMachineArn=self.arn)["executions"]
        return [execution["status"] for execution in listed]

    def orgs_called(self) -> list[str]:
        return [event["org_id"] for state, event in self.called if state == "AggregateOrg"]


@contextmanager
def deployed(emulator: Emulator, name: str) -> Iterator[Machine]:
    """Deploy the machine's definition as it is, with functions that this process answers for."""
    machine = Machine(emulator)

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                status, told = 200, machine.answer(self.path.removeprefix("/"), event)
            except Exception as error:  # noqa: BLE001 - told to Step Functions, as Lambda does
                status, told = 500, {"error": type(error).__name__, "message": str(error)}
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is inherited
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        definition = DEFINITION.read_text()
        for state in _HANDLERS:
            arn = _function(
                emulator, f"{name}-{state}-{server.server_port}", f"http://127.0.0.1:{server.server_port}/{state}"
            )
            definition = definition.replace(f"${{{state}}}", arn)
        made = emulator.client("stepfunctions").create_state_machine(name=name, definition=definition, roleArn=_ROLE)
        machine.arn = made["stateMachineArn"]
        yield machine
    finally:
        server.shutdown()
        server.server_close()
        if machine.arn:
            emulator.client("stepfunctions").delete_state_machine(stateMachineArn=machine.arn)


def _function(emulator: Emulator, name: str, answered_by: str) -> str:
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as packed:
        packed.writestr("asking.py", _ASKING)
    made = emulator.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=_ROLE,
        Handler="asking.handler",
        Code={"ZipFile": code.getvalue()},
        Timeout=60,
        Environment={"Variables": {"ANSWERED_BY": answered_by}},
    )
    return str(made["FunctionArn"])
