"""The stand-in's loop: keeps the containers of this machine in step with the tasks that ECS wants."""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.fargate.container import Container
from local.fargate.ecs import Ecs, Task
from local.fargate.host import CannotStartError, Host
from local.fargate.started_tasks import StartedTask, StartedTasks
from local.fargate.task_events import TaskEvents, TaskStopped

_POLL_S = 0.1
_IDLE_POLL_S = 0.25
_IDLE_AFTER_S = 60.0
_CLUSTERS_EVERY_S = 1.0
_UNREACHABLE_PAUSE_S = 1.0
_STOP_GRACE_S = 10.0
# When the stand-in itself is being stopped, by someone who will not wait for long.
_LAST_GRACE_S = 4.0
# An emulator that has just come back may not have read all its state yet.
_FORGOTTEN_AFTER_S = 3.0
_LONGEST_REPORT_PAUSE_S = 5.0
_REMEMBERED_ENDS = 10_000
_LOST = "The machine's Fargate stand-in was restarted"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """A task in the stand-in's hands."""

    cluster_arn: str
    runner: asyncio.Task[None] | None = None
    stop_reason: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    missing_since: float | None = None

    def stop(self, reason: str) -> None:
        if not self.stop_reason.done():
            self.stop_reason.set_result(reason)


class Agent:
    """Starts what is wanted, stops what is not, reports every end once ECS and the event's queues have taken it."""

    def __init__(self, host: Host, ecs: Ecs, events: TaskEvents, started: StartedTasks) -> None:
        self._host = host
        self._ecs = ecs
        self._events = events
        self._started = started
        self._tasks: dict[str, _Running] = {}
        # A list of tasks may have been asked for before an end was reported, and arrive after it.
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._clusters: list[str] = []
        self._clusters_at = float("-inf")
        self._busy_at = time.monotonic()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `run` in good order."""
        self._stopping.set()

    async def run(self) -> None:
        """Follow ECS until `stop`; then stop every container and report what can be reported."""
        for lost in self._started.all():
            logger.info("task %s died with an earlier life of the stand-in", lost.arn)
            self._track(lost.arn, _Running(lost.cluster_arn), self._report_lost(lost))
        reachable = True
        while not self._stopping.is_set():
            try:
                await self._follow()
                pause = _IDLE_POLL_S if time.monotonic() - self._busy_at > _IDLE_AFTER_S else _POLL_S
                if not reachable:
                    logger.info("the emulator answers again")
                reachable = True
            except (BotoCoreError, ClientError) as error:
                if reachable:
                    logger.warning("the emulator does not answer, trying on: %s", type(error).__name__)
                    self._ecs.forget_definitions()
                reachable, pause = False, _UNREACHABLE_PAUSE_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
        for running in self._tasks.values():
            running.stop("The Fargate stand-in is being stopped")
        await asyncio.gather(*(running.runner for running in self._tasks.values() if running.runner))

    async def _follow(self) -> None:
        if time.monotonic() - self._clusters_at > _CLUSTERS_EVERY_S:
            self._clusters = await asyncio.to_thread(self._ecs.clusters)
            self._clusters_at = time.monotonic()
        wanted = await asyncio.to_thread(self._ecs.wanted, self._clusters)
        new = {arn: cluster for arn, cluster in wanted.items() if arn not in self._tasks and arn not in self._ended}
        if new:
            self._busy_at = time.monotonic()
            for task in await asyncio.to_thread(self._ecs.describe, new):
                running = _Running(task.cluster_arn)
                self._track(task.arn, running, self._run_task(task, running))
        for arn, running in list(self._tasks.items()):
            if arn in wanted:
                running.missing_since = None
            elif not running.stop_reason.done():
                await self._not_wanted(arn, running)

    async def _not_wanted(self, arn: str, running: _Running) -> None:
        recorded = await asyncio.to_thread(self._ecs.recorded_stop, arn, running.cluster_arn)
        running.missing_since = running.missing_since or time.monotonic()
        if recorded is None:
            return
        if recorded.known or time.monotonic() - running.missing_since >= _FORGOTTEN_AFTER_S:
            running.stop(recorded.reason)

    def _track(self, arn: str, running: _Running, work: Awaitable[None]) -> None:
        async def tracked() -> None:
            try:
                await work
            except Exception:
                logger.exception("task %s failed in the stand-in", arn)
            self._ended[arn] = None
            if len(self._ended) > _REMEMBERED_ENDS:
                self._ended.popitem(last=False)
            self._tasks.pop(arn, None)

        self._tasks[arn] = running
        running.runner = asyncio.create_task(tracked())

    async def _run_task(self, task: Task, running: _Running) -> None:
        started = StartedTask.of(task)
        self._started.add(started)
        try:
            async with self._host.container(task) as container:
                logger.info("started task %s", task.id, extra={"sandbox": task.sandbox_id})
                stopped = await self._until_stopped(started, running, container)
        except CannotStartError as error:
            logger.error("task %s cannot be started: %s", task.id, error)  # noqa: TRY400
            stopped = _stopped(started, "TaskFailedToStart", f"CannotStartContainerError: {error}", None)
        logger.info("task %s stopped: %s", task.id, stopped.reason, extra={"sandbox": task.sandbox_id})
        await self._report(started, stopped)

    async def _until_stopped(self, task: StartedTask, running: _Running, container: Container) -> TaskStopped:
        ending = asyncio.create_task(container.wait())
        either: set[asyncio.Future[Any]] = {ending, running.stop_reason}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not running.stop_reason.done():
            end = ending.result()
            reason = end.reason or "Essential container in task exited"
            return _stopped(task, "EssentialContainerExited", reason, end.exit_code)
        container.terminate()
        await asyncio.wait({ending}, timeout=_LAST_GRACE_S if self._stopping.is_set() else _STOP_GRACE_S)
        if not ending.done():
            await container.kill()
        return _stopped(task, "UserInitiated", running.stop_reason.result(), (await ending).exit_code)

    async def _report_lost(self, task: StartedTask) -> None:
        await self._report(task, _stopped(task, "TerminationNotice", _LOST, None))

    async def _report(self, task: StartedTask, stopped: TaskStopped) -> None:
        """Tell ECS and the queues until both have it; a stand-in that must stop leaves it to its next life."""
        pause = 0.1
        while True:
            try:
                await asyncio.to_thread(self._ecs.report_stopped, task.arn, task.cluster_arn, stopped.reason)
                await asyncio.to_thread(self._events.deliver, stopped)
            except (BotoCoreError, ClientError) as error:
                if self._stopping.is_set():
                    logger.warning("the end of task %s is reported at the next start", task.arn)
                    return
                logger.warning("the end of task %s is not reported yet: %s", task.arn, type(error).__name__)
            else:
                self._started.remove(task)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_REPORT_PAUSE_S)


def _stopped(task: StartedTask, stop_code: str, reason: str, exit_code: int | None) -> TaskStopped:
    return TaskStopped(
        task_arn=task.arn,
        cluster_arn=task.cluster_arn,
        definition_arn=task.definition_arn,
        container_name=task.container_name,
        sandbox_id=task.sandbox_id,
        stop_code=stop_code,
        reason=reason,
        exit_code=exit_code,
        started_by=task.started_by,
    )
