"""Many Redis commands in one round trip; those of all who wait at the same time go together."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from shared.kernel import cache
from shared.kernel.batching import Batcher

type Argument = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script; Redis is told its digest alone, once it knows the text."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())

    def command(self, keys: Sequence[str], arguments: Sequence[Argument]) -> "Command":
        return Command(("EVALSHA", self.digest, len(keys), *keys, *arguments), self)


@dataclass(frozen=True, slots=True)
class Command:
    """A command as Redis reads it. The keys of one must have the same part in braces; those of several needn't."""

    words: tuple[Argument, ...]
    script: Script | None = None


def send(commands: Sequence[Command]) -> list[Any] | None:
    """Return the reply to each command, None for one that Redis refused; None when Redis can't be reached."""
    return cache.attempt(lambda client: _send(client, commands)) if commands else []


async def do(*commands: Command, lane: str = "", needed: bool = False) -> list[Any] | None:
    """Do as `send` does, together with what else of its lane waits to be sent, and after what came before.

    What is `needed` is sent although its caller was cancelled.
    """
    return await _batcher.do(lane, commands, needed=needed)


def put(*commands: Command) -> None:
    """Do as `do` does, without waiting for it."""
    _batcher.put("", commands)


def _send(client: Redis, commands: Sequence[Command]) -> list[Any]:
    replies = _execute(client, [command.words for command in commands])
    # A Redis that was restarted knows no script.
    if unknown := [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]:
        again = _execute(client, [_in_full(commands[at]) for at in unknown])
        for at, reply in zip(unknown, again, strict=True):
            replies[at] = reply
    return [None if isinstance(reply, ResponseError) else reply for reply in replies]


def _execute(client: Redis, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for words in commands:
            pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
        return pipeline.execute(raise_on_error=False)


def _in_full(command: Command) -> tuple[Argument, ...]:
    text = command.script.text if command.script else ""
    return ("EVAL", text, *command.words[2:])


def _send_all(_: Hashable, batch: list[Sequence[Command]]) -> list[list[Any] | None]:
    replies = send([command for commands in batch for command in commands])
    if replies is None:
        return [None] * len(batch)
    left = iter(replies)
    return [[next(left) for _ in commands] for commands in batch]


_batcher: Batcher[Sequence[Command], list[Any] | None] = Batcher("redis", _send_all, at_most=64, threads=2)
