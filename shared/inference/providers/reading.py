"""What of an answer in OpenAI's format must be there before it is believed, recorded and paid for.

Looked at by hand: a model of pydantic for each answer, or chunk, would take longer than all else that is done with it.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from shared.inference import vectors
from shared.inference.answers import Answer, Chunk
from shared.inference.calls import Tokens
from shared.inference.providers.failures import malformed, refused
from shared.kernel.text import storable

# Far above any model's context: a number beyond is no count.
_MOST_TOKENS: Final = 10**9


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _finite(number: str) -> float:
    found = float(number)
    return found if math.isfinite(found) else _refuse(number)


# Postgres takes neither NaN nor Infinity for JSON, nor do other readers; 1e999 is read as Infinity.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode


def read_json(content: bytes) -> Any:
    """Return the JSON; raise `ProviderAnsweredWrongly`. What a database can't hold is replaced."""
    try:
        found = _decode(content.decode())
        # Such characters can come only as escapes.
        return storable(found) if b"\\u" in content else found
    except (ValueError, RecursionError):
        pass
    raise malformed("it isn't JSON")


def write_json(body: Mapping[str, Any]) -> bytes:
    """Return the request's bytes; raise `ProviderRefused` for numbers and characters that JSON doesn't have."""
    try:
        return _encode(body).encode()
    except ValueError:
        pass
    raise refused("it can't be written as JSON", key="", code=None)


def read_chat(body: Any) -> Answer:
    """Return a whole completion; raise `ProviderAnsweredWrongly`."""
    match body:
        case {"id": str(), "created": int(), "model": str(), "choices": [_, *_] as choices, "usage": usage} if all(
            map(_is_choice, choices)
        ):
            return Answer(body=body, tokens=read_tokens(usage))
        case _:
            raise malformed()


def read_chunk(body: Any) -> Chunk:
    """Return one chunk of a stream; raise `ProviderAnsweredWrongly`."""
    match body:
        case {"choices": list(choices)}:
            usage = body.get("usage")
            text = "".join(map(_text_of, choices)) if choices else ""
            return Chunk(body=body, text=text, tokens=read_tokens(usage) if usage else None)
        case _:
            raise malformed()


def read_tokens(usage: object) -> Tokens:
    """Return the counts; raise `ProviderAnsweredWrongly`. Parts are never more than their whole."""
    if not isinstance(usage, Mapping):
        raise malformed("it doesn't tell its tokens")
    prompt = count(usage, "prompt_tokens", required=True)
    output = count(usage, "completion_tokens")
    of_input = usage.get("prompt_tokens_details")
    of_output = usage.get("completion_tokens_details")
    if not of_input and not of_output:
        return Tokens(prompt, 0, output)
    cached = min(count(of_input, "cached_tokens"), prompt)
    written = min(count(of_input, "cache_write_tokens"), prompt - cached)
    return Tokens(prompt, cached, output, written, min(count(of_output, "reasoning_tokens"), output))


def read_embeddings(body: Any, *, count: int) -> tuple[tuple[tuple[float, ...], ...], Tokens]:
    """Return one vector for each of `count` texts, in their order, and the tokens."""
    match body:
        case {"data": list(data), "usage": usage} if len(data) == count:
            found = dict(map(_embedding, data))
        case _:
            raise malformed()
    if found.keys() != set(range(count)) or len({len(vector) for vector in found.values()}) > 1:
        raise malformed("vectors are missing, or of several lengths")
    return tuple(found[index] for index in range(count)), read_tokens(usage)


def read_models(body: Any) -> list[dict[str, Any]]:
    """Return the models, each in OpenAI's format."""
    match body:
        case {"data": [*data]} if all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in data):
            return data
        case _:
            raise malformed("its list of models isn't one")


def _is_choice(choice: object) -> bool:
    match choice:
        case {"message": {**message}}:
            content, calls = message.get("content"), message.get("tool_calls")
            return (content is None or isinstance(content, str)) and (
                calls is None or (isinstance(calls, list) and all(map(_is_tool_call, calls)))
            )
        case _:
            return False


def _is_tool_call(call: object) -> bool:
    match call:
        case {"id": str(), "function": {"name": str(), "arguments": str()}}:
            return True
        case _:
            return False


def _text_of(choice: object) -> str:
    """Return what a choice of a chunk adds to the answer."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict):
        # Azure's first chunk has none, and says what its filters found in the prompt.
        return ""
    text = delta.get("content")
    if isinstance(text, str) and len(delta) == 1:
        return text
    parts = [text, delta.get("refusal"), delta.get("reasoning_content") or delta.get("reasoning")]
    calls = delta.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise malformed()
        parts += [function.get("name"), function.get("arguments")]
    return "".join(part for part in parts if isinstance(part, str))


def count(found: object, name: str, *, required: bool = False) -> int:
    """Return how many tokens stand there under a name, 0 for none; raise `ProviderAnsweredWrongly`."""
    tokens = found.get(name) if isinstance(found, Mapping) else None
    if tokens is None and not required:
        return 0
    # A bool is an int to Python.
    if type(tokens) is not int or not 0 <= tokens <= _MOST_TOKENS:
        raise malformed("its count of tokens is none")
    return tokens


def _embedding(one: object) -> tuple[int, tuple[float, ...]]:
    match one:
        case {"index": int(index), "embedding": str() | list() as given}:
            try:
                vector = vectors.decode(given) if isinstance(given, str) else tuple(map(float, given))
            except (ValueError, TypeError):
                vector = ()
            if any(vector) and all(map(math.isfinite, vector)):
                return index, vector
    raise malformed("a vector has no direction")
