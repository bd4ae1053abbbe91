"""Runs think with a provider of their own; their agents here need no sandbox."""

from collections.abc import Callable
from uuid import UUID

import pytest

from shared.agents import service as agents
from shared.agents.model import AgentConfig
from shared.billing import service as billing
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.runs import service as runs

CREDITS = 1_000_000


@pytest.fixture
def queued(org: Caller) -> Callable[..., UUID]:
    """`queued("task", …)`: the id of a new run, of an agent that may only remember, with credits to pay for it."""

    def create(text: str, *, max_steps: int = 10, budget_microusd: int = 100_000) -> UUID:
        config = AgentConfig(
            instructions="Be brief.",
            model=None,
            tools=("memory.save", "memory.search"),
            max_steps=max_steps,
            timeout_s=60,
            budget_microusd=budget_microusd,
        )
        with db.tenant(org) as tx:
            billing.grant(tx, org, amount_microusd=CREDITS, source_id="test", reason="to test with")
            agent = agents.create_agent(tx, org, name="Rememberer", config=config, metadata={})
            run = runs.create_run(
                tx, org, agent_id=agent.id, text=text, budget_microusd=None, timeout_s=None, metadata={}
            )
        return run.id

    return create
