"""What a model call may cost, known before it is made."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inference.calls import Call, Operation, Tokens
from shared.inference.model import (
    MOST_IMAGE_TOKENS,
    ChatRequest,
    Completion,
    ToolCall,
    affordable_output,
    most_embedding_tokens,
    shares,
)
from shared.kernel import clock, ids


@given(
    prompt=st.integers(0, 10_000),
    per_token=st.integers(0, 500),
    wanted=st.integers(1, 5_000),
    budget=st.integers(0, 2_000_000),
)
def test_the_affordable_output_is_the_greatest_that_fits(prompt: int, per_token: int, wanted: int, budget: int) -> None:
    def price(output: int) -> int:
        return prompt + per_token * output

    found = affordable_output(price, wanted=wanted, budget_microusd=budget)

    assert 0 <= found <= wanted
    assert found == 0 or price(found) <= budget
    assert found == wanted or price(found + 1) > budget


@given(st.lists(st.integers(0, 1_000)), st.integers(0, 1_500))
def test_shares_add_up_to_the_total_or_to_the_most_that_may_be_charged(costs: list[int], most: int) -> None:
    found = shares(costs, most=most)

    assert sum(found) == min(sum(costs), most)
    assert all(0 <= share <= cost for share, cost in zip(found, costs, strict=True))


@given(st.text(st.characters(codec="utf-8")))
def test_no_prompt_has_more_tokens_than_its_bytes(text: str) -> None:
    request = ChatRequest(messages=[{"role": "user", "content": text}])
    assert request.most_input_tokens() >= len(text.encode())


def test_tools_and_a_schema_count_as_input() -> None:
    tool = {"type": "function", "function": {"name": "run", "parameters": {"type": "object"}}}
    schema = {"response_format": {"type": "json_schema", "json_schema": {"name": "x" * 500}}}
    messages = [{"role": "user", "content": "hi"}]

    plain = ChatRequest(messages=messages).most_input_tokens()

    assert ChatRequest(messages=messages, tools=[tool]).most_input_tokens() >= plain + len(json.dumps(tool))
    assert ChatRequest(messages=messages, options=schema).most_input_tokens() >= plain + 500


def test_an_image_counts_by_its_pixels_and_not_by_the_length_of_its_data() -> None:
    def most(url: str) -> int:
        part = {"type": "image_url", "image_url": {"url": url}}
        return ChatRequest(messages=[{"role": "user", "content": [part]}]).most_input_tokens()

    assert most("https://example.com/x.png") == most("data:image/png;base64," + "A" * 1_000_000) >= MOST_IMAGE_TOKENS


@pytest.mark.parametrize(("texts", "least"), [(["abc"], 3), (["é", "🙂"], 6)])
def test_embeddings_are_bounded_by_their_bytes(texts: list[str], least: int) -> None:
    assert most_embedding_tokens(texts) >= least


def test_the_assistants_message_can_be_sent_back_without_a_providers_extras() -> None:
    call = {"id": "call_1", "index": 0, "type": "function", "function": {"name": "run", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call], "annotations": [], "reasoning": "hm"}
    answer = {"choices": [{"index": 0, "message": said, "finish_reason": "tool_calls"}]}

    completion = Completion(
        Call(
            id=ids.new(),
            source_id="s",
            operation=Operation.CHAT,
            model="m",
            tokens=Tokens(input=1, cached=0, output=1),
            cost_microusd=1,
            latency_ms=1,
            answer={},
            created_at=clock.now(),
        ),
        answer,
    )

    assert completion.message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "run", "arguments": "{}"}}],
    }
    assert completion.tool_calls == (ToolCall(id="call_1", name="run", arguments="{}"),)
    assert (completion.text, completion.finish_reason) == ("", "tool_calls")
