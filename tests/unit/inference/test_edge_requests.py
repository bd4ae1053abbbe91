"""What the edge makes of a request's body: what is asked, or the first fault by its name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inference.edge import reading
from shared.inference.edge.reading import ClientGone
from shared.inference.edge.responses_asking import chat_request
from shared.inference.edge.responses_schemas import CreateResponse
from shared.inference.errors import NotServed
from shared.inference.model import ChatRequest
from shared.inference.schemas import CreateChatCompletion
from shared.kernel.errors import InvalidRequest, PayloadTooLarge
from tests.in_loop import run

HELLO: dict[str, Any] = {"role": "user", "content": "hello"}
IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "https://example.com/x.png", "detail": "low"}}


def chat(**body: Any) -> ChatRequest:
    raw = json.dumps({"messages": [HELLO], **body}).encode()
    return reading.parse(CreateChatCompletion, raw).request()


def respond(**body: Any) -> ChatRequest:
    return chat_request(reading.parse(CreateResponse, json.dumps({"input": "hello", **body}).encode()))


def test_parameters_are_handed_on_as_they_were_sent_and_the_gateways_own_are_not() -> None:
    asked = chat(
        temperature=0.25,
        stop=["x"],
        seed=7,
        max_tokens=9,
        stream=True,
        n=1,
        store=False,
        metadata={"a": "b"},
        user=None,
    )
    assert asked.options == {"temperature": 0.25, "stop": ["x"], "seed": 7}
    assert asked.max_output_tokens == 9


def test_an_answers_message_may_be_sent_back_with_whatever_the_provider_put_in() -> None:
    call = {"id": "c", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{}", "x": 1}}
    said = {"role": "assistant", "content": None, "tool_calls": [call], "annotations": [], "audio": None}

    assert chat(messages=[HELLO, said]).messages[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }


def test_images_are_taken_by_https_and_as_data() -> None:
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "what?"}, IMAGE, data]}])
    assert asked.messages[0]["content"] == [{"type": "text", "text": "what?"}, IMAGE, data]
    assert asked.images == 2


@pytest.mark.parametrize("url", ["http://169.254.169.254/x.png", "file:///etc/passwd", "data:text/html,x", "x.png"])
def test_other_addresses_of_images_are_refused(url: str) -> None:
    image = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(InvalidRequest) as refused:
        chat(messages=[{"role": "user", "content": [image]}])
    assert "image_url.url" in (refused.value.param or "")


@pytest.mark.parametrize("kind", ["input_audio", "file", "video_url"])
def test_sound_and_files_are_not_served_and_the_error_says_so(kind: str) -> None:
    with pytest.raises(NotServed, match=kind) as refused:
        chat(messages=[{"role": "user", "content": [{"type": kind, kind: {}}]}])
    assert refused.value.code == "not_supported_by_provider"
    assert (refused.value.param or "").startswith("messages.0")


def test_what_openai_has_no_parameter_for_is_kept_by_name_until_it_is_known_who_is_asked() -> None:
    asked = chat(top_k=7, temperature=0.5, seed=None, chat_template_kwargs={"thinking": False})
    assert asked.options == {"temperature": 0.5, "top_k": 7, "chat_template_kwargs": {"thinking": False}}
    assert asked.beyond == {"top_k", "chat_template_kwargs"}
    assert asked.most_input_tokens() > chat().most_input_tokens()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"store": True}, "store"),
        ({"modalities": ["audio"]}, "modalities.0"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"model": "x" * 201}, "model"),
    ],
    ids=["no messages", "two answers", "no tokens", "kept", "sound", "role", "long name"],
)
def test_the_field_at_fault_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat(**body)
    assert (refused.value.code, refused.value.param) == ("invalid_request", param)
    assert refused.value.message.startswith(param)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"messages": [{"role": "user", "content": "a\\u0000b"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"a": {"\\u0000": 1}}}',
    ],
    ids=["empty", "cut", "list", "null", "no UTF-8", "NUL", "surrogate", "NUL deep inside"],
)
def test_what_is_no_json_or_cannot_be_stored_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        reading.parse(CreateChatCompletion, raw)
    assert refused.value.param is None


def test_a_backslash_before_what_looks_like_a_nul_is_text() -> None:
    assert chat(messages=[{"role": "user", "content": "\\u0000"}]).messages[0]["content"] == "\\u0000"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=9))
def test_no_body_does_more_than_be_refused(body: object) -> None:
    for schema in (CreateChatCompletion, CreateResponse):
        with pytest.raises(InvalidRequest):
            reading.parse(schema, json.dumps(body).encode())


class Sent:
    """A request's body, in pieces; without an end the client hangs up."""

    def __init__(self, *pieces: bytes, ends: bool = True) -> None:
        self.left = [
            {"type": "http.request", "body": piece, "more_body": at < len(pieces) - 1 or not ends}
            for at, piece in enumerate(pieces)
        ]

    async def __call__(self) -> dict[str, Any]:
        return self.left.pop(0) if self.left else {"type": "http.disconnect"}


