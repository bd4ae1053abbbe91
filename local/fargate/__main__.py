"""`python -m local.fargate`: run the stand-in for the home that the environment describes, until SIGTERM."""

import asyncio
import logging
import signal
import sys

from local.errors import HomeError
from local.fargate.agent import Agent
from local.fargate.ecs import Ecs
from local.fargate.host import Host
from local.fargate.log import set_up
from local.fargate.sandbox_environment import SandboxEnvironment, ensure_sandbox_environment
from local.fargate.started_tasks import StartedTasks
from local.fargate.task_events import TaskEvents
from local.settings import Home, read_home

logger = logging.getLogger("local.fargate")


def main() -> int:
    """Return 0 after SIGTERM, 1 when the sandboxes' environment cannot be built."""
    set_up()
    try:
        home = read_home()
        home.run.mkdir(parents=True, exist_ok=True)
        environment = ensure_sandbox_environment(home)
    except HomeError as error:
        logger.error("%s %s", error.message, error.hint)  # noqa: TRY400 - the message says it all
        return 1
    asyncio.run(_serve(home, environment))
    return 0


async def _serve(home: Home, environment: SandboxEnvironment) -> None:
    host = Host(home, environment)
    await host.prepare()
    ecs, events = Ecs(home.emulator_url), TaskEvents(home.emulator_url)
    agent = Agent(host, ecs, events, StartedTasks(home.run / "fargate-tasks"))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, agent.stop)
    logger.info("following ECS at %s", home.emulator_url)
    # `up` waits for this file, which it removes before each start.
    (home.run / "fargate.ready").touch()
    try:
        await agent.run()
    finally:
        await host.close()
    logger.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
