"""What calls cost by the usage that providers told, each against a figure worked out by hand.

The payloads have the shape that the documentation named in each has; figures are of its examples, or made up.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.billing import service as billing
from shared.inference.calls import Tokens
from shared.inference.providers import anthropic_answering, bedrock_answering, openai_provider, reading

AT = datetime(2026, 12, 1, tzinfo=UTC)
RECORDED = Path(__file__).with_name("recorded")
OPUS, SONNET, HAIKU = "claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-4-5"

# The payload, the model it is priced as, its tokens, and micro-dollars: one addend for each kind, rates being
# micro-dollars for a token. Fresh input + from the cache + put there + output; halves go to the even neighbour.
BY_HAND: dict[str, tuple[str, Tokens, int]] = {
    # 19 x 2 + 10 x 8
    "openai-plain": ("gpt-4.1", Tokens(19, 0, 10), 38 + 80),
    # 86 x 2.5 + 1,920 x 1.25 + 300 x 10
    "openai-cached": ("gpt-4o", Tokens(2_006, 1_920, 300), 215 + 2_400 + 3_000),
    # 75 x 1.25 = 93.75, and 1,186 x 10: what was thought is paid as output
    "openai-reasoning": ("gpt-5", Tokens(75, 0, 1_186, reasoning=1_024), 94 + 11_860),
    # 1,118 x 0.15 = 167.7, and 46 x 0.6 = 27.6: the image's tokens are among the input
    "openai-image": ("gpt-4o-mini", Tokens(1_118, 0, 46), 168 + 28),
    # 82 x 0.4 = 32.8, and 17 x 1.6 = 27.2
    "openai-tools": ("gpt-4.1-mini", Tokens(82, 0, 17), 33 + 27),
    # 500 x 0.25 + 1,000 x 0.025 + 200 x 2
    "openai-reasoning-cached": ("gpt-5-mini", Tokens(1_500, 1_000, 200, reasoning=150), 125 + 25 + 400),
    # 128 x 0.05 = 6.4, 2,176 x 0.005 = 10.88, and 330 x 0.4
    "openai-stream": ("gpt-5-nano", Tokens(2_304, 2_176, 330, reasoning=320), 6 + 11 + 132),
    # 8 x 0.13 = 1.04
    "openai-embedding": ("text-embedding-3-large", Tokens(8, 0, 0), 1),
    # 21 x 3, 10,318 x 3.75 = 38,692.5, and 60 x 15
    "openrouter-written": (SONNET, Tokens(10_339, 0, 60, written=10_318), 63 + 38_692 + 900),
    # 2,095 x 1 + 503 x 5
    "anthropic-plain": (HAIKU, Tokens(2_095, 0, 503), 2_095 + 2_515),
    # 21 x 3, 188,086 x 3.75 = 705,322.5, and 393 x 15
    "anthropic-written": (SONNET, Tokens(188_107, 0, 393, written=188_086), 63 + 705_322 + 5_895),
    # 21 x 3, 188,086 x 0.3 = 56,425.8, and 393 x 15
    "anthropic-read": (SONNET, Tokens(188_107, 188_086, 393), 63 + 56_426 + 5_895),
    # 2,048 x 5 + 1,800 x 0.5 + 248 x 6.25 + 503 x 25
    "anthropic-read-written": (OPUS, Tokens(4_096, 1_800, 503, written=248), 10_240 + 900 + 1_550 + 12_575),
    # 43 x 5 + 1,200 x 25
    "anthropic-thinking": ("claude-opus-4-5", Tokens(43, 0, 1_200, reasoning=1_024), 215 + 30_000),
    # 1,551 x 3 + 105 x 15: the image's tokens are among the input
    "anthropic-image": ("claude-sonnet-4-5", Tokens(1_551, 0, 105), 4_653 + 1_575),
    # 472 x 1 + 89 x 5
    "anthropic-stream": (HAIKU, Tokens(472, 0, 89), 472 + 445),
    # 125 x 0.06 = 7.5, and 60 x 0.24 = 14.4
    "bedrock-plain": ("amazon.nova-lite-v1:0", Tokens(125, 0, 60), 8 + 14),
    # 20 x 3 + 1,500 x 3.75 + 100 x 15
    "bedrock-written": (
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        Tokens(1_520, 0, 100, written=1_500),
        60 + 5_625 + 1_500,
    ),
    # 12 x 0.8 = 9.6, 2,048 x 0.2 = 409.6, and 50 x 3.2
    "bedrock-read": ("amazon.nova-pro-v1:0", Tokens(2_060, 2_048, 50), 10 + 410 + 160),
    # 47 x 0.035 = 1.645, and 20 x 0.14 = 2.8
    "bedrock-stream": ("amazon.nova-micro-v1:0", Tokens(47, 0, 20), 2 + 3),
}


def test_all_that_was_recorded_is_worked_out() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} == BY_HAND.keys()
    assert len(BY_HAND) == 20


@pytest.mark.parametrize(("name", "by_hand"), BY_HAND.items(), ids=BY_HAND.keys())
def test_a_call_costs_what_was_worked_out_by_hand(name: str, by_hand: tuple[str, Tokens, int]) -> None:
    recorded = json.loads((RECORDED / f"{name}.json").read_text())
    model, tokens, microusd = by_hand
    assert recorded["source"].startswith("https://")
    assert _tokens(recorded) == tokens
    price = billing.token_price(model, at=AT)
    cost = price.cost(
        input_tokens=tokens.input,
        cached_tokens=tokens.cached,
        written_tokens=tokens.written,
        output_tokens=tokens.output,
    )
    assert cost.total_microusd == microusd
    assert price.most(input_tokens=tokens.input, output_tokens=tokens.output) >= microusd


def _tokens(recorded: dict[str, Any]) -> Tokens | None:
    match recorded["kind"]:
        case "openai":
            return reading.read_chat(recorded["answer"]).tokens
        case "openai-embeddings":
            return reading.read_embeddings(recorded["answer"], count=1)[1]
        case "anthropic":
            return anthropic_answering.read_message(recorded["answer"]).tokens
        case "bedrock":
            return bedrock_answering.read_message(recorded["answer"], call_id="c", model="m").tokens
    readers: dict[str, Any] = {
        "openai-stream": openai_provider._Reader("key"),
        "anthropic-stream": anthropic_answering.Reader("key"),
        "bedrock-stream": bedrock_answering.Reader(call_id="c", model="m"),
    }
    reader = readers[recorded["kind"]]
    for_bytes = recorded["kind"] != "bedrock-stream"
    events = [json.dumps(event).encode() if for_bytes else event for event in recorded["events"]]
    last = [chunk for event in events for chunk in reader.read(event)][-1]
    tokens: Tokens | None = last.tokens
    return tokens
