"""What all containers of this machine share: the sandboxes' environment, bubblewrap, addresses, limits."""

import contextlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from local.fargate.bubblewrap import JailUnavailableError, working_bubblewrap
from local.fargate.container import Container, ContainerSpec, ContainerStartError
from local.fargate.control_groups import find_parent, make_control_group
from local.fargate.ecs import Task
from local.fargate.egress import Egress
from local.fargate.ingress import AddressError, AddressPool, serve_ingress
from local.fargate.jail import EGRESS_PORT, SOFTWARE, Jail, write_etc
from local.fargate.sandbox_environment import SandboxEnvironment
from local.fargate.user_namespace import OUTSIDE_USER_ID
from local.settings import REPOSITORY, Home

_PROCESSES = 256
_RETRY_TRIAL_AFTER_S = 5.0
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")

logger = logging.getLogger(__name__)


class CannotStartError(Exception):
    """A task cannot be started on this machine: why, and what to do."""


class Host:
    """Starts containers for tasks. Refuses, with the reason in `reason_file`, while no jail can be made."""

    def __init__(self, home: Home, environment: SandboxEnvironment) -> None:
        self._home = home
        self._environment = environment
        self._etc = home.run / "jail-etc"
        self._addresses = AddressPool(home.port_base)
        self._front = httpx.AsyncClient(base_url=home.public_url, timeout=30, trust_env=False)
        self._control_groups = find_parent()
        self._bwrap: Path | None = None
        self._reason = ""
        self._next_trial = 0.0
        self.reason_file = home.run / "fargate.reason"

    async def prepare(self) -> None:
        """Find out whether jails can be made, and say so where `status` looks for it."""
        write_etc(self._etc)
        trial = _workspace(self._home.run / "jail-trial")
        self._next_trial = time.monotonic() + _RETRY_TRIAL_AFTER_S
        try:
            self._bwrap = await working_bubblewrap(self._jail(trial))
        except JailUnavailableError as error:
            self._reason = str(error)
            self.reason_file.write_text(self._reason + "\n")
            logger.error("no sandbox can be started: %s", error)  # noqa: TRY400 - the message says it all
        else:
            self.reason_file.unlink(missing_ok=True)
            limits = "control groups" if self._control_groups else "resource limits and a watch"
            logger.info("jails are made by %s and limited by %s", self._bwrap, limits)

    async def close(self) -> None:
        await self._front.aclose()

    @contextlib.asynccontextmanager
    async def container(self, task: Task) -> AsyncIterator[Container]:
        """Start a task's container and connect it; at the end nothing of it is left. Raises `CannotStartError`."""
        bwrap = await self._usable_bubblewrap()
        name = task.sandbox_id or task.id
        if not _SAFE_NAME.fullmatch(name):
            raise CannotStartError("SANDBOX_ID may contain letters, digits, `_`, `-` and `.` only.")
        workspace = _workspace(self._home.state / "workspaces" / name)
        group = make_control_group(self._control_groups, memory_bytes=task.memory_bytes, processes=_PROCESSES)
        port = int(task.environment.get("SANDBOX_PORT", "7100"))
        async with contextlib.AsyncExitStack() as closing:
            if group is not None:
                closing.callback(group.remove)
            try:
                listener = self._addresses.bind(port)
                closing.callback(listener.close)
                spec = ContainerSpec(
                    name=name,
                    argv=task.command,
                    environment=_environment(task),
                    port=port,
                    memory_bytes=task.memory_bytes,
                    processes=_PROCESSES,
                    control_group=(group.members,) if group else (),
                )
                container, way_out = await Container.start(spec, self._jail(workspace), bwrap)
            except (AddressError, ContainerStartError, OSError) as error:
                raise CannotStartError(str(error)) from error
            closing.push_async_callback(container.kill)
            egress = Egress(task_arn=task.arn, address=listener.getsockname()[0], front=self._front)
            closing.callback((await egress.serve(way_out)).close)
            closing.callback((await serve_ingress(listener, container)).close)
            yield container

    def _jail(self, workspace: Path) -> Jail:
        return Jail(self._environment, self._etc, workspace, hidden=(self._home.folder, REPOSITORY))

    async def _usable_bubblewrap(self) -> Path:
        if self._bwrap is None and time.monotonic() >= self._next_trial:
            await self.prepare()  # someone may have followed the advice
        if self._bwrap is None:
            raise CannotStartError(self._reason)
        return self._bwrap


def _workspace(folder: Path) -> Path:
    """Make the folder, for the jail's user alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, OUTSIDE_USER_ID, OUTSIDE_USER_ID)
    return folder


def _environment(task: Task) -> dict[str, str]:
    """Return the container's environment: the task's, with the way out that its jail has."""
    return task.environment | {
        "PATH": f"{SOFTWARE}/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{SOFTWARE}/program",
        "HOME": "/workspace",
        "LANG": "C.UTF-8",
        "RUNYARD_PLATFORM_URL": f"http://127.0.0.1:{EGRESS_PORT}",
        "ECS_CONTAINER_METADATA_URI_V4": f"http://127.0.0.1:{EGRESS_PORT}/metadata",
    }
