"""One log line for each call, by OpenTelemetry's names for generative AI, from which CloudWatch also takes its metrics.

Source of the names: OpenTelemetry semantic conventions for generative AI,
https://opentelemetry.io/docs/specs/semconv/gen-ai/. The line is in CloudWatch's embedded metric format.
"""

from typing import Any

from shared.inference.calls import Call, Outcome
from shared.kernel import clock, settings
from shared.kernel.telemetry import write_line

_DIMENSIONS = [["stage", "gen_ai.provider.name", "gen_ai.request.model"], ["stage"]]
_METRICS = [
    {"Name": "gen_ai.client.operation.duration", "Unit": "Milliseconds"},
    {"Name": "gen_ai.usage.input_tokens", "Unit": "Count"},
    {"Name": "gen_ai.usage.output_tokens", "Unit": "Count"},
    {"Name": "runyard.cost_microusd", "Unit": "Count"},
    {"Name": "runyard.cache_hits", "Unit": "Count"},
    {"Name": "runyard.cache_misses", "Unit": "Count"},
    {"Name": "runyard.cache_stale", "Unit": "Count"},
    {"Name": "runyard.failed", "Unit": "Count"},
]
_FIRST_TOKEN: dict[str, str] = {"Name": "gen_ai.server.time_to_first_token", "Unit": "Milliseconds"}
# Its tenants' own names of providers and models are not the platform's to count by.
_OWN = "own"


def report(call: Call, *, own_provider: bool) -> None:
    """Write down that the call was made: ids, counts and durations, never what was said."""
    fields: dict[str, Any] = {
        "_aws": {
            "Timestamp": int(clock.now().timestamp() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": "Runyard",
                    "Dimensions": _DIMENSIONS,
                    "Metrics": _METRICS if call.first_token_ms is None else [*_METRICS, _FIRST_TOKEN],
                }
            ],
        },
        "stage": settings.stage(),
        "request_id": call.request_id,
        "source_id": call.source_id,
        "gen_ai.operation.name": call.operation.value,
        "gen_ai.provider.name": _OWN if own_provider else call.provider,
        "gen_ai.request.model": _OWN if own_provider else call.model,
        "gen_ai.usage.input_tokens": call.tokens.input,
        "gen_ai.usage.output_tokens": call.tokens.output,
        "gen_ai.client.operation.duration": call.latency_ms,
        "gen_ai.response.finish_reasons": [call.finish_reason] if call.finish_reason else [],
        "runyard.route": call.route,
        "runyard.queue_ms": call.queue_ms,
        "runyard.attempts": call.attempts,
        "runyard.cost_microusd": call.cost_microusd,
        "runyard.estimated": call.estimated,
        "runyard.cache": call.cache.value,
        "runyard.cache_hits": int(call.cache == "hit"),
        "runyard.cache_misses": int(call.cache == "miss"),
        "runyard.cache_stale": int(call.cache == "stale"),
        "runyard.outcome": call.outcome.value,
        "runyard.failed": int(call.outcome in (Outcome.FAILED, Outcome.BROKEN)),
    }
    if call.first_token_ms is not None:
        fields["gen_ai.server.time_to_first_token"] = call.first_token_ms
    if call.error_code is not None:
        fields["error.type"] = call.error_code
    write_line("model called", fields)
