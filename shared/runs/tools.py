"""The built-in tools: what a model is offered, and how each call is executed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.errors import RunyardError
from shared.memory import service as memory
from shared.runs.model import Run, StepBusy, ToolCall
from shared.sandboxes import service as sandboxes
from shared.sandboxes.model import MAX_WAIT_S, CommandRequest, Sandbox, SandboxLost

# A step's function runs longer than this.
MODEL_TIMEOUT_S = 100
# What a model is shown of a tool's output, in characters: the middle of more is left out.
_SHOWN = 16_000


@dataclass(frozen=True, slots=True)
class Context:
    """Within what a call is executed: its run, the tools allowed, its id in all ledgers, what it may cost."""

    run: Run
    allowed: tuple[str, ...]
    source_id: str
    budget_microusd: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model is told; `status` is succeeded or failed."""

    status: str
    result: str


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Execute(_Arguments):
    shell: str = Field(min_length=1, max_length=65536, description="A command line for sh, run in /workspace.")
    timeout_s: int = Field(60, ge=1, le=900, description="Seconds after which it is stopped.")


class WriteFile(_Arguments):
    path: str = Field(min_length=1, max_length=4096, description="Below /workspace.")
    content: str = Field(max_length=1_000_000)


class ReadFile(_Arguments):
    path: str = Field(min_length=1, max_length=4096, description="Below /workspace.")


class ListFiles(_Arguments):
    path: str = Field("/workspace", max_length=4096)


class SaveMemory(_Arguments):
    content: str = Field(min_length=1, max_length=20_000, description="One fact worth knowing in later runs.")
    importance: float = Field(0.5, ge=0, le=1)


class SearchMemory(_Arguments):
    query: str = Field(min_length=1, max_length=2_000)
    k: int = Field(5, ge=1, le=20, description="How many at most.")


def _execute(caller: Caller, arguments: Execute, context: Context) -> dict[str, Any]:
    request = CommandRequest(shell=arguments.shell, timeout_s=arguments.timeout_s)
    command = sandboxes.execute(
        caller, _sandbox(caller, context).id, request=request, source_id=context.source_id, wait_s=MAX_WAIT_S
    )
    if not command.ended:
        # The state machine comes back for it; the command runs on and is joined, not started again.
        raise StepBusy("The command still runs.")
    return {
        "status": command.status,
        "exit_code": command.exit_code,
        "stdout": _middle_out(command.stdout),
        "stderr": _middle_out(command.stderr),
    }


def _write_file(caller: Caller, arguments: WriteFile, context: Context) -> dict[str, Any]:
    sandbox = _sandbox(caller, context)
    return sandboxes.write_file(caller, sandbox.id, path=arguments.path, content=arguments.content.encode())


def _read_file(caller: Caller, arguments: ReadFile, context: Context) -> dict[str, Any]:
    content = sandboxes.read_file(caller, _sandbox(caller, context).id, path=arguments.path)
    return {"content": _middle_out(content.decode(errors="replace"))}


def _list_files(caller: Caller, arguments: ListFiles, context: Context) -> dict[str, Any]:
    return {"files": sandboxes.list_files(caller, _sandbox(caller, context).id, path=arguments.path)[:500]}


def _save_memory(caller: Caller, arguments: SaveMemory, context: Context) -> dict[str, Any]:
    saved = memory.save(
        caller,
        content=arguments.content,
        importance=arguments.importance,
        subject=_subject(context),
        source_id=context.source_id,
        max_cost_microusd=context.budget_microusd,
        on_behalf_of=context.run.created_by_user,
    )
    return {"saved": saved.content}


def _search_memory(caller: Caller, arguments: SearchMemory, context: Context) -> dict[str, Any]:
    hits = memory.search(
        caller,
        query=arguments.query,
        subject=_subject(context),
        k=arguments.k,
        source_id=context.source_id,
        max_cost_microusd=context.budget_microusd,
    )
    return {"memories": [hit.memory.content for hit in hits]}


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    arguments: type[_Arguments]
    execute: Callable[[Caller, Any, Context], dict[str, Any]]

    @property
    def wire_name(self) -> str:
        # Providers allow letters, digits, _ and - only.
        return self.name.replace(".", "_")


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("sandbox.exec", "Run a shell command in the sandbox and return its output.", Execute, _execute),
        Tool("sandbox.write_file", "Write a text file in the sandbox.", WriteFile, _write_file),
        Tool("sandbox.read_file", "Read a text file from the sandbox.", ReadFile, _read_file),
        Tool("sandbox.list_files", "List a folder of the sandbox.", ListFiles, _list_files),
        Tool("memory.save", "Remember one fact for later runs of this agent.", SaveMemory, _save_memory),
        Tool("memory.search", "Search what this agent remembers.", SearchMemory, _search_memory),
    )
}
_BY_WIRE_NAME = {tool.wire_name: tool.name for tool in TOOLS.values()}


def offered(allowed: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the allowed tools in OpenAI's format."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.wire_name,
                "description": tool.description,
                "parameters": tool.arguments.model_json_schema(),
            },
        }
        for tool in (TOOLS[name] for name in allowed)
    ]


def name_of(wire_name: str) -> str:
    """Return the tool's name for the one a model used; unknown ones as they are."""
    return _BY_WIRE_NAME.get(wire_name, wire_name)


def execute(caller: Caller, call: ToolCall, context: Context) -> Outcome:
    """Execute a call and return what the model is told.

    Raises `StepBusy` while the tool still runs, `SandboxLost`, and whatever may pass when tried again.
    """
    tool = TOOLS.get(call.name)
    if tool is None or call.name not in context.allowed:
        return _failed("unknown_tool", f"There is no tool {call.name[:100]}.")
    try:
        arguments = tool.arguments.model_validate_json(call.arguments or "{}")
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:5]]
        return _failed("invalid_arguments", "; ".join(faults))
    try:
        return Outcome("succeeded", json.dumps(tool.execute(caller, arguments, context), ensure_ascii=False))
    except SandboxLost:
        raise
    except RunyardError as error:
        if error.retryable:
            raise
        return _failed(error.code, error.message)


def _failed(code: str, message: str) -> Outcome:
    return Outcome("failed", json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False))


def _sandbox(caller: Caller, context: Context) -> Sandbox:
    with db.tenant(caller) as tx:
        sandbox = sandboxes.of_run(tx, context.run.id)
    if sandbox is None:
        raise SandboxLost("This run has no sandbox.")
    return sandbox


def _subject(context: Context) -> str:
    return f"agent:{context.run.agent_id}"


def _middle_out(text: str) -> str:
    if len(text) <= _SHOWN:
        return text
    half = _SHOWN // 2
    return f"{text[:half]}\n… {len(text) - _SHOWN} characters left out …\n{text[-half:]}"
