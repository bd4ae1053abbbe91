"""Use cases of setting budgets up: create, read with what is spent of them, change the limit, delete."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.audit import service as audit
from shared.inference import budget_setup_store as store
from shared.inference.accounts_model import SetUpLimitReached
from shared.inference.budget_setup_store import StoredBudget
from shared.inference.budgets import Budget, Period, Scope
from shared.kernel import clock, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest, NotFound
from shared.kernel.pagination import Slice

# All of an org's are looked at for each of its calls.
MOST_BUDGETS = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget, and how it stands in its present period, over all subjects that it is for."""

    stored: StoredBudget
    resets_at: datetime | None


def create_budget(
    tx: Tx, caller: Caller, *, scope: Scope, subject: str, period: Period, limit_microusd: int
) -> Standing:
    """Set a budget; whoever calls has seen that there is such a subject in the org.

    Raises `InvalidRequest` for an org with a subject, `BudgetExists` and `SetUpLimitReached`.
    """
    if scope is Scope.ORG and subject:
        raise InvalidRequest("subject: an org's budget is the org's as a whole.", param="subject")
    if store.count(tx) >= MOST_BUDGETS:
        raise SetUpLimitReached(f"An org has at most {MOST_BUDGETS} budgets.")
    budget = Budget(ids.new(), scope, subject, period, limit_microusd)
    store.insert(tx, budget, created_by=caller.actor_id)
    _record(tx, caller, "budget.create", budget.id, new=_described(budget))
    return get_budget(tx, budget.id)


def list_budgets(tx: Tx, asked: Slice) -> list[Standing]:
    """Return up to `limit + 1` budgets, the newest first."""
    return [_standing(stored) for stored in store.list_budgets(tx, asked, now=clock.now())]


def get_budget(tx: Tx, budget_id: UUID) -> Standing:
    stored = store.find(tx, budget_id, now=clock.now())
    if stored is None:
        raise NotFound.of("budget", ids.show("bud", budget_id))
    return _standing(stored)


def update_budget(tx: Tx, caller: Caller, *, budget_id: UUID, limit_microusd: int) -> Standing:
    """Change the limit, from now on: calls under way keep what they hold."""
    store.lock(tx, budget_id)
    before = get_budget(tx, budget_id).stored.budget
    store.set_limit(tx, budget_id, limit_microusd)
    after = get_budget(tx, budget_id)
    _record(tx, caller, "budget.update", budget_id, old=_described(before), new=_described(after.stored.budget))
    return after


def delete_budget(tx: Tx, caller: Caller, *, budget_id: UUID) -> None:
    """Delete a budget, and what was spent of it with it; what the calls cost stays in the usage ledger."""
    store.lock(tx, budget_id)
    before = get_budget(tx, budget_id).stored.budget
    store.delete(tx, budget_id)
    _record(tx, caller, "budget.delete", budget_id, old=_described(before))


def _standing(stored: StoredBudget) -> Standing:
    period = stored.budget.period
    return Standing(stored, period.resets_at(period.start(clock.now())))


def _described(budget: Budget) -> dict[str, object]:
    return {
        "scope": budget.scope.value,
        "subject": budget.subject,
        "period": budget.period.value,
        "limit_microusd": budget.limit_microusd,
    }


def _record(
    tx: Tx,
    caller: Caller,
    action: str,
    budget_id: UUID,
    *,
    old: dict[str, object] | None = None,
    new: dict[str, object] | None = None,
) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="budget",
        resource_id=ids.show("bud", budget_id),
        old=old,
        new=new,
    )
