"""Use cases of the AgentRun state machine, one for each of its states. Each may be called again at any point.

A step is claimed by insert and checkpointed before it is acknowledged; what it does outside the database carries the
id `run:step` or `run:step:call`, under which whoever executes it gives the first result again.
"""

from dataclasses import replace
from uuid import UUID

from shared.agents import service as agents
from shared.agents.model import AgentConfig
from shared.events import service as events
from shared.inference import service as inference
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.runs import conversation, ending, store, tools
from shared.runs.model import LEASE, EndReason, Run, RunEnded, Step, StepBusy, sandbox_ttl_s
from shared.sandboxes import service as sandboxes
from shared.sandboxes.model import StopReason


def prepare(caller: Caller, run_id: UUID) -> bool:
    """Begin the run and return whether it needs a sandbox."""
    with db.tenant(caller) as tx:
        run = ending.existing(tx, run_id, lock=True)
        needs_sandbox = _config(tx, caller, run).needs_sandbox
        begun = run.begin(clock.now(), needs_sandbox=needs_sandbox)
        if begun != run:
            store.save(tx, begun)
            store.add_event(tx, run_id, "run.started", {"needs_sandbox": needs_sandbox})
    return needs_sandbox


def launch_sandbox(caller: Caller, run_id: UUID, *, wake_token: str) -> None:
    """Start the run's sandbox, which sends `wake_token` when it is ready."""
    with db.tenant(caller) as tx:
        run = ending.existing(tx, run_id)
    if run.ended:
        raise RunEnded(f"The run is {run.status}.")
    sandbox = sandboxes.launch_for_run(
        replace(caller, behalf=run.attribution),
        run_id=run_id,
        agent_id=run.agent_id,
        on_behalf_of=run.created_by_user,
        ttl_s=sandbox_ttl_s(run.timeout_s),
        wake_token=wake_token,
    )
    with db.tenant(caller) as tx:
        run = ending.existing(tx, run_id)
    if run.ended:
        # Ended while the sandbox was made: whoever ended it may have found none to stop.
        sandboxes.end(caller, sandbox.id, reason=StopReason.RUN_ENDED)
        raise RunEnded(f"The run is {run.status}.")


def think(caller: Caller, run_id: UUID, step_no: int, *, worker: str) -> list[int]:
    """Ask the model for the next step and return the numbers of the tool calls it wants; none: it has answered.

    Raises `RunEnded`, `StepBusy`, the limits of the run, and the model gateway's errors.
    """
    with db.tenant(caller) as tx:
        run = ending.existing(tx, run_id, lock=True)
        config = _config(tx, caller, run)
        steps = store.steps(tx, run_id)
        current = next((step for step in steps if step.step_no == step_no), None)
        if current is not None and current.done:
            return _calls(current)
        proceeding = run.proceed(clock.now(), step_no=step_no, max_steps=config.max_steps)
        if not store.claim_step(tx, run_id, step_no, worker=worker, lease=LEASE):
            raise StepBusy(f"Another worker holds step {step_no}.")
        store.save(tx, proceeding)
        remaining = _remaining(tx, run, config)

    try:
        completion = inference.complete(
            replace(caller, behalf=run.attribution),
            request=conversation.request(config, run, [step for step in steps if step.step_no < step_no]),
            source_id=f"{ending.source(run_id)}{step_no}",
            max_cost_microusd=remaining,
            timeout_s=tools.MODEL_TIMEOUT_S,
            run_id=ids.show("run", run_id),
        )
    except Exception:
        with db.tenant(caller) as tx:
            store.release_step(tx, run_id, step_no, worker=worker)
        raise

    with db.tenant(caller) as tx:
        run = ending.existing(tx, run_id, lock=True)
        if run.ended:
            raise RunEnded(f"The run is {run.status}.")
        message = conversation.message_of(completion)
        if store.end_step(tx, run_id, step_no, message=message, cost_microusd=completion.call.cost_microusd):
            for call_no, call in enumerate(conversation.calls_of(message)):
                store.insert_call(tx, run_id, step_no, call_no, call=call)
            store.add_event(tx, run_id, "run.step.thought", conversation.thought(step_no, message, completion))
            _note_cost(tx, run)
        return list(range(len(conversation.calls_of(message))))


