"""Answers and chunks in OpenAI's format, for providers whose own is another."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.inference.answers import Answer, Chunk
from shared.inference.calls import Tokens
from shared.kernel.text import storable


@dataclass(frozen=True, slots=True)
class Use:
    """A call of a function as the model made it; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


def answer(
    *,
    call_id: str,
    model: str,
    texts: Sequence[str],
    thoughts: Sequence[str],
    uses: Sequence[Use],
    finish: str,
    tokens: Tokens,
) -> Answer:
    """Return the whole completion, without what a database can't hold."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None, "refusal": None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if uses:
        message["tool_calls"] = [
            {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": use.arguments}}
            for use in uses
        ]
    elif message["content"] is None:
        message["content"] = ""
    body: Any = storable(
        {
            "id": call_id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": usage(tokens),
        }
    )
    return Answer(body=body, tokens=tokens)


def usage(tokens: Tokens) -> dict[str, Any]:
    """Return OpenAI's `usage`; `cache_write_tokens` is what the provider put into its cache."""
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }


@dataclass(slots=True)
class Chunks:
    """Writes one stream's chunks. Calls of functions are numbered in the order in which they begin."""

    call_id: str
    model: str
    _created: int = field(default_factory=lambda: int(time.time()))
    _uses: int = 0

    def begin(self) -> Chunk:
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> Chunk:
        return self._chunk({"content": text}, text)

    def thought(self, text: str) -> Chunk:
        return self._chunk({"reasoning_content": text}, text)

    def use(self, call_id: str, name: str) -> Chunk:
        self._uses += 1
        function = {"name": name, "arguments": ""}
        return self._use({"id": call_id, "type": "function", "function": function}, name)

    def arguments(self, text: str) -> Chunk:
        return self._use({"function": {"arguments": text}}, text)

    def finish(self, reason: str) -> Chunk:
        return self._chunk({}, finish=reason)

    def usage(self, tokens: Tokens) -> Chunk:
        return Chunk(body={**self._head(), "choices": [], "usage": usage(tokens)}, tokens=tokens)

    def _use(self, call: dict[str, Any], text: str) -> Chunk:
        return self._chunk({"tool_calls": [{"index": self._uses - 1, **call}]}, text)

    def _chunk(self, delta: dict[str, Any], text: str = "", *, finish: str | None = None) -> Chunk:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return Chunk(body={**self._head(), "choices": [choice]}, text=text)

    def _head(self) -> dict[str, Any]:
        return {"id": self.call_id, "object": "chat.completion.chunk", "created": self._created, "model": self.model}
