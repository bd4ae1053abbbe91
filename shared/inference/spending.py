"""What calls hold and spend of budgets, many calls in one transaction: nothing is held of a budget beyond its limit."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Self
from uuid import UUID

from shared.inference import budgets_store as store
from shared.inference.budgets import Account, Budget, Spender, Spending, accounts
from shared.inference.budgets_store import Held, Moved
from shared.inference.errors import BudgetExceeded
from shared.kernel import clock
from shared.kernel.caller import Caller
from shared.kernel.db import Tx


class NoRoomYet(Exception):
    """There may be room once the calls under way have ended; `refusal` is what to answer if not."""

    def __init__(self, refusal: BudgetExceeded) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class NotBegun(Exception):
    """Of these accounts nothing was ever spent: their rows have to be made by a transaction that holds no others."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        super().__init__("accounts to begin")
        self.accounts = frozenset(accounts)


class Spendings:
    """`ask` sends the questions, in a pipeline; the first use waits for the answers; `write` ends it."""

    def __init__(self, tx: Tx, caller: Caller, asked: store.Asked, spenders: Sequence[Spender], at: datetime) -> None:
        self._tx = tx
        self._org_id = caller.org_id
        self._asked = asked
        self._spenders = spenders
        self._at = at
        self._budgets: list[Budget] | None = None
        self._spendings: dict[Account, Spending] = {}
        # By call: what it held before, and what it holds since.
        self._held: defaultdict[UUID, list[Held]] = defaultdict(list)
        self._opened: dict[UUID, list[Held]] = {}
        self._closed: set[UUID] = set()
        self._moved: defaultdict[Account, Moved] = defaultdict(Moved)

    @classmethod
    def ask(cls, tx: Tx, caller: Caller, spenders: Sequence[Spender], calls: Sequence[UUID]) -> Self:
        """Lock all that calls of these spenders may hold now, and what these calls hold already."""
        at = clock.now()
        subjects = {subject for spender in spenders for subject in spender.subjects}
        return cls(tx, caller, store.ask(tx, subjects, calls, moment=at), spenders, at)

    def hold(self, call_id: UUID, spender: Spender, amount_microusd: int, *, expires_at: datetime) -> bool:
        """Hold this of each budget that the call counts to, or of none; return whether there are any.

        Raises `BudgetExceeded`, or `NoRoomYet` where the calls under way may leave room.
        """
        budgets = self._read()
        if call_id in self._held:
            return True
        spendings = [self._spendings[account] for _, account in accounts(budgets, spender, self._at)]
        lacking = [spending for spending in spendings if spending.lacks(amount_microusd)]
        for spending in lacking:
            if not spending.may_have_room(amount_microusd):
                raise spending.exceeded(amount_microusd)
        if lacking:
            raise NoRoomYet(lacking[0].exceeded(amount_microusd))
        for spending in spendings:
            spending.held_microusd += amount_microusd
            self._moved[spending.account].held_microusd += amount_microusd
        self._opened[call_id] = [Held(call_id, each.account, amount_microusd, expires_at) for each in spendings]
        return bool(spendings)

    def give_back(self, call_id: UUID) -> None:
        """Undo a `hold` of this transaction."""
        for held in self._opened.pop(call_id, ()):
            self._move(held, spent_microusd=0)

    def close(self, call_id: UUID, spent_microusd: int) -> None:
        """Give back what the call holds, but for what it has spent."""
        self._read()
        for held in self._held.pop(call_id, ()):
            self._move(held, spent_microusd=spent_microusd)
            self._closed.add(call_id)

    def write(self) -> None:
        """Send what was done."""
        moved = {account: by for account, by in self._moved.items() if by.spent_microusd or by.held_microusd}
        if moved:
            store.move(self._tx, moved)
        if self._closed:
            store.close_holds(self._tx, self._closed)
        opened = [held for holds in self._opened.values() for held in holds]
        if opened:
            store.open_holds(self._tx, self._org_id, opened)

    def _move(self, held: Held, *, spent_microusd: int) -> None:
        by = self._moved[held.account]
        by.spent_microusd += spent_microusd
        by.held_microusd -= held.amount_microusd
        spending = self._spendings.get(held.account)
        if spending is not None:
            spending.spent_microusd += spent_microusd
            spending.held_microusd -= held.amount_microusd

    def _read(self) -> list[Budget]:
        if self._budgets is None:
            self._budgets, figures, held = self._asked.answer()
            needed = {
                account: budget
                for spender in self._spenders
                for budget, account in accounts(self._budgets, spender, self._at)
            }
            if missing := needed.keys() - figures.keys():
                raise NotBegun(missing)
            self._spendings = {
                account: Spending(budget, account, *figures[account]) for account, budget in needed.items()
            }
            for each in held:
                self._held[each.call_id].append(each)
        return self._budgets


def begin(tx: Tx, missing: Iterable[Account]) -> None:
    """Make the rows of accounts of which nothing was ever spent."""
    store.begin(tx, missing)


def release_expired_budget_holds(tx: Tx, caller: Caller) -> int:
    """Give back what calls hold whose time is up: their workers died. Return how many calls those were."""
    overdue = store.overdue(tx, now=clock.now())
    if not overdue:
        return 0
    spendings = Spendings.ask(tx, caller, (), overdue)
    for call_id in overdue:
        spendings.close(call_id, 0)
    spendings.write()
    return len(overdue)


def orgs_with_expired_budget_holds() -> list[UUID]:
    """Return the tenants with calls whose time is up."""
    return store.orgs_with_overdue()
