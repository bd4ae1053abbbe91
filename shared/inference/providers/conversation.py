"""OpenAI's messages, taken apart for providers with formats of their own: a system prompt, and turns of typed parts.

Raises `NotServed` for what such a provider can't be given, and `InvalidRequest` for what is no message.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared.inference.errors import NotServed
from shared.kernel.errors import InvalidRequest

type Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """Either base64 `data` of a media type such as `image/png`, or the `url` where it is."""

    media_type: str = ""
    data: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class ToolUse:
    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    id: str
    parts: Sequence[Text | Image]


type Part = Text | Image | ToolUse | ToolResult


@dataclass(frozen=True, slots=True)
class Turn:
    role: Role
    parts: list[Part]


def read(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Text], list[Turn]]:
    """Return the system prompt and the turns: neighbours of one role are one, and empty texts are left out."""
    system: list[Text] = []
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        match message.get("role"):
            case "system" | "developer":
                system += [part for part in _parts(message.get("content"), where) if isinstance(part, Text)]
            case "user":
                _add(turns, "user", _parts(message.get("content"), where))
            case "assistant":
                _add(turns, "assistant", [*_parts(message.get("content"), where), *_uses(message, where)])
            case "tool":
                result = ToolResult(str(message.get("tool_call_id")), _parts(message.get("content"), where))
                _add(turns, "user", [result])
            case role:
                raise NotServed(f"This model's provider takes no messages of the role {role!r}.", param=f"{where}.role")
    return system, turns


def _add(turns: list[Turn], role: Role, parts: Sequence[Part]) -> None:
    if not parts:
        return
    if turns and turns[-1].role == role:
        turns[-1].parts.extend(parts)
    else:
        turns.append(Turn(role, list(parts)))


def _parts(content: object, where: str) -> list[Text | Image]:
    match content:
        case None | "":
            return []
        case str():
            return [Text(content)]
        case list():
            found = [_part(part, f"{where}.content.{index}") for index, part in enumerate(content)]
            return [part for part in found if part != Text("")]
        case _:
            raise InvalidRequest("A message's content is a text or a list of parts.", param=f"{where}.content")


def _part(part: object, where: str) -> Text | Image:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return Text(text)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _image(url, where)
        case {"type": str(kind)}:
            raise NotServed(f"This model's provider takes no parts of the type {kind[:50]!r} here.", param=where)
        case _:
            raise InvalidRequest("A part of a message has a type, and what that type asks for.", param=where)


def _image(url: str, where: str) -> Image:
    if not url.startswith("data:"):
        return Image(url=url)
    kind, found, data = url.removeprefix("data:").partition(";base64,")
    if not found or not kind.startswith("image/") or not data:
        raise InvalidRequest("An image is an https address or `data:image/…;base64,…`.", param=where)
    return Image(media_type="image/jpeg" if kind == "image/jpg" else kind, data=data)


def _uses(message: Mapping[str, Any], where: str) -> list[ToolUse]:
    return [_use(call, f"{where}.tool_calls.{index}") for index, call in enumerate(message.get("tool_calls") or ())]


def _use(call: object, where: str) -> ToolUse:
    match call:
        case {"id": str(name_of_call), "function": {"name": str(name), "arguments": str(text)}}:
            try:
                arguments = json.loads(text or "{}")
            except ValueError:
                arguments = None
            # What a model once wrote wrongly must not end the conversation: it is shown as it was.
            return ToolUse(name_of_call, name, arguments if isinstance(arguments, dict) else {"invalid": text})
        case _:
            raise NotServed("This model's provider takes calls of functions alone.", param=where)
