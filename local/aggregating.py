"""`make aggregate`: has the home's state machine add up days of usage, those touched or those of a range, and waits."""

import json
import time
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import client_of
from local.errors import HomeError
from local.settings import ACCOUNT, REGION, STACK_PREFIX, Home
from local.terminal import Terminal

_MACHINE: Final = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{STACK_PREFIX}aggregate-usage"
_LOOK_EVERY_S: Final = 0.3


def aggregate(home: Home, terminal: Terminal, **asked: str | None) -> int:
    """Print how many orgs were added up, or what stood in the way, and return 1. `asked` is since, until and org_id."""
    states = client_of(home, "stepfunctions")
    given = json.dumps({name: value for name, value in asked.items() if value})
    try:
        arn = states.start_execution(stateMachineArn=_MACHINE, input=given)["executionArn"]
        ended = _ended(states, arn)
    except (BotoCoreError, ClientError) as error:
        raise HomeError(
            f"The home's state machine can't be started: {error}", hint="`make up` starts and deploys the home."
        ) from error
    if ended["status"] == "SUCCEEDED":
        terminal.say(f"aggregate: orgs={json.loads(ended['output'])['orgs']} ok")
        return 0
    terminal.say(f"aggregate: {ended.get('error', ended['status'])}: {_message(ended.get('cause', ''))}")
    return 1


def _ended(states: Any, arn: str) -> dict[str, Any]:
    while (found := states.describe_execution(executionArn=arn))["status"] == "RUNNING":
        time.sleep(_LOOK_EVERY_S)
    ended: dict[str, Any] = found
    return ended


def _message(cause: str) -> str:
    """Return the error's message; Lambda wraps it in JSON."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return cause
