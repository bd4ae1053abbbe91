"""Answers a chat request: the script's next turn as OpenAI's completion object or its chunks."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from local.offline_model import script, tokens
from local.offline_model.conversation import Conversation
from local.offline_model.errors import ApiError
from local.offline_model.schema_instance import minimal_instance
from local.offline_model.schemas import CHAT_MODEL, ChatRequest, NamedToolChoice, ResponseFormat, Tool

FINGERPRINT = f"{CHAT_MODEL}-1"


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A tool call as it is sent. The pieces are the tokens that a stream sends one by one."""

    id: str
    name: str
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """The whole answer; `id` and all else but `created` depend on nothing but the request."""

    id: str
    created: int
    pieces: tuple[str, ...]
    calls: tuple[WrittenCall, ...]
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def usage(self) -> dict[str, Any]:
        called = sum(tokens.count(call.name) + len(call.pieces) for call in self.calls)
        completion_tokens = self.reasoning_tokens + len(self.pieces) + called
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }

    def as_object(self) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self.pieces) or None,
            "refusal": None,
        }
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": "".join(call.pieces)},
                }
                for call in self.calls
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage}

    def as_chunks(self, *, include_usage: bool) -> Iterator[dict[str, Any]]:
        """Yield the role, the tokens one by one, the reason of the end, and the usage if asked for."""
        head = self._head("chat.completion.chunk")
        if include_usage:
            head["usage"] = None
        for delta in self._deltas():
            yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": self.finish_reason}]}
        if include_usage:
            yield {**head, "choices": [], "usage": self.usage}

    def _deltas(self) -> Iterator[dict[str, Any]]:
        yield {"role": "assistant", "content": None if self.calls else ""}
        for piece in self.pieces:
            yield {"content": piece}
        for index, call in enumerate(self.calls):
            opening = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
            yield {"tool_calls": [{"index": index, **opening}]}
            for piece in call.pieces:
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": CHAT_MODEL,
            "system_fingerprint": FINGERPRINT,
        }


def complete(request: ChatRequest, conversation: Conversation) -> Completion:
    """Answer a request; raise `ApiError` for a JSON schema that cannot be answered."""
    turn = _forced_turn(request)
    if turn is None:
        turn = script.next_turn(conversation, parallel=request.parallel_tool_calls is not False)
    if not turn.calls and request.tool_choice == "required" and request.tools:
        turn = _minimal_turn(request.tools[0])
    if not turn.calls:
        turn = replace(turn, text=_formatted(turn.text, request.response_format))
    digest = hashlib.sha256(request.model_dump_json(exclude={"stream", "stream_options"}).encode()).hexdigest()
    prompt_tokens = tokens.count_prompt(request.messages, request.tools or ())
    completion = Completion(
        id=f"chatcmpl-offline-{digest[:24]}",
        created=int(time.time()),
        pieces=tuple(tokens.split(turn.text)),
        calls=tuple(
            WrittenCall(f"call_{digest[:20]}_{index}", call.tool, tuple(tokens.split(json.dumps(call.arguments))))
            for index, call in enumerate(turn.calls)
        ),
        finish_reason="tool_calls" if turn.calls else "stop",
        prompt_tokens=prompt_tokens,
        cached_tokens=min(conversation.asked.cached_tokens, prompt_tokens),
        reasoning_tokens=conversation.asked.reasoning_tokens,
    )
    return completion if request.output_limit is None else _cut(completion, request.output_limit)


def offered_tools(request: ChatRequest) -> frozenset[str]:
    """Return the names of the tools that the answer may call."""
    if request.tool_choice == "none":
        return frozenset()
    return frozenset(tool.function.name for tool in request.tools or ())


def _forced_turn(request: ChatRequest) -> script.Turn | None:
    """A function named by `tool_choice` is called whatever the script says, with minimal arguments."""
    if not isinstance(request.tool_choice, NamedToolChoice):
        return None
    wanted = request.tool_choice.function.name
    tool = next((tool for tool in request.tools or () if tool.function.name == wanted), None)
    if tool is None:
        raise ApiError(400, f"tool_choice names {wanted!r}, which is not in tools.", param="tool_choice")
    return _minimal_turn(tool)


def _minimal_turn(tool: Tool) -> script.Turn:
    arguments = minimal_instance({"type": "object", **tool.function.parameters})
    return script.Turn(calls=(script.Call(tool.function.name, arguments),))


def _formatted(text: str, wanted: ResponseFormat | None) -> str:
    if wanted is None or wanted.type == "text":
        return text
    if wanted.json_schema is not None:
        return json.dumps(minimal_instance(wanted.json_schema.body))
    return json.dumps({"model": CHAT_MODEL, "answer": text})


def _cut(completion: Completion, limit: int) -> Completion:
    """Keep the first `limit` tokens, as a provider does: thoughts first, and in the middle of arguments if need be."""
    if completion.usage["completion_tokens"] <= limit:
        return completion
    kept: list[WrittenCall] = []
    thought = min(completion.reasoning_tokens, limit)
    left = spoken = limit - thought
    for call in completion.calls:
        left -= tokens.count(call.name)
        if left < 0:
            break
        kept.append(replace(call, pieces=call.pieces[:left]))
        left -= len(kept[-1].pieces)
    return replace(
        completion,
        pieces=completion.pieces[:spoken],
        calls=tuple(kept),
        reasoning_tokens=thought,
        finish_reason="length",
    )
