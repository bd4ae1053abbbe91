"""The nightly proof of the credit ledgers: whatever is done to a copy of one, the first entry at fault is named."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from typing import Any, LiteralString

import psycopg
import pytest
from rich.console import Console

from functions.schedules import verify_ledger
from local.errors import HomeError
from local.ledgers import verify as ledger_verify
from local.terminal import Terminal
from shared.billing import service
from shared.billing.model import LedgerBroken, LotKind
from shared.kernel import clock, db, ids, settings
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from tests.api_gateway import Context
from tests.services import Services

# What the story below comes to.
ENTRIES = 11


@pytest.fixture
def story(org: Caller, rival: Caller, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """A tenant with every kind of entry behind it, and another with one."""
    start = clock.now()
    soon, later = start + timedelta(hours=1), start + timedelta(days=1)
    for caller, amount in ((org, 1_000), (rival, 7)):
        with db.tenant(caller) as tx:
            service.grant(tx, caller, amount_microusd=amount, source_id="invoice:1", reason="test")
    promo: dict[str, Any] = {"reason": "test", "kind": LotKind.PROMO, "expires_at": soon}
    with db.tenant(org) as tx:
        service.grant(tx, org, amount_microusd=100, source_id="promo:1", **promo)
        service.hold(tx, org, amount_microusd=300, source_id="run:1", expires_at=later)
        service.settle_part(tx, org, source_id="run:1", part_id="step:1", amount_microusd=50)
        service.settle(tx, org, source_id="run:1", amount_microusd=150)
        service.hold(tx, org, amount_microusd=200, source_id="run:2", expires_at=later)
        service.refund(tx, org, amount_microusd=20, source_id="refund:1", reason="test")
        service.adjust(tx, org, amount_microusd=-30, source_id="mistake:1", reason="test")
        service.grant(tx, org, amount_microusd=40, source_id="promo:2", **promo)
    monkeypatch.setattr(clock, "now", lambda: soon + timedelta(minutes=1))
    with db.tenant(org) as tx:
        service.expire(tx, org)
        assert service.balance(tx).entries == ENTRIES
    return org


@pytest.fixture
def copied(
    services: Services, database: str, story: Caller, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[LiteralString], None]]:
    """`copied(sql)`: from here on `db` is at a copy of the database, in which the schema's owner did this."""
    name = f"{database}_copy"

    def tamper(statements: LiteralString) -> None:
        db.close()
        services.copy(database, name)
        with psycopg.connect(services.superuser_url(name)) as connection:
            connection.execute("SELECT set_config('app.tampered_org', %s, true)", (str(story.org_id),))
            for statement in statements.split(";"):
                connection.execute(statement)
        _use(services, name, monkeypatch)

    yield tamper
    db.close()
    services.drop(name)