def act(caller: Caller, run_id: UUID, step_no: int, call_no: int) -> None:
    """Execute one tool call and checkpoint what the model is told of it.

    A tool's failure is a result: the model reads it and goes on. Only what ends the run, or may pass, is raised.
    """
    with db.tenant(caller) as tx:
        run = ending.existing(tx, run_id)
        if run.ended:
            raise RunEnded(f"The run is {run.status}.")
        call = store.start_call(tx, run_id, step_no, call_no)
        if call is None:
            raise NotFound(f"Step {step_no} has no call {call_no}.")
        if call.done:
            return
        config = _config(tx, caller, run)
        # The calls of a step run side by side: each may use its part of what is left.
        siblings = next(len(step.calls) for step in store.steps(tx, run_id) if step.step_no == step_no)
        share = _remaining(tx, run, config) // siblings

    outcome = tools.execute(
        replace(caller, behalf=run.attribution),
        call,
        tools.Context(
            run=run,
            allowed=config.tools,
            source_id=f"{ending.source(run_id)}{step_no}:{call_no}",
            budget_microusd=share,
        ),
    )

    with db.tenant(caller) as tx:
        run = ending.existing(tx, run_id, lock=True)
        if run.ended:
            raise RunEnded(f"The run is {run.status}.")
        if store.end_call(tx, run_id, step_no, call_no, status=outcome.status, result=outcome.result):
            store.add_event(
                tx,
                run_id,
                "run.tool.completed",
                {
                    "step_no": step_no,
                    "call_no": call_no,
                    "name": call.name,
                    "status": outcome.status,
                    "result": conversation.shortened(outcome.result),
                },
            )
            _note_cost(tx, run)


def finish(caller: Caller, run_id: UUID) -> Run:
    """End the run with the model's last answer."""

    def succeed(tx: Tx, run: Run, cost_microusd: int) -> Run:
        answer = conversation.answer(store.steps(tx, run_id))
        return run.succeed(clock.now(), output=answer, cost_microusd=cost_microusd)

    run = ending.end(caller, run_id, succeed)
    events.relay_soon(caller)
    return run


def recover(caller: Caller, run_id: UUID, *, reason: EndReason, failure: str) -> None:
    """Write down why the run fails; `fail` ends it with that."""
    with db.tenant(caller) as tx:
        store.set_diagnosis(tx, run_id, reason=reason, failure=failure)


def fail(caller: Caller, run_id: UUID) -> Run:
    """End the run as failed, for the reason that `recover` wrote down."""

    def end(_: Tx, run: Run, cost_microusd: int) -> Run:
        return run.fail(
            clock.now(),
            reason=run.end_reason or EndReason.INTERNAL,
            failure=run.failure or "Something went wrong on our side; it has been recorded.",
            cost_microusd=cost_microusd,
        )

    run = ending.end(caller, run_id, end)
    events.relay_soon(caller)
    return run


def _config(tx: Tx, caller: Caller, run: Run) -> AgentConfig:
    return agents.get_config(tx, caller, run.agent_id, run.agent_version)


def _remaining(tx: Tx, run: Run, config: AgentConfig) -> int:
    """Return what models may still cost: the budget less what they have cost and what the sandbox may come to."""
    reserved = sandboxes.worst_case_cost(sandbox_ttl_s(run.timeout_s)) if config.needs_sandbox else 0
    spent = inference.cost_under(tx, source_prefix=ending.source(run.id))
    return max(0, run.budget_microusd - reserved - spent)


def _note_cost(tx: Tx, run: Run) -> None:
    """Show what the run has cost so far; its end settles the exact sum."""
    sandbox = sandboxes.of_run(tx, run.id)
    spent = inference.cost_under(tx, source_prefix=ending.source(run.id))
    store.set_cost(tx, run.id, spent + (sandboxes.cost_so_far(sandbox) if sandbox else 0))


def _calls(step: Step) -> list[int]:
    return [call.call_no for call in step.calls]
