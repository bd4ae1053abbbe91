"""Logs, metrics and traces by Powertools: one logger for every function, metrics in CloudWatch's embedded format."""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel import settings

# Service, namespace and level come from POWERTOOLS_* variables. Bodies, tokens and secrets are never logged: what is
# logged is ids, codes, counts and durations.
logger = Logger()

_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode

type Handler = Callable[[dict[str, Any], LambdaContext], Any]


def write_line(message: str, fields: Mapping[str, Any]) -> None:
    """Write one line as `logger.info` does, for what is written so often that its formatting would be felt.

    Of the logger's context it has the service alone. Fields named `_aws` make metrics of others.
    """
    if logger.log_level > logging.INFO:
        return
    at = datetime.now(UTC).isoformat(sep=" ", timespec="milliseconds")
    line = {"level": "INFO", "message": message, "timestamp": at, "service": logger.service, **fields}
    # In one piece: threads that write at once don't mix their lines.
    sys.stdout.write(f"{_encode(line)}\n")
    sys.stdout.flush()


def measure(name: str, value: float, *, unit: str = "Count", **dimensions: str) -> None:
    """Write one metric, e.g. `measure("RunEnded", 1, status="failed")`. Units are CloudWatch's names."""
    with single_metric(name=name, unit=MetricUnit(unit), value=value) as metric:
        metric.add_dimension(name="stage", value=settings.stage())
        for dimension, text in dimensions.items():
            metric.add_dimension(name=dimension, value=text)


def traced(handler: Handler) -> Handler:
    """Return the handler inside an X-Ray segment. The SDK is imported at the first call: it brings botocore along."""
    inner: list[Handler] = []

    @wraps(handler)
    def call(event: dict[str, Any], context: LambdaContext) -> Any:
        if not inner:
            from aws_lambda_powertools import Tracer

            tracer = Tracer(patch_modules=["botocore"])
            inner.append(tracer.capture_lambda_handler(handler, capture_response=False, capture_error=False))
        return inner[0](event, context)

    return call


def invoked(handler: Handler) -> Handler:
    """Return the handler of a step, queue or schedule with its log context, one closing log line and its trace."""

    @wraps(handler)
    def call(event: dict[str, Any], context: LambdaContext) -> Any:
        logger.clear_state()
        logger.append_keys(
            request_id=context.aws_request_id,
            **{key: event[key] for key in ("org_id", "run_id", "step_no", "call_no") if key in event},
        )
        try:
            answer = handler(event, context)
        except Exception as error:
            logger.warning("raised", extra={"error": type(error).__name__})
            raise
        logger.info("done")
        return answer

    return traced(call)
