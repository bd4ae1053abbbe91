"""AWS clients, made on first use: importing boto3 takes a third of a second that not every invocation needs."""

from functools import cache
from typing import Any


@cache
def client(service: str) -> Any:
    """Return the process's client of a service, e.g. `client("ecs")`; its adapter says which type it is."""
    import boto3
    from botocore.config import Config

    # Ten connections are kept by default; a step that waits longer than this for AWS is better retried.
    return boto3.client(service, config=Config(connect_timeout=3, read_timeout=20, retries={"max_attempts": 3}))  # type: ignore[call-overload]
