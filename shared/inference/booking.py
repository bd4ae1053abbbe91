"""One transaction for all that an org's calls want at the same moment: closings first, then openings by their age.

It may be done again when nobody knows whether it was committed: each part of it knows what it did before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from psycopg import Cursor, OperationalError

from shared.billing import service as billing
from shared.billing.service import HoldAsked, Settlement, Till
from shared.inference import calls, spending, store
from shared.inference.bookable import HOLDS_OF_CALLS, Closing, Item, Later, Numbered, Opened, Opening, Outcome, Undoing
from shared.inference.budgets import Spender
from shared.inference.calls import Call
from shared.inference.errors import BudgetExceeded
from shared.inference.spending import NoRoomYet, NotBegun, Spendings
from shared.kernel import counting, db
from shared.kernel.caller import Caller
from shared.kernel.db import Row, Tx
from shared.kernel.errors import InsufficientCredits, RunyardError, Unavailable
from shared.kernel.telemetry import logger
from shared.usage import service as usage
from shared.usage.model import NewEvent

# A deadlock, a killed backend, budgets of which nothing was ever spent.
_ATTEMPTS = 4


def book(org_id: UUID, items: Sequence[Item]) -> list[Outcome | Exception]:
    """Do all of it in one transaction; return what came of each, refusals included."""
    caller = Caller.system(org_id)
    for attempt in range(_ATTEMPTS):
        try:
            return _transact(caller, items, again=attempt > 0)
        except NotBegun as missing:
            _begin(caller, missing)
        except Unavailable:
            break
        except OperationalError as error:
            # It may have been committed or not; what was done is found the next time.
            logger.warning("accounting is done again", extra={"error": type(error).__name__, "attempt": attempt})
    # To each its own: an error gathers the traces of all who raise it.
    return [Unavailable("The database can't be reached; try again shortly.", retry_after_s=1) for _ in items]


def _begin(caller: Caller, missing: NotBegun) -> None:
    try:
        with db.tenant(caller) as tx:
            spending.begin(tx, missing.accounts)
    except (Unavailable, OperationalError):
        return  # the next attempt finds out


def _transact(caller: Caller, items: Sequence[Item], *, again: bool) -> list[Outcome | Exception]:
    closings = {n: item for n, item in enumerate(items) if isinstance(item, Closing)}
    undoings = {n: item.opening for n, item in enumerate(items) if isinstance(item, Undoing)}
    numbered = sorted((item.number, n, item.opening) for n, item in enumerate(items) if isinstance(item, Numbered))
    openings = {n: opening for _, n, opening in numbered}
    with db.piped(caller) as tx:
        books = _Books.ask(tx, caller, [*closings.values()], [*undoings.values()], [*openings.values()], again=again)
        outcomes: dict[int, Outcome | Exception] = {}
        for n, closing in closings.items():
            outcomes[n] = books.close(closing)
        for n, opening in undoings.items():
            books.undo(opening)
            outcomes[n] = None
        for n, opening in openings.items():
            outcomes[n] = books.open(opening)
        books.write()
        for n, refusal in outcomes.items():
            if isinstance(refusal, InsufficientCredits):
                outcomes[n] = books.second_thoughts(openings[n], refusal)
    return [outcomes[n] for n in range(len(items))]


@dataclass(slots=True, kw_only=True)
class _Books:
    """What was asked within the transaction, and what is to be written at its end."""

    tx: Tx
    caller: Caller
    till: Till | None
    spendings: Spendings | None
    inserted: Cursor[Row] | None
    known: Cursor[Row] | None
    # Recorded now, by id; and recorded before, by source.
    _new: set[UUID] | None = None
    _found: dict[str, Call] | None = None
    _events: list[NewEvent] = field(default_factory=list)
    _counted: list[Caller] = field(default_factory=list)
    _held_by_calls: int | None = None

    @classmethod
    def ask(
        cls,
        tx: Tx,
        caller: Caller,
        closings: Sequence[Closing],
        undoings: Sequence[Opening],
        openings: Sequence[Opening],
        *,
        again: bool,
    ) -> "_Books":
        """Send all questions at once. What they lock, everybody locks in this order: credits, budgets, sources.

        `again`: some of it may have been done before.
        """
        settlements = [_settlement(closing) for closing in closings if closing.opened and closing.opened.hold]
        settlements += [_release(opening) for opening in undoings if opening.pays]
        holds = [_hold(opening) for opening in openings if opening.pays]
        held = [closing.call.id for closing in closings if closing.opened and closing.opened.budgeted]
        held += [opening.call_id for opening in (*undoings, *(openings if again else ()))]
        spenders = [_spender(opening) for opening in openings]
        repeatable = [opening.source_id for opening in openings if opening.repeatable]
        return cls(
            tx=tx,
            caller=caller,
            till=Till.ask(tx, caller, settlements, holds) if settlements or holds else None,
            spendings=Spendings.ask(tx, caller, spenders, held) if spenders or held else None,
            inserted=store.insert_calls(tx, caller.org_id, [closing.call for closing in closings])
            if closings
            else None,
            known=store.ask_for_sources(tx, repeatable) if repeatable else None,
        )

    def close(self, closing: Closing) -> Call:
        """Record and pay a call; return the first one of its source."""
        call, first = closing.call, self._first(closing.call)
        # A call that comes again, since nobody knew whether it was recorded, is settled as it was then.
        mine = first.id == call.id
        spends = mine and call.outcome is not calls.Outcome.FAILED
        if closing.opened and closing.opened.hold and self.till:
            amount = call.cost_microusd if spends else None
            self.till.settle(Settlement(source_id=closing.opened.hold, amount_microusd=amount))
        if closing.opened and closing.opened.budgeted and self.spendings:
            self.spendings.close(call.id, call.cost_microusd if spends else 0)
        if mine:
            self._events += closing.events
        if closing.request_counted and not (mine and call.id not in self._recorded):
            self._counted.append(closing.caller)
        return first

    def undo(self, opening: Opening) -> None:
        """Give back what the call holds, if it came to that."""
        if opening.pays and self.till:
            try:
                self.till.settle(_release(opening))
            except RunyardError:
                return  # it was never held
        if self.spendings:
            self.spendings.close(opening.call_id, 0)

    def open(self, opening: Opening) -> Opened | Later | BudgetExceeded | InsufficientCredits:
        """Hold what the call may cost, or return why not."""
        known = self._known.get(opening.source_id) if opening.repeatable else None
        if known is not None:
            return Opened(known=known)
        assert self.spendings is not None  # noqa: S101 - asked for whatever is opened
        try:
            budgeted = self.spendings.hold(
                opening.call_id, _spender(opening), opening.amount_microusd, expires_at=opening.expires_at
            )
            if not opening.pays:
                return Opened(budgeted=budgeted)
            assert self.till is not None  # noqa: S101 - asked for whatever pays
            self.till.hold(_hold(opening))
        except NoRoomYet as full:
            return Later(full.refusal)
        except BudgetExceeded as refusal:
            return refusal
        except InsufficientCredits as refusal:
            self.spendings.give_back(opening.call_id)
            return refusal
        return Opened(hold=opening.hold, budgeted=budgeted)

    def write(self) -> None:
        """Send all that was done."""
        if self.till:
            self.till.write()
        if self.spendings:
            self.spendings.write()
        usage.record_piped(self.tx, self.caller, self._events)
        if self._counted:
            counting.count_many(self.tx, self.caller.org_id, self._counted)

    def second_thoughts(self, opening: Opening, refusal: InsufficientCredits) -> Later | InsufficientCredits:
        """Return whether credits might suffice once the calls under way have ended. To be asked after `write`."""
        assert self.till is not None  # noqa: S101 - it was asked for credits
        if self._held_by_calls is None:
            self._held_by_calls = billing.held_by(self.tx, HOLDS_OF_CALLS)
        enough = self.till.available_microusd + self._held_by_calls >= opening.amount_microusd
        return Later(refusal) if enough else refusal

    def _first(self, call: Call) -> Call:
        if call.id in self._recorded:
            return call
        # Seldom: another attempt at the same source was quicker, or this one was done already.
        first = store.calls_of(store.ask_for_sources(self.tx, [call.source_id]))
        return first[0]

    @property
    def _recorded(self) -> set[UUID]:
        if self._new is None:
            self._new = {row["id"] for row in self.inserted or ()}
        return self._new

    @property
    def _known(self) -> dict[str, Call]:
        if self._found is None:
            self._found = {call.source_id: call for call in store.calls_of(self.known)} if self.known else {}
        return self._found


def _settlement(closing: Closing) -> Settlement:
    hold = closing.opened.hold if closing.opened else None
    return Settlement(source_id=hold or "", amount_microusd=closing.call.cost_microusd)


def _release(opening: Opening) -> Settlement:
    return Settlement(source_id=opening.hold, amount_microusd=None)


def _hold(opening: Opening) -> HoldAsked:
    return HoldAsked(source_id=opening.hold, amount_microusd=opening.amount_microusd, expires_at=opening.expires_at)


def _spender(opening: Opening) -> Spender:
    return Spender.of(opening.caller.attribution, opening.run_id)
