"""Model calls as the gateway opens and closes them, and what of them is in the books."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.billing import service as billing
from shared.inference import accounting
from shared.inference.accounting import Closing, Opened, Opening
from shared.inference.budgets import Period, Scope
from shared.inference.calls import Call, Operation, Outcome, Tokens
from shared.kernel import clock, db, ids
from shared.kernel.caller import Attribution, Caller
from shared.usage.model import NewEvent, UsageKind

MODEL = "gpt-4o-mini"


@dataclass(kw_only=True)
class Attempt:
    """One call of a caller; `most` is held for it, in micro-dollars."""

    caller: Caller
    most: int = 100
    pays: bool = True
    source_id: str = ""
    repeatable: bool = False
    run_id: str = ""
    wait_s: float = 0
    call_id: UUID = field(default_factory=ids.new)
    opened: Opened | None = None

    def opening(self) -> Opening:
        return Opening(
            caller=self.caller,
            call_id=self.call_id,
            source_id=self.source_id or f"req_{self.call_id.hex}",
            repeatable=self.repeatable,
            most_microusd=self.most,
            pays=self.pays,
            run_id=self.run_id,
            expires_at=clock.now() + timedelta(minutes=5),
            wait_s=self.wait_s,
        )

    async def open(self) -> Opened:
        self.opened = await accounting.open_call(self.opening())
        return self.opened

    async def close(
        self,
        cost: int = 0,
        *,
        outcome: Outcome = Outcome.OK,
        answer: Mapping[str, Any] | None = None,
        counted: bool = True,
    ) -> Call:
        return await accounting.close_call(self.closing(cost, outcome=outcome, answer=answer, counted=counted))

    def closing(
        self,
        cost: int = 0,
        *,
        outcome: Outcome = Outcome.OK,
        answer: Mapping[str, Any] | None = None,
        counted: bool = True,
    ) -> Closing:
        call = Call(
            id=self.call_id,
            source_id=self.opening().source_id,
            operation=Operation.CHAT,
            model=MODEL,
            tokens=Tokens(input=100, cached=0, output=20),
            cost_microusd=cost,
            latency_ms=5,
            answer=answer or {},
            created_at=clock.now(),
            outcome=outcome,
            run_id=self.run_id,
            attribution=self.caller.attribution,
        )
        return Closing(
            caller=self.caller,
            call=call,
            events=[] if outcome is Outcome.FAILED else self._events(call),
            opened=self.opened,
            request_counted=counted,
        )

    def _events(self, call: Call) -> Sequence[NewEvent]:
        costs = {UsageKind.TOKENS_INPUT: call.cost_microusd // 3}
        costs[UsageKind.TOKENS_OUTPUT] = call.cost_microusd - costs[UsageKind.TOKENS_INPUT]
        return [
            NewEvent(
                kind=kind,
                quantity=100,
                cost_microusd=cost,
                source_id=call.source_id,
                occurred_at=call.created_at,
                dimensions={"model": call.model, **call.attribution.dimensions()},
            )
            for kind, cost in costs.items()
        ]

    async def go(self, cost: int) -> Call:
        """Open and close."""
        await self.open()
        return await self.close(cost)


def on_behalf(caller: Caller, **attribution: str) -> Caller:
    """Return the platform at work for somebody of the caller's org, as in a run's steps."""
    system = Caller.system(caller.org_id, request_id="test")
    return Caller(**{name: getattr(system, name) for name in Caller.__slots__} | {"behalf": Attribution(**attribution)})


def grant(caller: Caller, amount: int) -> None:
    with db.tenant(caller) as tx:
        billing.grant(tx, caller, amount_microusd=amount, source_id=f"grant:{ids.new()}", reason="test")


def budget(
    caller: Caller, limit: int, *, scope: Scope = Scope.ORG, subject: str = "", period: Period = Period.DAY
) -> UUID:
    """Make a budget of the caller's org."""
    budget_id = ids.new()
    with db.tenant(caller) as tx:
        tx.execute(
            """INSERT INTO inference_budgets (id, org_id, scope, subject, period, limit_microusd, created_by)
               VALUES (%s, %s, %s, %s, %s, %s, 'test')""",
            (budget_id, caller.org_id, scope.value, subject, period.value, limit),
        )
    return budget_id


def spent_and_held(caller: Caller, budget_id: UUID) -> dict[tuple[str, str], tuple[int, int]]:
    """Return what is spent and held of a budget, by subject and first day of the period."""
    with db.tenant(caller) as tx:
        rows = tx.execute(
            """SELECT subject, period_start, spent_microusd, held_microusd FROM inference_budget_spending
                WHERE budget_id = %s""",
            (budget_id,),
        ).fetchall()
    return {
        (row["subject"], row["period_start"].isoformat()): (row["spent_microusd"], row["held_microusd"])
        for row in rows
        if row["spent_microusd"] or row["held_microusd"]
    }


@dataclass(frozen=True)
class Books:
    """The sums that have to agree: of credits, recorded calls, usage and counted requests."""

    available: int
    held: int
    settled: int
    calls: int
    cost_of_calls: int
    cost_of_usage: int
    requests: int


def books(caller: Caller) -> Books:
    """Return the sums of an org, whose ledger is sound."""
    with db.tenant(caller) as tx:
        assert billing.check(tx) == []
        balance = billing.balance(tx)
        called = tx.execute(
            "SELECT count(*) AS n, coalesce(sum(cost_microusd), 0) AS cost FROM inference_calls"
        ).fetchone()
        used = tx.execute("SELECT coalesce(sum(cost_microusd), 0) AS cost FROM usage_events").fetchone()
        counted = tx.execute("SELECT coalesce(sum(calls), 0) AS n FROM api_calls").fetchone()
    assert called is not None
    assert used is not None
    assert counted is not None
    return Books(
        available=balance.available_microusd,
        held=balance.held_microusd,
        settled=balance.settled_microusd,
        calls=called["n"],
        cost_of_calls=int(called["cost"]),
        cost_of_usage=int(used["cost"]),
        requests=int(counted["n"]),
    )
