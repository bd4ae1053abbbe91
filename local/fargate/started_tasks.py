"""Remembers on disk which tasks this stand-in has started, so that its next life can report those that died with it."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from local.fargate.ecs import Task


@dataclass(frozen=True, slots=True)
class StartedTask:
    """What a report needs. Nothing secret."""

    arn: str
    cluster_arn: str
    definition_arn: str
    container_name: str
    sandbox_id: str | None
    started_by: str | None

    @classmethod
    def of(cls, task: Task) -> Self:
        return cls(
            task.arn, task.cluster_arn, task.definition_arn, task.container_name, task.sandbox_id, task.started_by
        )


class StartedTasks:
    """One small file per task, from before its start until its end has been reported."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, task: StartedTask) -> None:
        """Remember a task; written whole or not at all."""
        part = self._file(task).with_suffix(".part")
        part.write_text(json.dumps(asdict(task)))
        part.rename(self._file(task))

    def remove(self, task: StartedTask) -> None:
        """Forget a task."""
        self._file(task).unlink(missing_ok=True)

    def all(self) -> list[StartedTask]:
        """Return every task that was started and not reported."""
        found = []
        for file in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(ValueError, TypeError):
                found.append(StartedTask(**json.loads(file.read_text())))
        return found

    def _file(self, task: StartedTask) -> Path:
        return self._folder / f"{task.arn.rpartition('/')[2]}.json"
