"""Where an answer is kept: equal requests of one org meet there, and nothing else does."""

import copy
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inference import caching
from shared.inference.calls import Operation
from shared.inference.model import ChatRequest

_ORG = UUID("01990000-0000-7000-8000-000000000001")
_RIVAL = UUID("01990000-0000-7000-8000-000000000002")
_TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "required": ["at"]}}}
_REQUEST = ChatRequest(
    messages=[
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}]},
    ],
    tools=[_TOOL],
    max_output_tokens=100,
    options={"temperature": 0.5, "response_format": {"type": "json_object"}, "stop": ["a", "b"]},
)

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_objects = st.dictionaries(st.text(max_size=8), _values, max_size=4)
_requests = st.builds(
    ChatRequest,
    messages=st.lists(_objects, min_size=1, max_size=3),
    tools=st.lists(_objects, max_size=2),
    max_output_tokens=st.none() | st.integers(1, 10_000),
    options=_objects.map(lambda options: {f"o_{name}": value for name, value in options.items()}),
)


def key(request: ChatRequest, *, org: UUID = _ORG, model: str = "gpt-4o", operation: Operation = Operation.CHAT) -> str:
    return caching.key(org, operation=operation, model_or_route=model, request=request)


def parts(request: ChatRequest) -> list[Any]:
    return [request.messages, request.tools, request.max_output_tokens, request.options]


def reversed_keys(value: Any) -> Any:
    """Return the same JSON with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {name: reversed_keys(value[name]) for name in reversed(value)}
    return [reversed_keys(one) for one in value] if isinstance(value, list) else value


def changed(value: Any) -> Iterator[Any]:
    """Yield the same JSON with one thing in it changed, for each thing in it."""
    if isinstance(value, dict):
        for name in value:
            yield {other: value[other] for other in value if other != name}
            for different in changed(value[name]):
                yield {**value, name: different}
        yield {**value, "one more": 1}
    elif isinstance(value, list):
        for at in range(len(value)):
            yield [*value[:at], *value[at + 1 :]]
            for different in changed(value[at]):
                yield [*value[:at], different, *value[at + 1 :]]
        yield [*value, "one more"]
    else:
        yield [value]
        yield f"{value} "


@given(_requests, _requests)
def test_two_requests_meet_only_if_they_are_the_same_json(first: ChatRequest, second: ChatRequest) -> None:
    same = json.dumps(parts(first), sort_keys=True) == json.dumps(parts(second), sort_keys=True)
    assert (key(first) == key(second)) is same


@given(_requests, st.data())
def test_any_one_change_of_any_request_leads_elsewhere(request: ChatRequest, data: st.DataObject) -> None:
    messages = data.draw(st.sampled_from(list(changed(list(request.messages)))))
    tools = data.draw(st.sampled_from(list(changed(list(request.tools)))))
    options = data.draw(st.sampled_from(list(changed(dict(request.options)))))
    limit = 1 if request.max_output_tokens is None else request.max_output_tokens + 1
    others = [
        ChatRequest(messages, None, request.tools, request.max_output_tokens, request.options),
        ChatRequest(request.messages, None, tools, request.max_output_tokens, request.options),
        ChatRequest(request.messages, None, request.tools, limit, request.options),
        ChatRequest(request.messages, None, request.tools, request.max_output_tokens, options),
    ]
    assert len({key(request), *map(key, others)}) == 5


def test_every_single_thing_in_a_request_counts() -> None:
    messages = [ChatRequest(new, None, [_TOOL], 100, _REQUEST.options) for new in changed(list(_REQUEST.messages))]
    tools = [ChatRequest(_REQUEST.messages, None, new, 100, _REQUEST.options) for new in changed([_TOOL])]
    options = [ChatRequest(_REQUEST.messages, None, [_TOOL], 100, new) for new in changed(dict(_REQUEST.options))]
    everything = [*messages, *tools, *options]
    assert len(everything) > 40
    assert len({key(_REQUEST), *map(key, everything)}) == len(everything) + 1


@given(_requests)
def test_the_order_of_json_keys_is_nothing(request: ChatRequest) -> None:
    other = ChatRequest(
        reversed_keys(list(request.messages)),
        None,
        reversed_keys(list(request.tools)),
        request.max_output_tokens,
        reversed_keys(dict(request.options)),
    )
    assert key(other) == key(request)


def test_the_order_of_messages_tools_and_lists_counts() -> None:
    turned = ChatRequest(list(reversed(_REQUEST.messages)), None, [_TOOL], 100, _REQUEST.options)
    stops = copy.deepcopy(dict(_REQUEST.options)) | {"stop": ["b", "a"]}
    assert len({key(_REQUEST), key(turned), key(ChatRequest(_REQUEST.messages, None, [_TOOL], 100, stops))}) == 3


def test_model_operation_and_org_count() -> None:
    places = {
        key(_REQUEST),
        key(_REQUEST, model="gpt-4o-mini"),
        key(_REQUEST, operation=Operation.EMBEDDINGS),
        key(_REQUEST, org=_RIVAL),
    }
    assert len(places) == 4


def test_a_part_can_not_pass_for_another() -> None:
    in_tools = ChatRequest([], None, [_TOOL])
    in_messages = ChatRequest([_TOOL])
    assert key(in_tools) != key(in_messages)


def test_an_orgs_entries_lie_beside_its_token_buckets() -> None:
    assert f":{{{_ORG}}}:" in key(_REQUEST)
    assert str(_RIVAL) not in key(_REQUEST)


@pytest.mark.parametrize(
    "wire", [{"stream": True}, {"stream_options": {"include_usage": True}}], ids=["stream", "options"]
)
def test_how_an_answer_is_sent_is_no_part_of_the_question(wire: dict[str, Any]) -> None:
    streamed = ChatRequest(_REQUEST.messages, None, [_TOOL], 100, {**_REQUEST.options, **wire})
    assert key(streamed) == key(_REQUEST)


def test_half_a_surrogate_pair_and_any_mapping_can_be_asked() -> None:
    from types import MappingProxyType

    plain = ChatRequest([{"role": "user", "content": "\ud83d"}])
    assert key(plain) == key(ChatRequest([MappingProxyType({"role": "user", "content": "\ud83d"})]))
