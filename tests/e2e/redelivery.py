"""Delivers every step of a run to its function once more than the state machine does."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

from tests.e2e.deployed import Deployed, execution_arn, uuid_of

_FUNCTION_OF_STATE = {
    "Prepare": "steps-prepare",
    "LaunchSandbox": "steps-launch-sandbox",
    "Think": "steps-think",
    "CallTools": "steps-act",
    "Finish": "steps-finish",
    "Recover": "steps-recover",
    "Fail": "steps-fail",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One invocation of a step's function; `error` is the name of the error it ended with, if any."""

    function: str
    payload: dict[str, Any]
    error: str | None = None


@dataclass(slots=True)
class Redelivery:
    """While the block lasts, each state that the run's execution enters is delivered again, beside the first time."""

    home: Deployed
    run_id: str
    delivered: list[Delivery] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))
    _watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._watcher = threading.Thread(target=self._watch, name="redelivery")
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._watcher is not None:
            self._watcher.join()
        self._pool.shutdown()

    def deliver(self, delivery: Delivery) -> Delivery:
        """Invoke the function and return how that went."""
        answer = self.home.aws("lambda").invoke(
            FunctionName=f"runyard-local-{delivery.function}", Payload=json.dumps(delivery.payload)
        )
        body = json.loads(answer["Payload"].read() or "null")
        error = body["errorType"] if answer.get("FunctionError") else None
        done = Delivery(delivery.function, delivery.payload, error)
        self.delivered.append(done)
        return done

    def _watch(self) -> None:
        client = self.home.aws("stepfunctions")
        arn = execution_arn(self.home, self.run_id)
        seen = 0
        is_over = False
        while not is_over:
            # Once more after the end, so that no state is missed.
            is_over = self._over.wait(0.03)
            try:
                pages = list(client.get_paginator("get_execution_history").paginate(executionArn=arn))
            except client.exceptions.ExecutionDoesNotExist:
                continue
            entered = [event for page in pages for event in page["events"] if "stateEnteredEventDetails" in event]
            for event in entered[seen:]:
                details = event["stateEnteredEventDetails"]
                for delivery in self._deliveries(details["name"], json.loads(details["input"])):
                    self._pool.submit(self.deliver, delivery)
            seen = len(entered)

    def _deliveries(self, state: str, given: dict[str, Any]) -> Iterator[Delivery]:
        """Return what the state machine sends its function in this state; a Map sends something for each item."""
        if state not in _FUNCTION_OF_STATE:
            return
        function = _FUNCTION_OF_STATE[state]
        payload = {"org_id": given["org_id"], "run_id": given["run_id"]}
        match state:
            case "Think":
                yield Delivery(function, payload | {"step_no": given["step_no"]})
            case "CallTools":
                for call_no in given["thought"]["calls"]:
                    yield Delivery(function, payload | {"step_no": given["thought"]["step_no"], "call_no": call_no})
            case "LaunchSandbox":
                yield Delivery(function, payload | {"task_token": self._task_token()})
            case "Recover":
                yield Delivery(function, payload | {"error": given["error"]})
            case _:
                yield Delivery(function, payload)

    def _task_token(self) -> str:
        """Return the token of the first delivery, which the history does not tell, as soon as it has arrived."""
        while not self._over.wait(0.01):
            rows = self.home.rows("SELECT wake_token FROM sandboxes WHERE run_id = %s", uuid_of(self.run_id))
            if rows and rows[0]["wake_token"]:
                return str(rows[0]["wake_token"])
        raise AssertionError("the run's sandbox was never asked for")
