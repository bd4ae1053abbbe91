"""Reads a request: the body within its limit, and as JSON of a schema, with the first fault named."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json
from starlette.types import Receive

from shared.inference.errors import NotServed
from shared.kernel.errors import InvalidRequest, PayloadTooLarge, RunyardError
from shared.kernel.fields import Input

MOST_BYTES = 10_000_000
# Parts of a message that clients know of, and no provider here is given.
_UNSERVED_PARTS = frozenset({"input_audio", "file", "input_file", "video_url", "input_video"})
# The only way to write a character in JSON that Postgres can't hold: raw ones, and lone surrogates, are no JSON.
_NUL = b"\\u0000"


class ClientGone(Exception):
    """The client hung up; nobody waits for an answer."""


class _Anything(Input):
    model_config = ConfigDict(extra="allow")


async def body(receive: Receive, headers: dict[str, str]) -> bytes:
    """Return the whole body; raise `PayloadTooLarge`, and `ClientGone` if it never ends."""
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MOST_BYTES:
        raise _too_large()
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        if len(whole) > MOST_BYTES:
            raise _too_large()
        return whole
    parts = bytearray()
    while message["type"] == "http.request":
        parts += message.get("body", b"")
        if len(parts) > MOST_BYTES:
            raise _too_large()
        if not message.get("more_body"):
            return bytes(parts)
        message = await receive()
    raise ClientGone


def parse[Schema: BaseModel](schema: type[Schema], raw: bytes) -> Schema:
    """Return what the body says; raise `InvalidRequest` naming the first fault, or `NotServed`."""
    try:
        if _NUL in raw:
            _Anything.model_validate_json(raw)
        return schema.model_validate_json(raw)
    except ValidationError as error:
        raise _fault(error, raw) from error


def _fault(error: ValidationError, raw: bytes) -> RunyardError:
    faults: list[Any] = [*error.errors(include_url=False)]
    for fault in faults:
        tag = fault.get("ctx", {}).get("tag")
        if fault["type"] == "union_tag_invalid" and tag in _UNSERVED_PARTS:
            place = _place(fault["loc"], raw)
            return NotServed(f"{place}: parts of the type {tag} aren't taken; send text and images.", param=place)
    # Where a value may be one of several, the one that it came closest to tells most.
    same = [fault for fault in faults if fault["loc"][:1] == faults[0]["loc"][:1]]
    first = max(same, key=lambda fault: len(fault["loc"]))
    place = _place(first["loc"], raw)
    return InvalidRequest(f"{place or 'body'}: {first['msg'].removeprefix('Value error, ')}", param=place)


def _place(loc: tuple[str | int, ...], raw: bytes) -> str | None:
    """Return where the fault is in the body, e.g. `messages.0.role`: `loc` names alternatives of the schema too."""
    if not loc:
        return None
    value, found = from_json(raw), []
    for number, step in enumerate(loc):
        if isinstance(value, dict) and (step in value or number == len(loc) - 1):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            continue
        found.append(str(step))
    return ".".join(found)


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {MOST_BYTES // 1_000_000} MB.")
