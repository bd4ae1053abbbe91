"""Reads a conversation: what was asked, which tools are offered, what the tools have answered so far."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from local.offline_model import directives
from local.offline_model.directives import Directives
from local.offline_model.schemas import Message

_FAILED_STATUSES = frozenset({"error", "failed", "killed", "timed_out"})


@dataclass(frozen=True, slots=True)
class ToolResult:
    """One tool's answer. `failure` says what went wrong, and is None when the call succeeded."""

    tool: str
    output: str
    failure: str | None

    @classmethod
    def read(cls, tool: str, content: str) -> "ToolResult":
        """Read a tool message: a JSON object with stdout, exit_code, status or error; or plain text."""
        try:
            fields = json.loads(content)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            failed = content.lstrip().lower().startswith("error")
            return cls(tool, content, content.strip() if failed else None)
        return cls(tool, str(fields.get("stdout", content)), _failure(fields))


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that the script may look at. The same messages and tools always read the same."""

    question: str
    # How many came with the question.
    images: int
    asked: Directives
    offered: frozenset[str]
    results: tuple[ToolResult, ...]

    @classmethod
    def read(cls, messages: Sequence[Message], offered: frozenset[str]) -> "Conversation":
        """Read from the last user message on; what came before it is an earlier turn."""
        last = max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)
        question, images = (messages[last].text, messages[last].images) if last >= 0 else ("", 0)
        names = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
        results = tuple(
            ToolResult.read(names.get(message.tool_call_id or "", ""), message.text)
            for message in messages[last + 1 :]
            if message.role == "tool"
        )
        return cls(question, images, directives.parse(question), offered, results)

    @property
    def first_failure(self) -> ToolResult | None:
        return next((result for result in self.results if result.failure is not None), None)

    def last_output(self, tool: str) -> str:
        """Return what the tool printed last; empty before it was called."""
        return next((result.output for result in reversed(self.results) if result.tool == tool), "").strip()


def _failure(fields: dict[str, Any]) -> str | None:
    error = fields.get("error")
    if error:
        return str(error.get("message", error)) if isinstance(error, dict) else str(error)
    stderr = str(fields.get("stderr") or "").strip()
    if fields.get("exit_code") not in {None, 0}:
        return f"exit code {fields['exit_code']}" + (f": {stderr}" if stderr else "")
    if fields.get("status") in _FAILED_STATUSES:
        return f"status {fields['status']}" + (f": {stderr}" if stderr else "")
    return None