def _use(services: Services, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    db.close()
    for variable, value in services.environment(database).items():
        monkeypatch.setenv(variable, value)
    settings.forget()


OURS: LiteralString = "org_id = current_setting('app.tampered_org')::uuid"
ENTRY: LiteralString = f"UPDATE credit_entries SET {{}} WHERE {OURS} AND entry_no = {{}}"
LOT: LiteralString = f"UPDATE credit_lots SET {{}} WHERE {OURS} AND source_id = '{{}}'"
HOLD: LiteralString = f"UPDATE credit_holds SET {{}} WHERE {OURS} AND source_id = '{{}}'"
FORGED: LiteralString = f"""
    INSERT INTO credit_entries (id, org_id, entry_no, kind, amount_microusd, source_id, reason, subject_id, part_id,
                                available_after_microusd, held_after_microusd)
    SELECT gen_random_uuid(), org_id, 12, 'grant', 500, 'invoice:forged', 'test', {{}}, '',
           available_after_microusd + 500, held_after_microusd FROM credit_entries WHERE {OURS} AND entry_no = 11;
    UPDATE credit_accounts SET granted_microusd = granted_microusd + 500, entries = 12 WHERE {OURS}
"""


@pytest.mark.parametrize(
    ("tampering", "rule", "entry_no", "expected", "found"),
    [
        (ENTRY.format("amount_microusd = 201", 7), "entry.available_after", 7, 749, 750),
        (ENTRY.format("amount_microusd = 99", 5), "entry.held_after", 5, 151, 150),
        (ENTRY.format("available_after_microusd = 771", 8), "entry.available_after", 8, 770, 771),
        (ENTRY.format("held_after_microusd = 0", 11), "entry.held_after", 11, 200, 0),
        (f"DELETE FROM credit_entries WHERE {OURS} AND entry_no = 4", "entries.in_order", 5, 4, 5),
        (f"DELETE FROM credit_entries WHERE {OURS} AND entry_no = 11", "lot.remaining", 10, 40, 0),
        (ENTRY.format("source_id = 'run:3'", 7), "entry.cause", 7, 1, 0),
        (FORGED.format("NULL"), "entry.cause", 12, 1, 0),
        (FORGED.format("subject_id"), "entry.cause", 12, 1, 0),
        (
            LOT.format("remaining_microusd = remaining_microusd - 1", "invoice:1"),
            "lot.remaining",
            1,
            720,
            719,
        ),
        (
            LOT.format("amount_microusd = 1001, remaining_microusd = remaining_microusd + 1", "invoice:1"),
            "lot.amount",
            1,
            1000,
            1001,
        ),
        (LOT.format("expires_at = NULL", "promo:2"), "entry.cause", 11, 1, 0),
        (f"DELETE FROM credit_lots WHERE {OURS} AND source_id = 'promo:1'", "entry.cause", 2, 1, 0),
        (
            HOLD.format("status = 'open', closed_at = NULL", "run:1"),
            "hold.closed",
            6,
            1,
            0,
        ),
        (
            HOLD.format("settled_microusd = 140", "run:1"),
            "hold.settled",
            5,
            150,
            140,
        ),
        (HOLD.format("status = 'released'", "run:2"), "hold.closed", 7, 0, 1),
        (f"DELETE FROM credit_holds WHERE {OURS} AND source_id = 'run:2'", "entry.cause", 7, 1, 0),
        (f"UPDATE credit_accounts SET granted_microusd = 1111 WHERE {OURS}", "account.granted", None, 1110, 1111),
        (f"UPDATE credit_accounts SET owed_microusd = 5 WHERE {OURS}", "account.owed", None, 0, 5),
        (f"UPDATE credit_accounts SET entries = 12 WHERE {OURS}", "account.entries", None, 11, 12),
    ],
    ids=[
        "an amount that was edited",
        "the amount of a settlement that was edited",
        "available credits after an entry",
        "held credits after an entry",
        "an entry deleted from the middle",
        "the last entry deleted",
        "an entry of another cause",
        "an entry without a cause put at the end",
        "an entry with a borrowed cause put at the end",
        "what is left of a lot",
        "what a lot brought",
        "the end of a lot that has expired",
        "a lot deleted",
        "a hold opened again",
        "what a hold has settled",
        "a hold closed without an entry",
        "a hold deleted",
        "the account's grants",
        "the account's debt",
        "the account's number of entries",
    ],
)
def test_whatever_is_done_to_a_ledger_is_logged_with_the_first_entry_that_breaks_a_rule(
    story: Caller,
    copied: Callable[[LiteralString], None],
    logged: Callable[[], str],
    tampering: LiteralString,
    rule: str,
    entry_no: int | None,
    expected: int,
    found: int,
) -> None:
    copied(tampering)
    with pytest.raises(ExceptionGroup) as raised:
        verify_ledger.handler({}, Context())
    assert raised.group_contains(LedgerBroken, match=f"the first: {rule}$")
    with db.tenant(story) as tx:
        first, *_ = service.check(tx)
        named = [entry for entry in service.list_entries(tx, Slice(limit=50)) if entry.entry_no == entry_no]
    assert (first.rule, first.expected, first.found) == (rule, expected, found)
    assert first.entry_id == (named[0].id if entry_no else None)
    shown = repr(ids.show("entry", named[0].id) if entry_no else None)
    facts = f"'rule': '{rule}', 'entry_id': {shown}, 'expected': {expected}, 'found': {found}"
    assert f"'org_id': '{story.org_id}', {facts}" in logged()


def test_a_ledger_that_nobody_touched_is_sound_and_so_is_the_original_of_a_copy_that_is_not(
    services: Services,
    database: str,
    story: Caller,
    copied: Callable[[LiteralString], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert verify_ledger.handler({}, Context()) == {"entries": ENTRIES + 1}
    copied("UPDATE credit_accounts SET granted_microusd = granted_microusd + 1")
    with pytest.raises(ExceptionGroup):
        verify_ledger.handler({}, Context())
    _use(services, database, monkeypatch)
    assert verify_ledger.handler({}, Context()) == {"entries": ENTRIES + 1}


def test_one_tenants_broken_ledger_does_not_keep_the_others_from_being_proven(
    story: Caller, rival: Caller, copied: Callable[[LiteralString], None], logged: Callable[[], str]
) -> None:
    copied("UPDATE credit_accounts SET granted_microusd = granted_microusd + 1")
    with pytest.raises(ExceptionGroup) as raised:
        verify_ledger.handler({}, Context())
    assert len(raised.value.exceptions) == 2
    assert str(story.org_id) in logged()
    assert str(rival.org_id) in logged()


def test_ledger_verify_prints_one_line_or_each_rule_that_is_broken_and_where(
    services: Services, database: str, story: Caller, copied: Callable[[LiteralString], None]
) -> None:
    def run(name: str) -> tuple[int, list[str]]:
        printed = StringIO()
        url = services.environment(name)["RUNYARD_DATABASE_URL"]
        status = ledger_verify(url, Terminal(Console(file=printed, soft_wrap=True)))
        return status, printed.getvalue().splitlines()

    assert run(database) == (0, [f"ledger: orgs=2 entries={ENTRIES + 1} ok"])
    copied(ENTRY.format("held_after_microusd = 0", 11))
    with db.tenant(story) as tx:
        last = service.list_entries(tx, Slice(limit=1))[0]
    status, lines = run(f"{database}_copy")
    where = f"entry.held_after at {ids.show('entry', last.id)}: expected 200, found 0"
    assert lines[0] == f"ledger: {ids.show('org', story.org_id)}: {where}"
    assert (status, lines[-1]) == (1, f"ledger: orgs=2 entries={ENTRIES + 1} violations=1")


def test_ledger_verify_says_what_to_do_about_a_home_that_does_not_answer() -> None:
    with pytest.raises(HomeError) as raised:
        ledger_verify("postgresql://runyard@127.0.0.1:9/runyard", Terminal(Console(file=StringIO())))
    assert raised.value.hint == "`make up` starts it."
