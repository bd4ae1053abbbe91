"""HTTP API of budgets: what calls to models may cost an org, or one key, person, agent or run of it."""

from typing import Annotated

from fastapi import Depends

from shared.agents import service as agents
from shared.identity import service as identity
from shared.inference import budget_setup as service
from shared.inference.budget_schemas import BudgetOut, CreateBudget, UpdateBudget
from shared.inference.budgets import Scope
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest
from shared.kernel.fields import BudgetId, Page
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.orgs import service as orgs
from shared.runs import service as runs

router = Router(prefix="/v1/budgets", tags=["gateway"])
Reader = Annotated[Caller, Depends(require("billing:read"))]
Admin = Annotated[Caller, Depends(require("billing:admin"))]


@router.post("", status_code=201)
def create_budget(body: CreateBudget, caller: Admin, once: Annotated[Once, Depends(once)]) -> BudgetOut:
    def create() -> BudgetOut:
        if body.subject:
            _check_subject(tx, caller, body.scope, body.subject)
        made = service.create_budget(
            tx,
            caller,
            scope=body.scope,
            subject=body.subject,
            period=body.period,
            limit_microusd=body.limit_microusd,
        )
        return BudgetOut.of(made)

    with db.tenant(caller) as tx:
        return once(tx, create)


@router.get("")
def list_budgets(asked: Annotated[Slice, slice_of("bud")], caller: Reader) -> Page[BudgetOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_budgets(tx, asked), asked)
    cursor = ids.show("bud", found[-1].stored.budget.id) if more else None
    return Page(data=[BudgetOut.of(each) for each in found], has_more=more, next_cursor=cursor)


@router.get("/{budget_id}")
def get_budget(budget_id: BudgetId, caller: Reader) -> BudgetOut:
    with db.tenant(caller) as tx:
        return BudgetOut.of(service.get_budget(tx, budget_id))


@router.patch("/{budget_id}")
def update_budget(budget_id: BudgetId, body: UpdateBudget, caller: Admin) -> BudgetOut:
    """Change the limit, from now on; a budget below what is spent of it lets nothing more through."""
    with db.tenant(caller) as tx:
        return BudgetOut.of(service.update_budget(tx, caller, budget_id=budget_id, limit_microusd=body.limit_microusd))


@router.delete("/{budget_id}", status_code=204)
def delete_budget(budget_id: BudgetId, caller: Admin) -> None:
    """Delete a budget and the count of what was spent of it."""
    with db.tenant(caller) as tx:
        service.delete_budget(tx, caller, budget_id=budget_id)


def _check_subject(tx: Tx, caller: Caller, scope: Scope, subject: str) -> None:
    """Raise `InvalidRequest` for what is no id of the scope, `NotFound` for what the org doesn't have."""
    match scope:
        case Scope.ORG:
            raise InvalidRequest("subject: an org's budget is the org's as a whole.", param="subject")
        case Scope.KEY:
            identity.get_key(tx, ids.read("key", subject))
        case Scope.PERSON:
            orgs.get_member(tx, ids.read("user", subject))
        case Scope.AGENT:
            agents.get_agent(tx, caller, ids.read("agent", subject))
        case Scope.RUN:
            runs.get_run(tx, caller, ids.read("run", subject))


handler = lambda_handler(router)
