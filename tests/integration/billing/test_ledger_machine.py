"""Ten thousand operations on credit ledgers, at once, twice and interrupted by kill -9: nothing is lost or doubled."""

import os
import random
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.orgs import service as orgs
from tests.integration.billing.ledger_machine import compare, entries_after, explain
from tests.integration.billing.ledger_mix import MAKERS, Mix
from tests.integration.billing.ledger_model import Model
from tests.integration.billing.ledger_worker import Crew, Fuse, Operation, Task
from tests.services import Services

OPERATIONS = 10_000
WORKERS = 4
# The same in every build; RUNYARD_LEDGER_SEED=fresh (or a number) looks elsewhere.
SEED = 20_261_121
_EXAMPLES, _STEPS, _AT_ONCE = 5, 30, 30
STATEMENTS = st.integers(0, 9)


class _Tally:
    """What the machines of one test have in common."""

    crew: Crew
    operations = 0
    entries = 0
    failure: Exception | None = None


class LedgerMachine(RuleBasedStateMachine):
    """Sends operations for a new tenant, one at a time or many at once, and has the model explain what came of them."""

    @initialize(chance=st.integers(0, 2**32 - 1))
    def begin(self, chance: int) -> None:
        system = Caller.system(ids.new())
        with db.tenant(system) as tx:
            orgs.create_org(tx, system, org_id=system.org_id, name="Machine")
        self.org_id = system.org_id
        self.now = clock.now()
        self.model = Model()
        self.mix = Mix(self.org_id, random.Random(chance))

    @rule(name=st.sampled_from(sorted(MAKERS)))
    def one(self, name: str) -> None:
        self._do([Task(0, self.mix.make(name, self.now))])

    @rule()
    def one_delivered_again(self) -> None:
        if self.mix.sent:
            self._do([Task(0, self.mix.again(self.now))])

    @rule(name=st.sampled_from(sorted(MAKERS)), statement=STATEMENTS, sent=st.booleans())
    def one_whose_worker_is_killed(self, name: str, statement: int, sent: bool) -> None:
        self._do([Task(0, self.mix.make(name, self.now), Fuse(statement, sent))])

    @rule(name=st.sampled_from(sorted(MAKERS)))
    def one_delivered_to_every_worker_at_once(self, name: str) -> None:
        operation = self.mix.make(name, self.now)
        self._do([Task(number, operation) for number in range(WORKERS)])

    @rule(count=st.integers(_AT_ONCE, 2 * _AT_ONCE))
    def many_at_once(self, count: int) -> None:
        self._do(self._many(count))

    @rule(
        count=st.integers(_AT_ONCE, 2 * _AT_ONCE),
        fuses=st.dictionaries(st.integers(0, _AT_ONCE - 1), STATEMENTS, min_size=1, max_size=3),
        sent=st.booleans(),
    )
    def many_at_once_whose_workers_are_killed_at_some_statement(
        self, count: int, fuses: dict[int, int], sent: bool
    ) -> None:
        self._do(
            [
                Task(task.number, task.operation, Fuse(fuses[task.number], sent) if task.number in fuses else None)
                for task in self._many(count)
            ]
        )

    @rule(count=st.integers(_AT_ONCE, 2 * _AT_ONCE), after_ms=st.lists(st.integers(0, 40), min_size=1, max_size=3))
    def many_at_once_whose_workers_are_killed_from_outside(self, count: int, after_ms: list[int]) -> None:
        self._do(self._many(count), kill_after_s=[each / 1000 for each in after_ms])

    @rule(seconds=st.integers(1, 120))
    def time_goes_by(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def _many(self, count: int) -> list[Task]:
        return [Task(number, self.mix.next(self.now)) for number in range(count)]

    def _do(self, tasks: list[Task], kill_after_s: list[float] | None = None) -> None:
        try:
            self._attempt(tasks, kill_after_s or [])
        except Exception as failure:
            # Hypothesis runs it again, differently, and would speak of that instead.
            _Tally.failure = _Tally.failure or failure
            raise

    def _attempt(self, tasks: list[Task], kill_after_s: list[float]) -> None:
        outcomes = _Tally.crew.do(tasks, kill_after_s=kill_after_s)
        before = self.model.entries
        explain(self.model, tasks, outcomes, entries_after(self.org_id, before), at=self.now)
        compare(self.model, self.org_id)
        _Tally.operations += len(tasks)
        _Tally.entries += self.model.entries - before


@pytest.fixture
def crew(services: Services, database: str) -> Iterator[Crew]:
    """Worker processes on the test's database."""
    with Crew(services.environment(database), WORKERS) as hired:
        yield hired


@pytest.mark.timeout(600)
def test_ten_thousand_operations_at_once_and_killed_at_random_leave_a_ledger_that_is_explained(crew: Crew) -> None:
    _Tally.crew, _Tally.operations, _Tally.entries, _Tally.failure = crew, 0, 0, None
    asked = os.environ.get("RUNYARD_LEDGER_SEED", str(SEED))
    number = random.SystemRandom().randrange(2**32) if asked == "fresh" else int(asked)
    print(f"RUNYARD_LEDGER_SEED={number}")
    while _Tally.operations < OPERATIONS:
        _run(number)
        number += 1
    print(f"{_Tally.operations} operations, {_Tally.entries} entries, {crew.kills} workers killed")
    assert _Tally.entries > OPERATIONS / 2
    assert crew.kills > 100


def test_a_worker_that_was_killed_after_its_last_task_is_replaced(crew: Crew) -> None:
    nothing = [Task(0, Operation("expire", ids.new(), clock.now()))]
    for _ in range(3):
        assert crew.do(nothing)[0].said
        child = crew._workers[0].child
        child.kill()
        # Its end of the pipe is closed once it is dead.
        assert child.pipe.poll(30)
    assert crew.kills == 2


def _run(number: int) -> None:
    """Let machines of this seed run; raise the first failure of any."""
    try:
        run_state_machine_as_test(
            seed(number)(LedgerMachine),
            settings=settings(
                max_examples=_EXAMPLES,
                stateful_step_count=_STEPS,
                deadline=None,
                database=None,
                # Which worker comes first is up to the machine: a failure can't be made smaller by repeating it.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception as reported:  # noqa: BLE001 - whatever it is, it is raised, or what came before it
        raise _Tally.failure or reported from None
