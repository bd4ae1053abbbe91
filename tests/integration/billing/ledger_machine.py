"""What must be true of a credit ledger whatever was done to it by however many at once.

The ledger itself says in which order its entries took effect. `explain` walks along them: each must be the effect of an
operation that was sent, done by the model in that place, and each answer that a worker was given must be one that the
model gives somewhere on the way.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from shared.billing import service
from shared.billing.model import Entry
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from tests.integration.billing.ledger_model import FIRST_MADE, OWED, Answer, Model, Step
from tests.integration.billing.ledger_worker import Operation, Outcome, Task


class Unexplained(AssertionError):
    """The ledger holds something that no operation explains, or answered what no order of them leads to."""


def explain(
    model: Model,
    tasks: Sequence[Task],
    outcomes: Mapping[int, Outcome],
    entries: Sequence[Entry],
    *,
    at: datetime,
) -> None:
    """Let the model do these tasks in the order that the new entries tell; raise `Unexplained` where it can't.

    `at` is what the clocks of all workers show. The end of a lot or a hold is a cause of its own: whoever noticed it,
    and was killed before it could say so, made the entry.
    """
    waiting = {task.number: task.operation for task in tasks}
    anybody = Operation("expire", UUID(int=0), at)
    left = list(entries)
    while True:
        _strike_out(model, waiting, outcomes)
        if not left:
            break
        if cause := _cause(model, waiting, outcomes, left, at):
            number, many = cause
            asked = waiting.pop(number)
        elif model.may_expire(left[0], at) or _is_overdue(model, left[0], tasks, at):
            asked, many = anybody, 1
        else:
            raise Unexplained(f"no operation that was sent explains {left[0]}")
        for entry in left[:many]:
            _follow(model, entry, asked)
        del left[:many]
    if waiting:
        number, operation = waiting.popitem()
        raise Unexplained(f"{operation} answered {outcomes[number]}, and the model never does")


def _strike_out(model: Model, waiting: dict[int, Operation], outcomes: Mapping[int, Outcome]) -> None:
    """Strike out those that changed nothing and answered what the model answers at this point."""
    for number in list(waiting):
        answer = model.answer(waiting[number])
        if not answer.steps and Outcome(answer.refused, answer.said) == outcomes[number]:
            del waiting[number]


def _cause(
    model: Model,
    waiting: Mapping[int, Operation],
    outcomes: Mapping[int, Outcome],
    entries: Sequence[Entry],
    at: datetime,
) -> tuple[int, int] | None:
    """Return which of the tasks made the next entries, and how many."""
    for number, operation in waiting.items():
        answer = model.answer(operation)
        if answer.steps and (many := _match(model, answer, outcomes[number], entries, at)):
            return number, many
    return None


def _match(model: Model, answer: Answer, outcome: Outcome, entries: Sequence[Entry], at: datetime) -> int:
    """Return how many entries these are, with ends of lots that were noticed between them; 0 if they aren't its own."""
    steps = list(answer.steps)
    first: Entry | None = None
    for position, entry in enumerate(entries):
        if _is(steps[0], entry, first):
            first = first or entry
            del steps[0]
        elif first is None or entry.kind != "expire" or not model.is_over(entry, at):
            return 0
        if not steps:
            assert first is not None
            said = tuple(first.entry_no if part == FIRST_MADE else part for part in answer.said)
            return position + 1 if Outcome(said=said) == outcome else 0
    return 0


def _is(step: Step, entry: Entry, first: Entry | None) -> bool:
    source_id = step.source_id
    if source_id == OWED and first is not None:
        source_id += ids.show("entry", first.id)
    # What expires is told apart by its number.
    part_id = entry.part_id if step.kind == "expire" else step.part_id
    expected = (step.kind, step.amount, source_id, part_id)
    same = (str(entry.kind), entry.amount_microusd, entry.source_id, entry.part_id) == expected
    return same and step.reason in ("", entry.reason)


def _is_overdue(model: Model, entry: Entry, tasks: Sequence[Task], at: datetime) -> bool:
    """Return whether a hold was given back because its time was over, as somebody was asked to do."""
    reaped = any(task.operation.name == "release_expired" for task in tasks)
    is_its_end = (entry.kind, entry.reason) == ("release", "expired") and model.overdue(entry.source_id, at)
    return reaped and is_its_end and entry.amount_microusd == model.holds[entry.source_id].left


def _follow(model: Model, entry: Entry, asked: Operation) -> None:
    if entry.kind in ("settle", "release") and entry.subject_id != model.holds[entry.source_id].id:
        raise Unexplained(f"{entry} is about another hold than that of its source")
    if entry.kind == "expire" and not model.may_expire(entry, asked.at):
        raise Unexplained(f"{entry} takes more than is left in a lot that is over")
    model.take(entry, asked)
    expected = (model.entries, model.available, model.held)
    found = (entry.entry_no, entry.available_after_microusd, entry.held_after_microusd)
    if found != expected or model.available < 0 or model.held < 0:
        raise Unexplained(f"number, available and held are {found} after {entry}, and should be {expected}")


def entries_after(org_id: UUID, number: int) -> list[Entry]:
    """Return the tenant's entries with higher numbers, the first to take effect first."""
    newest: list[Entry] = []
    with db.tenant(Caller.system(org_id)) as tx:
        asked = Slice(limit=100)
        while page := service.list_entries(tx, asked)[:100]:
            newest += [entry for entry in page if entry.entry_no > number]
            if page[-1].entry_no <= number + 1:
                break
            asked = Slice(limit=100, before=page[-1].id)
    return newest[::-1]


def compare(model: Model, org_id: UUID) -> None:
    """Raise `Unexplained` unless the account and its lots are the model's, and sound by their own check."""
    if drift := drift_from(model, org_id):
        raise Unexplained(f"the account differs: {drift}")
    with db.tenant(Caller.system(org_id)) as tx:
        violations = service.check(tx)
    if violations:
        raise Unexplained(f"the ledger's own check finds {violations}")


def drift_from(model: Model, org_id: UUID) -> dict[str, int]:
    """Return by how much which figure of the account, or which lot, differs from the model's."""
    with db.tenant(Caller.system(org_id)) as tx:
        balance = service.balance(tx)
        remaining = dict.fromkeys(model.lots, 0)
        asked = Slice(limit=100)
        while page := service.lots(tx, asked)[:100]:
            remaining |= {lot.id: lot.remaining_microusd for lot in page}
            asked = Slice(limit=100, before=page[-1].id)
    found = {
        "granted": balance.granted_microusd - model.granted,
        "refunded": balance.refunded_microusd - model.refunded,
        "settled": balance.settled_microusd - model.settled,
        "expired": balance.expired_microusd - model.expired,
        "held": balance.held_microusd - model.held,
        "owed": balance.owed_microusd - model.owed,
        "entries": balance.entries - model.entries,
    }
    for lot_id, amount in remaining.items():
        lot = model.lots.get(lot_id)
        found[ids.show("lot", lot_id)] = amount - (0 if lot is None else lot.remaining)
    return {name: difference for name, difference in found.items() if difference}