def test_a_body_is_read_to_its_end() -> None:
    assert run(reading.body(Sent(b"ab", b"", b"c"), {})) == b"abc"


@pytest.mark.parametrize(
    ("sent", "headers"),
    [
        (Sent(), {"content-length": str(reading.MOST_BYTES + 1)}),
        (Sent(b"x" * (reading.MOST_BYTES + 1)), {}),
        (Sent(*[b"x" * 1_000_000] * 11), {}),
    ],
    ids=["announced", "in one piece", "in pieces"],
)
def test_ten_megabytes_are_the_most(sent: Sent, headers: dict[str, str]) -> None:
    with pytest.raises(PayloadTooLarge):
        run(reading.body(sent, headers))


def test_whoever_hangs_up_before_the_end_gets_no_answer() -> None:
    with pytest.raises(ClientGone):
        run(reading.body(Sent(b"{", ends=False), {}))


def test_a_text_and_instructions_are_a_conversation() -> None:
    asked = respond(instructions="Be brief.", model="m", max_output_tokens=5)
    assert asked.messages == [{"role": "system", "content": "Be brief."}, HELLO]
    assert (asked.model, asked.max_output_tokens) == ("m", 5)


def test_a_turn_of_text_thoughts_and_two_calls_is_one_message_and_its_results_follow() -> None:
    asked = respond(
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "b", "annotations": []}],
            },
            {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "2", "name": "g", "arguments": "[]"},
            {"type": "function_call_output", "call_id": "1", "output": "x"},
            {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "y"}]},
            {"role": "assistant", "content": "c"},
            {"role": "developer", "content": "d"},
        ]
    )
    called = [("1", "f", "{}"), ("2", "g", "[]")]
    assert asked.messages == [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {
            "role": "assistant",
            "content": "b",
            "tool_calls": [
                {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
                for id_, name, arguments in called
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "x"},
        {"role": "tool", "tool_call_id": "2", "content": "y"},
        {"role": "assistant", "content": "c"},
        {"role": "developer", "content": "d"},
    ]


def test_tools_formats_and_parameters_have_their_other_names() -> None:
    schema = {"type": "object", "properties": {}}
    asked = respond(
        tools=[{"type": "function", "name": "f", "description": "d", "parameters": schema, "strict": True}],
        tool_choice={"type": "function", "name": "f"},
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        temperature=0.5,
        parallel_tool_calls=False,
        include=["reasoning.encrypted_content"],
        store=False,
        truncation="disabled",
        metadata={"a": "b"},
    )
    assert asked.tools == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": True}}
    ]
    assert asked.options == {
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
        "verbosity": "low",
        "reasoning_effort": "low",
        "temperature": 0.5,
        "parallel_tool_calls": False,
    }


def test_an_image_keeps_its_address_and_detail() -> None:
    part = {"type": "input_image", "image_url": "https://example.com/x.png", "detail": "low"}
    assert respond(input=[{"role": "user", "content": [part]}]).messages[0]["content"] == [IMAGE]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input.0.content.0"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]},
            "input.0.content.0",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_needs_kept_answers_or_hosted_tools_is_not_served(body: dict[str, Any], param: str) -> None:
    with pytest.raises(NotServed) as refused:
        respond(**body)
    assert refused.value.param == param


def test_a_file_in_a_response_is_not_served() -> None:
    with pytest.raises(NotServed, match="input_file"):
        respond(input=[{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"inputs": "x"}, "inputs"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
    ],
    ids=["nothing", "misspelt", "no schema", "no name"],
)
def test_a_faulty_response_names_the_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        respond(**body)
    assert (refused.value.code, refused.value.param) == ("invalid_request", param)
