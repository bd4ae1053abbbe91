"""Processes that work on credit ledgers as functions would, any of which may be killed at any statement of its work."""

import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from multiprocessing.connection import wait
from typing import Any, Self
from uuid import UUID

from psycopg import Cursor
from psycopg.abc import Params, Query

from shared.billing import service
from shared.billing.model import Charged, Entry, Hold
from shared.kernel import clock, db, settings
from shared.kernel.caller import Caller
from shared.kernel.errors import RunyardError, Unavailable
from tests.nursery import Child, Nursery, Pipe

_ANSWERS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of `billing.service`, in a transaction of its own; `at` is what its clock shows."""

    name: str
    org_id: UUID
    at: datetime
    source_id: str = ""
    amount: int = 0
    part_id: str = ""
    expires_at: datetime | None = None
    lot_kind: str = ""
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Fuse:
    """Kills the worker with SIGKILL before its n-th statement from here, or right after a COMMIT was sent.

    An operation of fewer statements is done, and the worker dies before it can say so.
    """

    statement: int
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    number: int
    operation: Operation
    fuse: Fuse | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the operation answered: the code of its refusal, or what it said."""

    refused: str = ""
    said: tuple[object, ...] = ()


def perform(operation: Operation) -> Outcome:
    """Do the operation in a transaction of its own, and return its answer."""
    caller = Caller.system(operation.org_id)
    clock.now = lambda: operation.at
    deadline = time.monotonic() + _ANSWERS_WITHIN_S / 2
    while True:
        try:
            with db.tenant(caller) as tx:
                answer = _call(tx, caller, operation)
        except Unavailable:
            # On a machine with much else to do a connection may take too long: whoever asked would ask again.
            if time.monotonic() > deadline:
                raise
        except RunyardError as error:
            return Outcome(refused=error.code)
        else:
            return Outcome(said=said(answer))


def _call(tx: db.Tx, caller: Caller, operation: Operation) -> object:
    values: dict[str, Any] = {}
    if operation.name not in ("release_expired", "expire"):
        values["source_id"] = operation.source_id
    if operation.name not in ("release", "release_expired", "expire"):
        values["amount_microusd"] = operation.amount
    if operation.name in ("grant", "refund", "adjust", "charge"):
        values["reason"] = "test"
    if operation.name == "settle_part":
        values["part_id"] = operation.part_id
    if operation.name == "hold":
        values["expires_at"] = operation.expires_at
    if operation.name == "grant" and operation.lot_kind:
        values |= {
            "kind": service.LotKind(operation.lot_kind),
            "expires_at": operation.expires_at,
            "priority": operation.priority,
        }
    return getattr(service, operation.name)(tx, caller, **values)


def said(answer: object) -> tuple[object, ...]:
    """Return the part of an answer that a second delivery has to repeat."""
    match answer:
        case Entry():
            return ("entry", answer.entry_no)
        case Hold():
            return ("hold", answer.amount_microusd)
        case Charged():
            return ("charged", answer.paid_microusd, answer.owed_microusd)
        case _:
            return ("count", answer)


class _Mortal(Cursor[Any]):
    """Counts the statements of an operation, and dies at the one that its fuse names."""

    left: Fuse | None = None

    def execute(self, query: Query, params: Params | None = None, **options: Any) -> Self:
        fuse = _Mortal.left
        if fuse is not None:
            if fuse.sent and query == "COMMIT":
                self.connection.pgconn.send_query(b"COMMIT")
                die()
            if fuse.statement == 0 and not fuse.sent:
                die()
            _Mortal.left = replace(fuse, statement=fuse.statement - 1)
        return super().execute(query, params, **options)  # type: ignore[arg-type, unused-ignore]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _work(environment: Mapping[str, str], pipe: Pipe) -> None:
    """Do what comes through the pipe until it ends, and acknowledge each operation once it is committed."""
    os.environ.update(environment)
    settings.forget()
    plain = db._connection_parameters
    db._connection_parameters = lambda database: plain(database) | {"cursor_factory": _Mortal}
    with suppress(EOFError):
        while True:
            for task in pipe.recv():
                _Mortal.left = task.fuse
                outcome = perform(task.operation)
                if _Mortal.left is not None:
                    die()
                pipe.send((task.number, outcome))
    db.close()


@dataclass(slots=True)
class _Worker:
    child: Child
    todo: list[Task] = field(default_factory=list)
    kill_at: float | None = None


@dataclass(slots=True)
class Crew:
    """So many worker processes. Those killed are replaced, and what they hadn't acknowledged is delivered again."""

    environment: Mapping[str, str]
    size: int
    kills: int = 0
    _failure: Exception | None = None
    _nursery: Nursery = field(default_factory=Nursery)
    _workers: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._nursery.__enter__()
        self._workers = [_Worker(self._hire()) for _ in range(self.size)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.child.bury()
        self._nursery.__exit__()

    def do(self, tasks: Sequence[Task], *, kill_after_s: Sequence[float] = ()) -> dict[int, Outcome]:
        """Deal the tasks out, in turn, and return every task's outcome by its number.

        The first workers are killed from outside after `kill_after_s`, unless they are done by then.
        """
        if self._failure is not None:
            raise self._failure
        outcomes: dict[int, Outcome] = {}
        now = time.monotonic()
        for number, worker in enumerate(self._workers):
            worker.kill_at = now + kill_after_s[number] if number < len(kill_after_s) else None
            self._give(worker, tasks[number :: self.size])
        while any(worker.todo for worker in self._workers):
            self._listen(outcomes)
        return outcomes

    def _give(self, worker: _Worker, tasks: Sequence[Task]) -> None:
        worker.todo = list(tasks)
        if worker.todo:
            try:
                worker.child.pipe.send(worker.todo)
            except (BrokenPipeError, ConnectionResetError):
                # It was killed after it had acknowledged its last.
                self._replace(worker)

    def _listen(self, outcomes: dict[int, Outcome]) -> None:
        busy = {worker.child.pipe: worker for worker in self._workers if worker.todo}
        deadlines = [worker.kill_at for worker in busy.values() if worker.kill_at is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else _ANSWERS_WITHIN_S
        ready = wait(list(busy), timeout=patience)
        if not ready and not deadlines:
            raise TimeoutError(f"{len(busy)} workers don't answer")
        for pipe, worker in busy.items():
            if pipe in ready:
                self._hear(worker, outcomes)
        for worker in busy.values():
            if worker.kill_at is not None and worker.kill_at <= time.monotonic():
                worker.kill_at = None
                if worker.todo:
                    worker.child.kill()

    def _hear(self, worker: _Worker, outcomes: dict[int, Outcome]) -> None:
        try:
            number, outcome = worker.child.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._replace(worker)
            return
        outcomes[number] = outcome
        worker.todo.pop(0)

    def _replace(self, worker: _Worker) -> None:
        code = worker.child.bury()
        if code != -signal.SIGKILL:
            self._failure = RuntimeError(f"a worker ended by itself, with {code}, during {worker.todo[0].operation}")
            raise self._failure
        self.kills += 1
        worker.child = self._hire()
        self._give(worker, [replace(worker.todo[0], fuse=None), *worker.todo[1:]])

    def _hire(self) -> Child:
        return self._nursery.fork(partial(_work, dict(self.environment)))


def random_fuse(chance: random.Random) -> Fuse:
    """Return a fuse that ends anywhere from before the first statement to after the acknowledged commit."""
    return Fuse(chance.randrange(10), sent=chance.random() < 0.25)
