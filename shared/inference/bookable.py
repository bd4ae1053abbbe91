"""What calls want of the books: to be opened, closed or undone; and what may come of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from shared.inference import calls
from shared.inference.calls import Call
from shared.inference.errors import BudgetExceeded
from shared.kernel.caller import Caller
from shared.kernel.errors import InsufficientCredits
from shared.usage.model import NewEvent

# What the credits of model calls are held for ends like this, as `Opening.hold` makes it.
HOLDS_OF_CALLS = "/[0-9a-f]{32}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A call about to be made, which costs at most `most_microusd`; with `pays` that is held from the org's credits.

    `wait_s` is how long it may wait for what other model calls hold. `expires_at` is when its holds are given back
    although nobody closed it.
    """

    caller: Caller
    call_id: UUID
    source_id: str
    repeatable: bool
    most_microusd: int
    pays: bool
    run_id: str
    expires_at: datetime
    wait_s: float

    @property
    def hold(self) -> str:
        """The source of its credit hold: of this attempt alone, after a failure the same source needs a new one."""
        return f"{self.source_id}/{self.call_id.hex}"

    @property
    def amount_microusd(self) -> int:
        """What it holds: a hold can't be empty, and a few tokens may round to nothing."""
        return max(1, self.most_microusd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Either the call that its source id has caused before, or what is held, if anything, by the hold's source id.

    `budgeted`: something of a budget may be held too.
    """

    known: Call | None = None
    hold: str | None = None
    budgeted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """A call that has ended, with its usage; `request_counted`: it is a request of its caller's as well."""

    caller: Caller
    call: Call
    events: Sequence[NewEvent]
    opened: Opened | None
    request_counted: bool


@dataclass(frozen=True, slots=True)
class Numbered:
    """An opening and its place among those that wait: the lower number is served first."""

    number: int
    opening: Opening


@dataclass(frozen=True, slots=True)
class Undoing:
    """An opening whose caller has gone: what it holds, if anything, is given back."""

    opening: Opening


@dataclass(frozen=True, slots=True)
class Later:
    """There may be room once other model calls have ended; `refusal` is what to raise if not."""

    refusal: BudgetExceeded | InsufficientCredits


type Item = Numbered | Closing | Undoing
type Outcome = Opened | Later | Call | None


def recordable(closing: Closing) -> Closing:
    """Return it as it is recorded: what didn't end well under a source of its own, so that it can be tried again."""
    call = closing.call
    if call.outcome is calls.Outcome.OK:
        return closing
    source_id = f"{call.source_id}/{call.outcome}/{call.id.hex}"
    events = [replace(event, source_id=source_id) for event in closing.events]
    return replace(closing, call=replace(call, source_id=source_id), events=events)
