"""A chat completion as the answer of /v1/responses."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from shared.inference.edge.responses_schemas import CreateResponse

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; what was asked is told back with it, as OpenAI does."""

    asked: CreateResponse
    id: str = field(default_factory=lambda: f"resp_{uuid4().hex}")
    created_at: int = field(default_factory=lambda: int(time.time()))

    def whole(self, completion: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer made of a chat completion."""
        choice = completion["choices"][0]
        return self.ended(
            items_of(choice["message"]),
            model=completion.get("model", ""),
            finish_reason=choice.get("finish_reason"),
            usage=completion.get("usage") or {},
        )

    def ended(
        self, output: list[dict[str, Any]], *, model: str, finish_reason: str | None, usage: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the answer with these items, completed or cut short by what `finish_reason` says."""
        cut = _INCOMPLETE.get(finish_reason or "")
        return self._told(
            status="incomplete" if cut else "completed",
            model=model,
            output=output,
            usage=_usage(usage),
            incomplete_details={"reason": cut} if cut else None,
        )

    def begun(self, model: str) -> dict[str, Any]:
        """Return the answer before anything of it is there."""
        return self._told(status="in_progress", model=model, output=[], usage=None, incomplete_details=None)

    def _told(self, **known: Any) -> dict[str, Any]:
        asked = self.asked
        text = {"format": {"type": "text"}}
        if asked.text is not None:
            text |= asked.text.model_dump(exclude_none=True, by_alias=True)
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "error": None,
            **known,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
            "store": False,
            "temperature": asked.temperature,
            "text": text,
            "tool_choice": asked.tool_choice or "auto",
            "tools": [tool.model_dump() for tool in asked.tools or ()],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "user": asked.user,
        }


def items_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the items of an assistant's message: what it says, then its calls."""
    items: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    if message.get("content"):
        parts.append(text_part(message["content"]))
    if message.get("refusal"):
        parts.append(refusal_part(message["refusal"]))
    if parts:
        items.append(message_item(f"msg_{uuid4().hex}", parts, status="completed"))
    for call in message.get("tool_calls") or ():
        function = call["function"]
        items.append(
            call_item(
                f"fc_{uuid4().hex}",
                call_id=call["id"],
                name=function["name"],
                arguments=function["arguments"],
                status="completed",
            )
        )
    return items


def message_item(item_id: str, parts: list[dict[str, Any]], *, status: str) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": parts}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": text}


def call_item(item_id: str, *, call_id: str, name: str, arguments: str, status: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    details = usage.get("prompt_tokens_details") or {}
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    given, made = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    told = {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": details.get("cached_tokens") or 0,
            "cache_write_tokens": details.get("cache_write_tokens") or 0,
        },
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": given + made,
    }
    return told | {name: usage[name] for name in ("cost_microusd",) if name in usage}
