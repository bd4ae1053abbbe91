"""Starts MiniStack, mending one thing: the error of a failed function keeps its own name, as it does in Lambda.

Step Functions retries and catches by that name; MiniStack 1.5's local executor calls every one `Runtime.HandlerError`.
Runs with the emulator's own interpreter and imports nothing of ours.
"""

import runpy
from typing import Any

from ministack.services import lambda_svc

_execute = lambda_svc._execute_function_warm


def execute(func: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
    """Execute as MiniStack does; an exception's name is the last thing a traceback says."""
    result: dict[str, Any] = _execute(func, event, request_id)
    body = result.get("body")
    if result.get("error") and isinstance(body, dict) and body.get("errorType") == "Runtime.HandlerError":
        body["errorType"] = exception_name(result.get("log", "")) or body["errorType"]
    return result


def exception_name(log: str) -> str | None:
    """Return `StepBusy` for a log that ends in a traceback with `package.errors.StepBusy: message`."""
    _, traceback, frames = log.rpartition('\n  File "')
    if not traceback:
        return None
    raised = next((line for line in frames.splitlines()[1:] if line and not line.startswith(" ")), "")
    return raised.partition(":")[0].rpartition(".")[2] or None


if __name__ == "__main__":
    lambda_svc._execute_function_warm = execute
    runpy.run_module("ministack", run_name="__main__", alter_sys=True)
