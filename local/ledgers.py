"""`make ledger-verify`: proves the credit ledger of every org of a home."""

from local.database import home_database
from local.terminal import Terminal
from shared.billing import service
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.quotas import service as quotas


def verify(database_url: str, terminal: Terminal) -> int:
    """Print one line when every ledger adds up, else each rule that is broken and by which entry, and return 1."""
    with home_database(database_url):
        return _verify(terminal)


def _verify(terminal: Terminal) -> int:
    with db.anonymous() as tx:
        orgs = quotas.every_org(tx)
    entries = violations = 0
    for org_id in orgs:
        with db.tenant(Caller.system(org_id)) as tx:
            found = service.check(tx)
            entries += service.balance(tx).entries
        violations += len(found)
        for each in found:
            at = "" if each.entry_id is None else f" at {ids.show('entry', each.entry_id)}"
            shown = f"{each.rule}{at}: expected {each.expected}, found {each.found}"
            terminal.say(f"ledger: {ids.show('org', org_id)}: {shown}")
    terminal.say(f"ledger: orgs={len(orgs)} entries={entries} {f'violations={violations}' if violations else 'ok'}")
    return 1 if violations else 0
