"""What a sandbox will probably cost: by how much of their time those before it were used for."""

from collections.abc import Callable
from uuid import UUID

from shared.billing import service as billing
from shared.billing.service import Estimate
from shared.kernel.db import Tx
from shared.sandboxes import estimating_store


def estimate(tx: Tx, *, only_own: UUID | None, template: str, ttl_s: int, price: Callable[[int], int]) -> Estimate:
    """Return what a sandbox of this template costs, `price` being what a number of seconds costs.

    Another's time to live was another: what counts is the part of it that was used. Without a history the whole is
    expected. A member's sandboxes are estimated by their own, like which nobody else's are seen.
    """
    history = [
        price(min(ttl_s, -(-ttl_s * used_s // granted_s)))
        for used_s, granted_s in estimating_store.lifetimes(
            tx, template=template, only_own=only_own, limit=billing.MOST_SAMPLES
        )
    ]
    worst = price(ttl_s)
    return billing.estimate_from(history, otherwise=worst, worst_microusd=worst)
