"""What Anthropic's Messages API answers, in OpenAI's format.

Sources: https://platform.claude.com/docs/en/api/messages and …/docs/en/build-with-claude/streaming
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.inference.answers import Answer, Chunk
from shared.inference.calls import Tokens
from shared.inference.providers import failures, reading, writing
from shared.inference.providers.failures import malformed
from shared.inference.providers.writing import Use

_REASONS: Final = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_message(body: Any) -> Answer:
    """Return the completion; raise `ProviderAnsweredWrongly`."""
    match body:
        case {"id": str(call_id), "model": str(model), "content": list(content), "usage": usage}:
            return writing.answer(
                call_id=call_id,
                model=model,
                texts=_strings(content, "text"),
                thoughts=_strings(content, "thinking"),
                uses=[_use(block) for block in content if block["type"] == "tool_use"],
                finish=_finish(body.get("stop_reason")),
                tokens=read_tokens(usage),
            )
        case _:
            raise malformed()


def read_tokens(usage: Any) -> Tokens:
    """Return the counts; Anthropic's `input_tokens` are those that the cache had no part in."""
    read, written = reading.count(usage, "cache_read_input_tokens"), reading.count(usage, "cache_creation_input_tokens")
    output = reading.count(usage, "output_tokens", required=True)
    thinking = reading.count(usage.get("output_tokens_details"), "thinking_tokens")
    return Tokens(
        input=reading.count(usage, "input_tokens", required=True) + read + written,
        cached=read,
        output=output,
        written=written,
        reasoning=min(thinking, output),
    )


class Reader:
    """See `streaming.Reader`."""

    def __init__(self, key: str) -> None:
        self.done = False
        self._key = key
        self._chunks: writing.Chunks | None = None
        self._usage: dict[str, Any] = {}
        self._without_arguments = False

    def read(self, event: bytes) -> Sequence[Chunk]:
        found = {} if self.done else reading.read_json(event)
        match found:
            case {"type": "message_start", "message": {"id": str(call_id), "model": str(model)} as message}:
                self._chunks = writing.Chunks(call_id, model)
                self._count(message.get("usage"))
                return (self._chunks.begin(),)
            case {"type": "error"}:
                raise failures.of_stream(found, key=self._key)
            case {"type": "ping"}:
                return ()
            case {"type": str(kind)} if self._chunks is not None:
                return self._go_on(kind, found, self._chunks)
            case _ if self.done:
                return ()
            case _:
                raise malformed()

    def is_whole(self) -> bool:
        return self.done

    def _go_on(self, kind: str, found: dict[str, Any], chunks: writing.Chunks) -> Sequence[Chunk]:
        match kind, found:
            case "content_block_delta", {"delta": {"type": "text_delta", "text": str(text)}}:
                return (chunks.text(text),)
            case "content_block_delta", {"delta": {"type": "thinking_delta", "thinking": str(text)}}:
                return (chunks.thought(text),)
            case "content_block_delta", {"delta": {"type": "input_json_delta", "partial_json": str(text)}}:
                self._without_arguments = self._without_arguments and not text
                return (chunks.arguments(text),) if text else ()
            case "content_block_start", {"content_block": {"type": "tool_use", "id": str(use), "name": str(name)}}:
                self._without_arguments = True
                return (chunks.use(use, name),)
            case "content_block_stop", _ if self._without_arguments:
                self._without_arguments = False
                return (chunks.arguments("{}"),)
            case "message_delta", {"delta": {**delta}, "usage": usage}:
                self._count(usage)
                return (chunks.finish(_finish(delta.get("stop_reason"))),)
            case "message_stop", _:
                self.done = True
                return (chunks.usage(read_tokens(self._usage)),)
            case _:
                return ()

    def _count(self, usage: object) -> None:
        # Counts are of all so far, and those that don't change are left out.
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}


def _strings(content: Sequence[Any], kind: str) -> list[str]:
    """Return the texts of all blocks of a kind, which names its text; all blocks must have a type."""
    if not all(isinstance(block, dict) and isinstance(block.get("type"), str) for block in content):
        raise malformed()
    found = [block.get(kind) for block in content if block["type"] == kind]
    if not all(isinstance(text, str) for text in found):
        raise malformed()
    return [str(text) for text in found]


def _use(block: Mapping[str, Any]) -> Use:
    match block:
        case {"id": str(use), "name": str(name), "input": {**arguments}}:
            return Use(use, name, json.dumps(arguments, ensure_ascii=False))
        case _:
            raise malformed()


def _finish(reason: object) -> str:
    return _REASONS.get(reason, "stop") if isinstance(reason, str) else "stop"
