"""What Amazon Bedrock's Converse API answers, in OpenAI's format.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from shared.inference.answers import Answer, Chunk
from shared.inference.calls import Tokens
from shared.inference.providers import reading, writing
from shared.inference.providers.failures import malformed
from shared.inference.providers.writing import Chunks, Use

_REASONS: Final = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


def read_message(found: Any, *, call_id: str, model: str) -> Answer:
    """Return the completion; raise `ProviderAnsweredWrongly`."""
    match found:
        case {"output": {"message": {"content": list(content)}}, "usage": usage}:
            return writing.answer(
                call_id=call_id,
                model=model,
                texts=[block["text"] for block in content if "text" in block],
                thoughts=[
                    block["reasoningContent"]["reasoningText"]["text"]
                    for block in content
                    if "reasoningText" in block.get("reasoningContent", {})
                ],
                uses=[_use(block["toolUse"]) for block in content if "toolUse" in block],
                finish=_REASONS.get(found.get("stopReason"), "stop"),
                tokens=read_tokens(usage),
            )
        case _:
            raise malformed()


def read_tokens(usage: Any) -> Tokens:
    """Return the counts; Bedrock's `inputTokens` are those that the cache had no part in. Source:
    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    """
    read, written = reading.count(usage, "cacheReadInputTokens"), reading.count(usage, "cacheWriteInputTokens")
    return Tokens(
        input=reading.count(usage, "inputTokens", required=True) + read + written,
        cached=read,
        output=reading.count(usage, "outputTokens", required=True),
        written=written,
    )


class Reader:
    """Makes chunks of the events of a stream. `done`: the last one was there."""

    def __init__(self, *, call_id: str, model: str) -> None:
        self.done = False
        self._chunks = Chunks(call_id, model)
        self._without_arguments = False

    def read(self, event: Any) -> Sequence[Chunk]:
        """Return what the event adds; raise `ProviderAnsweredWrongly`."""
        chunks = self._chunks
        match event:
            case {"messageStart": _}:
                return (chunks.begin(),)
            case {"contentBlockDelta": {"delta": {"text": str(text)}}}:
                return (chunks.text(text),)
            case {"contentBlockDelta": {"delta": {"reasoningContent": {"text": str(text)}}}}:
                return (chunks.thought(text),)
            case {"contentBlockDelta": {"delta": {"toolUse": {"input": str(text)}}}}:
                self._without_arguments = self._without_arguments and not text
                return (chunks.arguments(text),) if text else ()
            case {"contentBlockStart": {"start": {"toolUse": {"toolUseId": str(use), "name": str(name)}}}}:
                self._without_arguments = True
                return (chunks.use(use, name),)
            case {"contentBlockStop": _} if self._without_arguments:
                self._without_arguments = False
                return (chunks.arguments("{}"),)
            case {"messageStop": {"stopReason": str(reason)}}:
                return (chunks.finish(_REASONS.get(reason, "stop")),)
            case {"metadata": {"usage": usage}}:
                self.done = True
                return (chunks.usage(read_tokens(usage)),)
            case _:
                return ()


def _use(use: Any) -> Use:
    match use:
        case {"toolUseId": str(call), "name": str(name), "input": arguments}:
            return Use(call, name, json.dumps(arguments or {}, ensure_ascii=False))
        case _:
            raise malformed()
