"""OpenAI's request as one of Amazon Bedrock's Converse API.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from shared.inference.errors import NotServed
from shared.inference.providers import anthropic_asking, conversation, options
from shared.inference.providers.conversation import Image, Part, Text, ToolResult, ToolUse, Turn
from shared.inference.providers.options import Options
from shared.kernel.errors import InvalidRequest

_POINT: Final = {"cachePoint": {"type": "default"}}
_FORMATS: Final = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}


def request(model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `converse`; raise `NotServed` for what they can't hold."""
    system, turns = conversation.read(body["messages"])
    asked = options.read(body)
    found: dict[str, Any] = {
        "modelId": model,
        "messages": [{"role": turn.role, "content": [_block(part) for part in turn.parts]} for turn in turns],
        "inferenceConfig": _sampling(asked),
    }
    if system:
        found["system"] = [{"text": part.text} for part in system]
    if tools := _tools(asked, turns):
        found["toolConfig"] = tools
    if asked.schema is not None:
        schema = {"schema": json.dumps(asked.schema), "name": "answer"}
        found["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
    own = dict(asked.rest)
    if asked.effort:
        _think(found, own, asked, turns)
    if own:
        found["additionalModelRequestFields"] = own
    _mark(found)
    return found


def _sampling(asked: Options) -> dict[str, Any]:
    found: dict[str, Any] = {"maxTokens": asked.max_tokens}
    if asked.temperature is not None:
        # OpenAI's goes up to 2.
        found["temperature"] = min(asked.temperature, 1)
    if asked.top_p is not None:
        found["topP"] = asked.top_p
    if asked.stop:
        found["stopSequences"] = asked.stop
    return found


def _tools(asked: Options, turns: list[Turn]) -> dict[str, Any]:
    # There is no choice of none: the tools are left out, where no earlier call asks for them.
    used = any(isinstance(part, ToolUse | ToolResult) for turn in turns for part in turn.parts)
    if not asked.tools or (asked.choice == "none" and not used):
        return {}
    tools = [
        {
            "toolSpec": {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "inputSchema": {"json": tool.schema},
                **({"strict": True} if tool.strict else {}),
            }
        }
        for tool in asked.tools
    ]
    choice: dict[str, Any] = {"any": {}} if asked.choice == "required" else {"auto": {}}
    if asked.tool:
        choice = {"tool": {"name": asked.tool}}
    return {"tools": tools, "toolChoice": choice}


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"text": part.text}
        case Image():
            return {"image": _image(part)}
        case ToolUse():
            return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": part.arguments}}
        case ToolResult():
            # Its content may not be empty.
            content = [_block(each) for each in part.parts] or [{"text": "(nothing)"}]
            return {"toolResult": {"toolUseId": part.id, "content": content}}


def _image(image: Image) -> dict[str, Any]:
    if image.url or image.media_type not in _FORMATS:
        raise NotServed(
            "This model's provider takes images as `data:` addresses alone, in PNG, JPEG, GIF or WebP.",
            param="messages",
        )
    try:
        content = base64.b64decode(image.data, validate=True)
    except binascii.Error:
        content = b""
    if not content:
        raise InvalidRequest("An image's data isn't base64.", param="messages")
    return {"format": _FORMATS[image.media_type], "source": {"bytes": content}}


def _think(found: dict[str, Any], own: dict[str, Any], asked: Options, turns: list[Turn]) -> None:
    name = _claude(found["modelId"])
    if name is None:
        raise NotServed("This model's provider knows no reasoning_effort for it.", param="reasoning_effort")
    thinking, effort = anthropic_asking.thinking(name, asked, turns)
    if thinking is not None:
        own["thinking"] = thinking
    if effort is not None:
        found["outputConfig"] = {**found.get("outputConfig", {}), "effort": effort}
    if thinking is not None and thinking["type"] != "disabled":
        for name in ("temperature", "topP"):
            found["inferenceConfig"].pop(name, None)


def _mark(found: dict[str, Any]) -> None:
    """Mark the stable prefix for the provider's cache, as `anthropic_asking` does, for models that have one. Source:
    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    """
    claude, nova = _claude(found["modelId"]) is not None, "amazon.nova" in found["modelId"]
    tools, system, turns = found.get("toolConfig"), found.get("system"), found["messages"][:-1]
    if not (claude or nova) or anthropic_asking.is_short([tools, system, turns]):
        return
    # Nova's caches hold no tools.
    for blocks in (
        tools["tools"] if tools and claude else None,
        system,
        turns[-1]["content"] if turns else None,
    ):
        if blocks:
            blocks.append(_POINT)


def _claude(model: str) -> str | None:
    """Return the name by which Anthropic knows a model, None for others': `us.anthropic.claude-…` has it inside."""
    _, found, rest = model.partition("anthropic.claude-")
    return f"claude-{rest}" if found else None
