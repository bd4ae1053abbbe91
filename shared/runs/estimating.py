"""What a run will probably cost: by what the same agent's cost before, else by its config."""

from dataclasses import dataclass
from uuid import UUID

from shared.agents import service as agents
from shared.agents.model import Agent, AgentConfig
from shared.billing import service as billing
from shared.billing.service import DryRun, Estimate
from shared.inference import service as inference
from shared.inference.model import ModelNotFound
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.runs import estimating_store
from shared.runs.model import BudgetTooSmall, sandbox_ttl_s
from shared.sandboxes import service as sandboxes

# What is assumed of a run of which nothing is known: so many steps, each with an answer of so many tokens, and with so
# many more of tools' results and the answer itself in front of the next; so many seconds of its sandbox.
STEPS = 4
ANSWER_TOKENS = 250
GROWTH_TOKENS = 750
TASK_TOKENS = 250
SANDBOX_S = 120
# What the description of one tool takes.
TOOL_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run is started on. Its whole budget is held."""

    agent: Agent
    budget_microusd: int
    timeout_s: int


def terms(
    tx: Tx, caller: Caller, *, agent_id: UUID, budget_microusd: int | None = None, timeout_s: int | None = None
) -> Terms:
    """Return the terms of a run of the agent's live version.

    Raises `NotFound`, and `BudgetTooSmall` when the sandbox alone could use the budget up.
    """
    agent = agents.get_agent(tx, caller, agent_id)
    budget = budget_microusd or agent.config.budget_microusd
    seconds = timeout_s or agent.config.timeout_s
    least = sandboxes.worst_case_cost(sandbox_ttl_s(seconds)) if agent.config.needs_sandbox else 0
    if budget <= least:
        raise BudgetTooSmall(
            f"budget_microusd: a sandbox for {seconds} s may cost {least} microusd; give more than that.",
            param="budget_microusd",
        )
    return Terms(agent, budget, seconds)


def estimate(tx: Tx, caller: Caller, on: Terms) -> Estimate:
    """Return what a run on these terms costs. What runs of any version of its agent cost counts."""
    history = estimating_store.costs(tx, on.agent.id, limit=billing.MOST_SAMPLES)
    return billing.estimate_from(history, otherwise=_by_config(tx, caller, on), worst_microusd=on.budget_microusd)


def dry_run(tx: Tx, caller: Caller, on: Terms) -> DryRun:
    """Return what a run on these terms costs and what it would be refused with. Nothing is started or counted."""
    refusal = billing.first_refusal(
        lambda: quotas.check(tx, caller.org_id, Resource.CONCURRENT_RUNS),
        lambda: billing.check_affordable(tx, on.budget_microusd),
    )
    return DryRun("run", estimate(tx, caller, on), refusal)


def _by_config(tx: Tx, caller: Caller, on: Terms) -> int:
    config = on.agent.config
    steps = min(STEPS, config.max_steps)
    try:
        models = inference.cost_of_calls(
            tx,
            caller,
            config.model,
            # Each step is given again all that was said before it.
            input_tokens=steps * _first_prompt(config) + GROWTH_TOKENS * steps * (steps - 1) // 2,
            output_tokens=steps * ANSWER_TOKENS,
        )
    except ModelNotFound:
        # Such a run ends at its first step; there may be a price by then all the same.
        return on.budget_microusd
    return models + (sandboxes.worst_case_cost(min(SANDBOX_S, on.timeout_s)) if config.needs_sandbox else 0)


def _first_prompt(config: AgentConfig) -> int:
    return inference.probable_tokens(config.instructions) + TASK_TOKENS + TOOL_TOKENS * len(config.tools)
