"""OpenAI's request as one of Anthropic's Messages API.

Source: https://platform.claude.com/docs/en/api/messages
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.inference.providers import conversation, options
from shared.inference.providers.conversation import Image, Part, Text, ToolResult, ToolUse, Turn
from shared.inference.providers.options import Options

# The shortest prompt that any model caches has 1,024 tokens, which are seldom less than so many characters. Source:
# https://platform.claude.com/docs/en/build-with-claude/prompt-caching
_LEAST_CACHED: Final = 3_072
_CACHED: Final = {"type": "ephemeral"}
# Models from before thinking was adaptive are told how many tokens they may think for; 1,024 are the least.
_THINKS_BY_BUDGET: Final = re.compile(r"claude-(3|(opus|sonnet|haiku)-4(?!-([6-9]|[1-9]\d)\b))")
# The latest can't be kept from it.
_ALWAYS_THINKS: Final = re.compile(r"claude-[a-z]+-(5-[1-9]|[6-9])")
_BUDGETS: Final = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 32_768}
_EFFORTS: Final = {"minimal": "low"}


def request(model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request; raise `NotServed` for what it can't hold."""
    system, turns = conversation.read(body["messages"])
    asked = options.read(body)
    found: dict[str, Any] = {
        "model": model,
        "max_tokens": asked.max_tokens,
        "messages": [{"role": turn.role, "content": [_block(part) for part in turn.parts]} for turn in turns],
        **_tools(asked),
        **_sampling(asked),
        **asked.rest,
    }
    if system:
        found["system"] = [{"type": "text", "text": part.text} for part in system]
    if asked.schema is not None:
        found["output_config"] = {"format": {"type": "json_schema", "schema": asked.schema}}
    if asked.user:
        found["metadata"] = {"user_id": asked.user}
    thoughts, effort = thinking(model, asked, turns)
    if thoughts is not None:
        found["thinking"] = thoughts
        if thoughts["type"] != "disabled":
            # A thinking model takes its own.
            found.pop("temperature", None)
            found.pop("top_p", None)
    if effort is not None:
        found["output_config"] = {**found.get("output_config", {}), "effort": effort}
    _mark(found)
    return found


def _sampling(asked: Options) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # What is so anyway is left out: new models refuse to be told. OpenAI's temperature goes up to 2.
    if asked.temperature is not None and asked.temperature != 1:
        found["temperature"] = min(asked.temperature, 1)
    if asked.top_p is not None and asked.top_p != 1:
        found["top_p"] = asked.top_p
    if asked.stop:
        found["stop_sequences"] = asked.stop
    return found


def _tools(asked: Options) -> dict[str, Any]:
    if not asked.tools:
        return {}
    tools = [
        {
            "name": tool.name,
            **({"description": tool.description} if tool.description else {}),
            "input_schema": tool.schema,
            **({"strict": True} if tool.strict else {}),
        }
        for tool in asked.tools
    ]
    choice: dict[str, Any] = {"type": {"required": "any", "none": "none"}.get(asked.choice or "auto", "auto")}
    if asked.tool:
        choice = {"type": "tool", "name": asked.tool}
    if not asked.parallel and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": choice}


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image(url="") as image:
            source = {"type": "base64", "media_type": image.media_type, "data": image.data}
            return {"type": "image", "source": source}
        case Image() as image:
            return {"type": "image", "source": {"type": "url", "url": image.url}}
        case ToolUse():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
        case ToolResult():
            return {"type": "tool_result", "tool_use_id": part.id, "content": [_block(each) for each in part.parts]}


def thinking(model: str, asked: Options, turns: Sequence[Turn]) -> tuple[dict[str, Any] | None, str | None]:
    """Return `thinking` and `effort` for as hard as was asked; None for what the model is better not told."""
    if asked.effort == "none":
        return (None, "low") if _ALWAYS_THINKS.match(model) else ({"type": "disabled"}, None)
    if asked.effort is None or asked.tool or asked.choice == "required":
        # A model that must call a function can't think before.
        return None, None
    if not _THINKS_BY_BUDGET.match(model):
        return {"type": "adaptive"}, _EFFORTS.get(asked.effort, asked.effort)
    budget = min(_BUDGETS.get(asked.effort, _BUDGETS["medium"]), asked.max_tokens - 1)
    # In mid-conversation such a model wants its former thoughts back, which OpenAI's format doesn't keep.
    if budget < _BUDGETS["minimal"] or any(isinstance(part, ToolUse) for turn in turns for part in turn.parts):
        return None, None
    return {"type": "enabled", "budget_tokens": budget}, None


def is_short(prefix: Sequence[Any]) -> bool:
    """Return whether that is too little for any cache. Images' bytes count for nothing."""
    return sum(len(json.dumps(each, default=lambda _: "")) for each in prefix if each) < _LEAST_CACHED


def _mark(found: dict[str, Any]) -> None:
    """Have the provider cache what the next request of this conversation probably begins with as well.

    That is: tools, system prompt, and all turns but the last. A mark that finds nothing to reuse costs a quarter more
    of the input before it, so that short prompts, which aren't cached anyway, get none.
    """
    tools, system, turns = found.get("tools"), found.get("system"), found["messages"][:-1]
    if is_short([tools, system, turns]):
        return
    for blocks in (tools, system, turns[-1]["content"] if turns else None):
        if blocks:
            blocks[-1] = {**blocks[-1], "cache_control": _CACHED}
