"""SQL of what runs cost."""

from typing import LiteralString
from uuid import UUID

from shared.kernel.db import Tx

# Each start asks this: whoever cancels nearly all their runs must not make it look through every one of them.
_LOOKED_THROUGH = 1_000
COSTS: LiteralString = """
    SELECT cost_microusd
      FROM (SELECT id, status, cost_microusd FROM runs
             WHERE agent_id = %(agent_id)s ORDER BY id DESC LIMIT %(looked_through)s) AS newest
     WHERE status IN ('succeeded', 'failed')
     ORDER BY id DESC LIMIT %(limit)s
"""


def costs(tx: Tx, agent_id: UUID, *, limit: int) -> list[int]:
    """Return what the agent's newest runs cost that came to an end by themselves."""
    values = {"agent_id": agent_id, "looked_through": _LOOKED_THROUGH, "limit": limit}
    return [row["cost_microusd"] for row in tx.execute(COSTS, values)]
