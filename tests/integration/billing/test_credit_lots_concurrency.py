"""Sixty-four workers at one account with every operation there is: no deadlock, nothing below zero, nothing twice."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

from shared.billing import service
from shared.billing.model import Charged
from shared.billing.service import LotKind
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import RunyardError, Unavailable
from shared.kernel.pagination import Slice

WORKERS = 64
EACH = 8

type Act = Callable[[Tx], object]


def at_once(caller: Caller, works: list[list[Act]]) -> list[object]:
    """Do each list in a thread of its own, all of them from one moment on; return every result or domain error."""
    start = Barrier(len(works))

    def work(acts: list[Act]) -> list[object]:
        start.wait(timeout=60)
        return [_patiently(caller, act) for act in acts]

    with ThreadPoolExecutor(len(works)) as pool:
        return [result for results in pool.map(work, works) for result in results]


def _patiently(caller: Caller, act: Act) -> object:
    # More threads than connections: who waits for one too long tries again, as a queue would deliver again.
    while True:
        try:
            with db.tenant(caller) as tx:
                return act(tx)
        except Unavailable:
            continue
        except RunyardError as error:
            return error


def _acts(caller: Caller, worker: int) -> list[Act]:
    chance = random.Random(worker)

    def act(name: str, **values: Any) -> Act:
        return lambda tx: getattr(service, name)(tx, caller, **values)

    acts: list[Act] = []
    for number in range(EACH):
        # Few sources, so that workers deliver the same cause at the same time.
        source, amount = f"run:{chance.randrange(100)}", chance.randrange(1, 60)
        reason, soon = "test", clock.now() + timedelta(milliseconds=chance.randrange(20, 3_000))
        kind = chance.choice([LotKind.PURCHASE, LotKind.PLAN, LotKind.PROMO])
        gift = f"gift:{worker}:{number // 2}"
        acts.append(
            chance.choice(
                [
                    act("hold", amount_microusd=amount, source_id=source, expires_at=soon),
                    act("hold", amount_microusd=amount, source_id=source, expires_at=soon),
                    act("settle", amount_microusd=amount, source_id=source),
                    act("settle_part", amount_microusd=amount % 7, source_id=source, part_id=str(number % 2)),
                    act("release", source_id=source),
                    act("charge", amount_microusd=amount, source_id=f"usage:{source}", reason=reason),
                    act("grant", amount_microusd=amount, source_id=gift, reason=reason, kind=kind, expires_at=soon),
                    act("refund", amount_microusd=amount % 9 + 1, source_id=f"back:{source}", reason=reason),
                    act("adjust", amount_microusd=chance.choice([-1, 1]) * amount, source_id=gift, reason=reason),
                    act("expire"),
                    act("release_expired"),
                ]
            )
        )
    return acts


def test_sixty_four_workers_leave_a_sound_account(org: Caller) -> None:
    with db.tenant(org) as tx:
        service.grant(tx, org, amount_microusd=3_000, source_id="plan", reason="test")
    results = at_once(org, [_acts(org, worker) for worker in range(WORKERS)])
    assert len(results) == WORKERS * EACH
    # Whatever was refused was refused for a reason that the ledger gives.
    refused = Counter(error.code for error in results if isinstance(error, RunyardError))
    assert set(refused) <= {
        "insufficient_credits",
        "hold_not_found",
        "hold_released",
        "hold_settled",
        "settle_exceeds_hold",
        "settle_below_parts",
        "source_id_reused",
        "refund_exceeds_settled",
        "adjustment_exceeds_available",
        "invalid_request",
    }
    with db.tenant(org) as tx:
        assert service.check(tx) == []
        entries = service.list_entries(tx, Slice(limit=10_000))
        balance = service.balance(tx)
    assert len(entries) == balance.entries > WORKERS
    assert all(entry.available_after_microusd >= 0 and entry.held_after_microusd >= 0 for entry in entries)


def test_a_debt_is_collected_once_by_sixty_four_grants_at_once(org: Caller) -> None:
    with db.tenant(org) as tx:
        assert service.charge(tx, org, amount_microusd=1_000, source_id="usage", reason="test") == Charged(0, 1_000)

    def grant(source: str) -> Act:
        return lambda tx: service.grant(tx, org, amount_microusd=50, source_id=source, reason="test")

    at_once(org, [[grant(f"gift:{worker // 2}")] for worker in range(WORKERS)])
    with db.tenant(org) as tx:
        assert service.check(tx) == []
        balance = service.balance(tx)
    assert (balance.settled_microusd, balance.owed_microusd) == (1_000, 0)
    assert balance.available_microusd == WORKERS // 2 * 50 - 1_000
