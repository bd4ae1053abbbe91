"""The small grammar by which a test tells the offline model what to do, in the last user message.

    line     = "offline:" verb argument        one directive a line; other lines are ordinary text
    exec     SHELL     call sandbox_exec with this shell; several lines are several rounds, in their order
    steps    N         make N rounds of exec before answering (1 to 100), going round the exec lines again
    parallel N         make N calls in each round (1 to 64)
    say      TEXT      answer with exactly this text, after the rounds if there are any, else at once
    fail     KIND      fail every request of this conversation: 429, 500, timeout or break-stream
    delay    MS        answer every request of this conversation this much later (0 to 120000)
    pace     MS        wait this long between the tokens of a streamed answer (0 to 10000)
    cached   N         say that N tokens of the prompt, or all if it has fewer, came from a cache (0 to 1000000)
    reason   N         say that N more tokens were thought before the answer (0 to 1000000)

Without an `exec` line, `steps` and `parallel` run `echo step S call C`, each a different command; with one,
all rounds run the same. A line that begins with `offline:` and is none of these is refused, so that a slip
in a test shows.
"""

from dataclasses import dataclass, replace

from local.offline_model.errors import ApiError
from local.offline_model.faults import DELAY_LIMIT_MS, Fault

PREFIX = "offline:"
STEPS_LIMIT = 100
PARALLEL_LIMIT = 64
PACE_LIMIT_MS = 10_000
TOKENS_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Directives:
    """What the last user message asked for; all at rest when it holds no directive."""

    shells: tuple[str, ...] = ()
    steps: int | None = None
    parallel: int = 1
    say: str | None = None
    fault: Fault | None = None
    delay_ms: int = 0
    pace_ms: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def rounds(self) -> tuple[tuple[str, ...], ...]:
        """The shells to run, by round, then by call."""
        if self.steps is None and not self.shells and self.parallel == 1:
            return ()
        steps = self.steps or len(self.shells) or 1
        return tuple(tuple(self._shell(step, call) for call in range(self.parallel)) for step in range(steps))

    def _shell(self, step: int, call: int) -> str:
        if self.shells:
            return self.shells[step % len(self.shells)]
        return f"echo step {step + 1} call {call + 1}"


def parse(text: str) -> Directives:
    """Read the directives in a user message; raise `ApiError` for one that is not in the grammar."""
    found = Directives()
    for line in text.splitlines():
        if line.strip().startswith(PREFIX):
            verb, _, argument = line.strip().removeprefix(PREFIX).strip().partition(" ")
            found = _with(found, verb, argument.strip())
    return found


def _with(found: Directives, verb: str, argument: str) -> Directives:
    match verb:
        case "exec" if argument:
            return replace(found, shells=(*found.shells, argument))
        case "say" if argument:
            return replace(found, say=argument)
        case "steps":
            return replace(found, steps=_number(verb, argument, 1, STEPS_LIMIT))
        case "parallel":
            return replace(found, parallel=_number(verb, argument, 1, PARALLEL_LIMIT))
        case "delay":
            return replace(found, delay_ms=_number(verb, argument, 0, DELAY_LIMIT_MS))
        case "pace":
            return replace(found, pace_ms=_number(verb, argument, 0, PACE_LIMIT_MS))
        case "cached":
            return replace(found, cached_tokens=_number(verb, argument, 0, TOKENS_LIMIT))
        case "reason":
            return replace(found, reasoning_tokens=_number(verb, argument, 0, TOKENS_LIMIT))
        case "fail":
            return replace(found, fault=Fault.parse(argument, source=f"{PREFIX} fail"))
    raise ApiError(
        400,
        f"{PREFIX} {verb} {argument}".rstrip() + ": no such directive. "
        "There are: exec SHELL, steps N, parallel N, say TEXT, fail KIND, delay MS, pace MS, cached N, reason N.",
        code="unknown_directive",
        param="messages",
    )


def _number(verb: str, argument: str, low: int, high: int) -> int:
    if not (argument.isascii() and argument.isdecimal() and low <= int(argument) <= high):
        message = f"{PREFIX} {verb} takes a whole number from {low} to {high}, not {argument!r}."
        raise ApiError(400, message, code="invalid_directive", param="messages")
    return int(argument)
