"""What the deployed functions log, read from the emulator's CloudWatch Logs as one would in AWS."""

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import client_of
from local.errors import HomeError
from local.settings import STACK_PREFIX, Home

_GROUPS: Final = f"/aws/lambda/{STACK_PREFIX}"
_BETWEEN_LOOKS_S: Final = 1.0
# Lambda's own lines about each invocation tell nothing that the function's line does not.
_LAMBDAS_OWN: Final = ("START RequestId", "END RequestId", "REPORT RequestId", "INIT_START")


def lines(home: Home, *, last: int, follow: bool) -> Iterator[str]:
    """Yield the last lines of all functions together, oldest first, and then, if asked, what is written from now on.

    Raises `HomeError` when the emulator doesn't answer.
    """
    since = 0
    try:
        while True:
            events = sorted(chain.from_iterable(_events(home, since)), key=lambda event: event[0])
            yield from (text for _, text in (events[-last:] if since == 0 else events))
            if not follow:
                return
            since = max((moment for moment, _ in events), default=since - 1) + 1
            time.sleep(_BETWEEN_LOOKS_S)
    except (BotoCoreError, ClientError) as error:
        raise HomeError(
            "The functions' logs are in the emulator, which doesn't answer.", hint="`make status` tells more."
        ) from error


def _events(home: Home, since_ms: int) -> Iterator[Iterator[tuple[int, str]]]:
    logs = client_of(home, "logs")
    for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=_GROUPS):
        for group in page["logGroups"]:
            yield _of_group(logs, group["logGroupName"], since_ms)


def _of_group(logs: Any, name: str, since_ms: int) -> Iterator[tuple[int, str]]:
    function = name.removeprefix(_GROUPS)
    for page in logs.get_paginator("filter_log_events").paginate(logGroupName=name, startTime=since_ms):
        for event in page["events"]:
            text = event["message"].rstrip()
            if not text.startswith(_LAMBDAS_OWN):
                yield event["timestamp"], f"{function:<24}{text}"
