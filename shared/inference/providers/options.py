"""OpenAI's parameters, for providers with formats of their own: what they mean, and which can't be meant there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.inference.errors import NotServed

type Choice = Literal["auto", "none", "required"]

# What a model may be told and needn't follow, or what is for OpenAI's own house: left out.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "metadata",
        "n",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "stream_options",
        "verbosity",
    }
)
# What changes an answer and has no counterpart. None, False, 0 and empty ask for nothing.
_UNKNOWN_ELSEWHERE: Final = (
    "audio",
    "frequency_penalty",
    "functions",
    "logit_bias",
    "logprobs",
    "presence_penalty",
    "top_logprobs",
    "web_search_options",
)
DEFAULT_MAX_TOKENS: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    name: str
    description: str
    schema: Mapping[str, Any]
    strict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for beside the messages. `tool` is the one that must be called; `rest` are a provider's own."""

    max_tokens: int
    temperature: float | None
    top_p: float | None
    stop: list[str]
    tools: list[Tool]
    choice: Choice | None
    tool: str | None
    parallel: bool
    schema: Mapping[str, Any] | None
    effort: str | None
    user: str | None
    rest: dict[str, Any]


def read(body: Mapping[str, Any]) -> Options:
    """Return the options of OpenAI's request; raise `NotServed` for those without a counterpart."""
    asked = dict(body)
    for name in _UNKNOWN_ELSEWHERE:
        if asked.pop(name, None):
            raise NotServed(f"This model's provider knows no {name}.", param=name)
    if (asked.pop("modalities", None) or ["text"]) != ["text"]:
        raise NotServed("This model's provider answers in text alone.", param="modalities")
    limit = asked.pop("max_tokens", None)
    limit = asked.pop("max_completion_tokens", None) or limit or DEFAULT_MAX_TOKENS
    stop = asked.pop("stop", None)
    choice, tool = _choice(asked.pop("tool_choice", None))
    return Options(
        max_tokens=limit,
        temperature=asked.pop("temperature", None),
        top_p=asked.pop("top_p", None),
        stop=[stop] if isinstance(stop, str) else list(stop or ()),
        tools=[_tool(tool, index) for index, tool in enumerate(asked.pop("tools", None) or ())],
        choice=choice,
        tool=tool,
        parallel=asked.pop("parallel_tool_calls", None) is not False,
        schema=_schema(asked.pop("response_format", None)),
        effort=asked.pop("reasoning_effort", None),
        user=asked.pop("user", None),
        rest={name: value for name, value in asked.items() if name not in _NOT_REST},
    )


_NOT_REST: Final = _WITHOUT_EFFECT | {"messages", "model", "stream"}


def _tool(tool: Any, index: int) -> Tool:
    match tool:
        case {"type": "function", "function": {"name": str(name)} as function}:
            schema: Mapping[str, Any] = function.get("parameters") or {"type": "object", "properties": {}}
            return Tool(
                name=name,
                description=str(function.get("description") or ""),
                schema=schema,
                strict=function.get("strict") is True,
            )
        case _:
            raise NotServed("This model's provider takes functions alone as tools.", param=f"tools.{index}")


def _choice(asked: object) -> tuple[Choice | None, str | None]:
    match asked:
        case None:
            return None, None
        case "auto" | "none" | "required":
            return asked, None
        case {"type": "function", "function": {"name": str(name)}}:
            return None, name
        case _:
            raise NotServed("This model's provider takes no such choice of tools.", param="tool_choice")


def _schema(asked: Any) -> Mapping[str, Any] | None:
    match asked:
        case None | {"type": "text"}:
            return None
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return dict(schema)
        case _:
            raise NotServed(
                "This model's provider answers in JSON by a schema alone: use the type `json_schema`.",
                param="response_format",
            )
