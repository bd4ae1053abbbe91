"""Each call's one line: OpenTelemetry's names, CloudWatch's metrics, and nothing of what was said."""

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.inference import reporting
from shared.inference.calls import CacheStatus, Call, Operation, Outcome, Tokens
from shared.kernel import clock, ids

SAID = "the merger is on Friday"
CALL = Call(
    id=ids.new(),
    source_id="api:1",
    operation=Operation.CHAT,
    model="gpt-5-mini",
    tokens=Tokens(input=100, cached=40, output=20),
    cost_microusd=7,
    latency_ms=350,
    answer={"choices": [{"message": {"content": SAID}}]},
    created_at=clock.now(),
    request_id="req_1",
    provider="api.openai.com",
    route="support",
    cache=CacheStatus.MISS,
    first_token_ms=90,
    finish_reason="stop",
    prompt={"messages": [{"content": SAID}]},
)


def line(capsys: pytest.CaptureFixture[str], call: Call, *, own: bool = False) -> dict[str, Any]:
    reporting.report(call, own_provider=own)
    [written] = capsys.readouterr().out.splitlines()
    assert SAID not in written
    told: dict[str, Any] = json.loads(written)
    return told


def test_a_call_is_told_by_the_names_of_opentelemetry(capsys: pytest.CaptureFixture[str]) -> None:
    told = line(capsys, CALL)

    assert {name: value for name, value in told.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "api.openai.com",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.client.operation.duration": 350,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.server.time_to_first_token": 90,
    }
    assert (told["message"], told["request_id"], told["runyard.route"]) == ("model called", "req_1", "support")
    assert "error.type" not in told


def test_every_metric_and_dimension_is_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    told = line(capsys, CALL)

    [directive] = told["_aws"]["CloudWatchMetrics"]
    assert all(isinstance(told[metric["Name"]], int | float) for metric in directive["Metrics"])
    assert all(isinstance(told[name], str) for dimensions in directive["Dimensions"] for name in dimensions)


@pytest.mark.parametrize(
    ("cache", "counted"),
    [(CacheStatus.HIT, "cache_hits"), (CacheStatus.MISS, "cache_misses"), (CacheStatus.STALE, "cache_stale")],
    ids=["hit", "miss", "stale"],
)
def test_what_the_cache_did_is_counted(capsys: pytest.CaptureFixture[str], cache: CacheStatus, counted: str) -> None:
    told = line(capsys, replace(CALL, cache=cache))

    counts = {name: told[f"runyard.{name}"] for name in ("cache_hits", "cache_misses", "cache_stale")}
    assert counts == dict.fromkeys(counts, 0) | {counted: 1}


def test_a_failure_is_told_by_its_code_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    told = line(capsys, replace(CALL, outcome=Outcome.BROKEN, error_code="stream_broken", first_token_ms=None))

    assert (told["error.type"], told["runyard.failed"]) == ("stream_broken", 1)
    [directive] = told["_aws"]["CloudWatchMetrics"]
    assert "gen_ai.server.time_to_first_token" not in {metric["Name"] for metric in directive["Metrics"]}


def test_a_tenants_own_names_are_no_dimensions(capsys: pytest.CaptureFixture[str]) -> None:
    told = line(capsys, replace(CALL, provider="acme-private", model="acme-private/llama"), own=True)

    assert (told["gen_ai.provider.name"], told["gen_ai.request.model"]) == ("own", "own")
