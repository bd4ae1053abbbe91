"""A run's conversation with its model, rebuilt from the record of its steps in the same order each time."""

from typing import Any

from shared.agents.model import AgentConfig
from shared.inference.model import ChatRequest, Completion
from shared.runs import tools
from shared.runs.model import Run, Step

_EVENT_TEXT = 2_000


def request(config: AgentConfig, run: Run, done: list[Step]) -> ChatRequest:
    """Return what the model is asked next: instructions, task, then every step with its tools' results.

    The beginning never changes from step to step, so that a provider's prompt cache can serve it.
    """
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": config.instructions},
        {"role": "user", "content": run.input},
    ]
    for step in done:
        if step.message is None:
            continue
        messages.append(step.message)
        messages.extend(
            {"role": "tool", "tool_call_id": call.provider_call_id, "content": call.result or ""} for call in step.calls
        )
    return ChatRequest(messages=messages, model=config.model, tools=tools.offered(config.tools))


def message_of(completion: Completion) -> dict[str, Any]:
    """Return the assistant's message as it is stored and sent again: text and tool calls, nothing else."""
    message: dict[str, Any] = {"role": "assistant", "content": completion.text}
    if completion.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in completion.tool_calls
        ]
    return message


def calls_of(message: dict[str, Any]) -> list[dict[str, str]]:
    """Return the tool calls that a stored message asks for, in order."""
    return [
        {
            "provider_call_id": call["id"],
            "name": tools.name_of(call["function"]["name"]),
            "arguments": call["function"]["arguments"],
        }
        for call in message.get("tool_calls", [])
    ]


def thought(step_no: int, message: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """Return the event of a model call: what was said and what is to be done."""
    return {
        "step_no": step_no,
        "text": shortened(message["content"] or ""),
        "calls": [{"name": call["name"], "arguments": shortened(call["arguments"])} for call in calls_of(message)],
        "model": completion.call.model,
        "cost_microusd": completion.call.cost_microusd,
    }


def answer(steps: list[Step]) -> str:
    """Return the model's last words."""
    last = steps[-1].message if steps else None
    return str((last or {}).get("content") or "")


def shortened(text: str) -> str:
    """Return text that fits an event; the whole of it is in the run's steps."""
    return text if len(text) <= _EVENT_TEXT else f"{text[:_EVENT_TEXT]}… ({len(text)} characters)"
