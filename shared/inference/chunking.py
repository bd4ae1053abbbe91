"""Chunks of a stream put together into one answer, and an answer taken apart into chunks."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import to_json

from shared.inference.answers import Chunk
from shared.inference.calls import Tokens

_FORWARDED = ("id", "created", "model", "system_fingerprint", "service_tier")
# What a delta adds to piece by piece; everything else of it stands once.
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")


class Assembly:
    """Follows a stream, and knows at any moment what the answer is so far."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._rest: dict[str, Any] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._generated: list[str] = []
        self.finish_reason: str | None = None
        self.tokens: Tokens | None = None

    def add(self, chunk: Chunk) -> None:
        """Take in the next chunk."""
        body = chunk.body
        if not self._head:
            self._head = {name: body[name] for name in _FORWARDED if body.get(name) is not None}
        if chunk.text:
            self._generated.append(chunk.text)
        if chunk.tokens is not None:
            self.tokens = chunk.tokens
        for choice in body.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self._add_delta(choice.get("delta") or {})

    @property
    def generated(self) -> str:
        """All that the model has made so far, in one text: what is counted where the provider doesn't."""
        return "".join(self._generated)

    def answer(self, tokens: Tokens) -> dict[str, Any]:
        """Return the chat completion with these tokens for its usage."""
        message: dict[str, Any] = {"role": "assistant", "content": None, **self._rest}
        message |= {name: "".join(parts) for name, parts in self._texts.items()}
        if self._calls:
            message["tool_calls"] = [_whole_call(self._calls[index]) for index in sorted(self._calls)]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage_of(tokens)}

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        for name, value in delta.items():
            if value is None or name == "role":
                continue
            if name in _TEXTS and isinstance(value, str):
                self._texts.setdefault(name, []).append(value)
            elif name == "tool_calls":
                for part in value:
                    self._add_call(part)
            else:
                self._rest[name] = value

    def _add_call(self, part: Mapping[str, Any]) -> None:
        call = self._calls.setdefault(part.get("index", 0), {"id": "", "name": "", "arguments": []})
        function = part.get("function") or {}
        call["id"] = part.get("id") or call["id"]
        call["name"] = function.get("name") or call["name"]
        call["arguments"].append(function.get("arguments") or "")


def _whole_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": "".join(call["arguments"])}
    return {"id": call["id"], "type": "function", "function": function}


def usage_of(tokens: Tokens) -> dict[str, Any]:
    """Return OpenAI's `usage` of these counts."""
    usage: dict[str, Any] = {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
    }
    if tokens.reasoning:
        usage["completion_tokens_details"] = {"reasoning_tokens": tokens.reasoning}
    return usage


def encode(body: Mapping[str, Any]) -> bytes:
    """Return a chunk as JSON text."""
    return to_json(body, inf_nan_mode="null")


def chunks_of(answer: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield a whole answer as a stream of few chunks, without its usage."""
    head = {name: answer[name] for name in _FORWARDED if answer.get(name) is not None}
    choice = answer["choices"][0]
    delta = {name: value for name, value in choice["message"].items() if value is not None}
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    yield encode(_chunk(head, delta, None))
    yield encode(_chunk(head, {}, choice.get("finish_reason") or "stop"))


def usage_chunk(answer: Mapping[str, Any], *, cost_microusd: int) -> bytes:
    """Return the chunk with which a stream tells the usage of this answer: without choices, after all others."""
    known = {name: answer[name] for name in _FORWARDED if answer.get(name) is not None}
    usage = {**(answer.get("usage") or {}), "cost_microusd": cost_microusd}
    return encode({**known, "object": "chat.completion.chunk", "choices": [], "usage": usage})


def _chunk(head: Mapping[str, Any], delta: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**head, "object": "chat.completion.chunk", "choices": [choice]}
