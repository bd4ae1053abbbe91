"""A /v1/responses request as the chat request that it means."""

from collections.abc import Iterator, Sequence
from typing import Any

from shared.inference.edge.responses_schemas import (
    CreateResponse,
    Format,
    InputFunctionCall,
    InputFunctionOutput,
    InputImage,
    InputItem,
    InputMessage,
    InputPart,
    InputReasoning,
    RefusalIn,
    ToolIn,
)
from shared.inference.errors import NotServed
from shared.inference.model import ChatRequest
from shared.kernel.errors import InvalidRequest

type Message = dict[str, Any]

# What only a server that keeps answers could do.
_KEPT = "Answers are not kept here, so it can't be gone on with: send the whole conversation as `input`."
_SAME_NAME = ("parallel_tool_calls", "temperature", "top_p", "service_tier", "user", "safety_identifier")


def chat_request(asked: CreateResponse) -> ChatRequest:
    """Return what is asked; raise `NotServed` and `InvalidRequest`."""
    _refuse_unserved(asked)
    messages = list(_messages(asked))
    if not messages:
        raise InvalidRequest("input: there is nothing in it to answer.", param="input")
    return ChatRequest(
        messages=messages,
        model=asked.model,
        tools=[_tool(tool, index) for index, tool in enumerate(asked.tools or ())],
        max_output_tokens=asked.max_output_tokens,
        options=_options(asked),
    )


def _refuse_unserved(asked: CreateResponse) -> None:
    unserved = {
        "store": (asked.store, "Answers are not kept here to be fetched later: send `store: false`."),
        "previous_response_id": (asked.previous_response_id, _KEPT),
        "conversation": (asked.conversation, _KEPT),
        "background": (asked.background, "Answers are made while the request waits: leave `background` out."),
        "prompt": (asked.prompt, "There are no stored prompts here: send `instructions` and `input`."),
        "max_tool_calls": (asked.max_tool_calls, "It bounds hosted tools, which are not served."),
        "top_logprobs": (asked.top_logprobs, "Ask /v1/chat/completions for log probabilities."),
    }
    for name, (given, why) in unserved.items():
        if given:
            raise NotServed(f"{name}: {why}", param=name)
    if asked.truncation not in (None, "disabled"):
        raise NotServed("truncation: a conversation is never cut here; send `disabled`.", param="truncation")
    for name in asked.include or ():
        if name != "reasoning.encrypted_content":
            raise NotServed(f"include: {name[:100]} is not served.", param="include")


def _messages(asked: CreateResponse) -> Iterator[Message]:
    if asked.instructions:
        yield {"role": "system", "content": asked.instructions}
    if isinstance(asked.input, str):
        yield {"role": "user", "content": asked.input}
        return
    # A turn's text and its calls are items of their own here, and one message there.
    turn: Message | None = None
    for index, item in enumerate(asked.input):
        if isinstance(item, InputReasoning):
            continue
        of_assistant = isinstance(item, InputFunctionCall) or (
            isinstance(item, InputMessage) and item.role == "assistant"
        )
        if not of_assistant:
            if turn is not None:
                yield turn
                turn = None
            yield _message(item, index)
        elif isinstance(item, InputFunctionCall):
            turn = turn or {"role": "assistant", "content": None}
            turn.setdefault("tool_calls", []).append(_call(item))
        else:
            if turn is not None:
                yield turn
            turn = _message(item, index)
    if turn is not None:
        yield turn


def _message(item: InputItem, index: int) -> Message:
    match item:
        case InputMessage(role="assistant"):
            return {"role": "assistant", "content": _texts(item.content)}
        case InputMessage():
            return {"role": item.role, "content": _content(item.content, index)}
        case InputFunctionOutput():
            return {"role": "tool", "tool_call_id": item.call_id, "content": _texts(item.output, f"input.{index}")}
        case _:
            kind = getattr(item, "type", "")[:50]
            raise NotServed(f"input.{index}: items of the type {kind} are not served.", param=f"input.{index}")


def _content(content: str | Sequence[InputPart], index: int) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [_part(part, f"input.{index}.content.{number}") for number, part in enumerate(content)]


def _part(part: InputPart, place: str) -> dict[str, Any]:
    if isinstance(part, InputImage):
        if not (part.image_url or "").startswith(("https://", "data:image/")):
            raise NotServed(
                f"{place}: send `image_url`, beginning with https:// or data:image/; there are no files here.",
                param=place,
            )
        image = {"url": part.image_url} | ({"detail": part.detail} if part.detail else {})
        return {"type": "image_url", "image_url": image}
    return {"type": "text", "text": part.refusal if isinstance(part, RefusalIn) else part.text}


def _texts(content: str | Sequence[InputPart], place: str = "input") -> str:
    if isinstance(content, str):
        return content
    parts: list[str] = []
    for part in content:
        if isinstance(part, InputImage):
            raise NotServed(f"{place}: a tool's output, and an assistant's message, are text.", param=place)
        parts.append(part.refusal if isinstance(part, RefusalIn) else part.text)
    return "".join(parts)


def _call(item: InputFunctionCall) -> dict[str, Any]:
    return {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}


def _tool(tool: ToolIn, index: int) -> dict[str, Any]:
    if tool.type != "function":
        raise NotServed(
            f"tools.{index}: {tool.type[:50]} is a hosted tool; functions of your own are served.",
            param=f"tools.{index}",
        )
    if not tool.name:
        raise InvalidRequest(f"tools.{index}.name: Field required", param=f"tools.{index}.name")
    given = {"name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    return {"type": "function", "function": {name: value for name, value in given.items() if value is not None}}


def _options(asked: CreateResponse) -> dict[str, Any]:
    text, reasoning = asked.text, asked.reasoning
    options = {
        **{name: getattr(asked, name) for name in _SAME_NAME},
        "prompt_cache_key": asked.prompt_cache_key,
        "tool_choice": _tool_choice(asked.tool_choice),
        "response_format": _response_format(text.format) if text is not None and text.format is not None else None,
        "verbosity": text.verbosity if text is not None else None,
        "reasoning_effort": reasoning.effort if reasoning is not None else None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _tool_choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
        raise NotServed("tool_choice: auto, none, required, or one function by its name.", param="tool_choice")
    return {"type": "function", "function": {"name": choice["name"]}}


def _response_format(wanted: Format) -> dict[str, Any] | None:
    if wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "json_object"}
    if wanted.schema_ is None:
        raise InvalidRequest("text.format.schema: Field required", param="text.format.schema")
    given = {
        "name": wanted.name or "answer",
        "description": wanted.description,
        "schema": wanted.schema_,
        "strict": wanted.strict,
    }
    return {"type": "json_schema", "json_schema": {name: value for name, value in given.items() if value is not None}}
