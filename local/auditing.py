"""`make audit-verify`: walks over the audit trail of every org of a home."""

from local.database import home_database
from local.terminal import Terminal
from shared.audit import service
from shared.kernel import db, ids
from shared.kernel.caller import Caller


def verify(database_url: str, terminal: Terminal) -> int:
    """Print one line when every trail is as it was written, else what is wrong with which, and return 1."""
    with home_database(database_url):
        return _verify(terminal)


def _verify(terminal: Terminal) -> int:
    with db.anonymous() as tx:
        orgs = service.every_org(tx)
    events = faults = 0
    for org_id in orgs:
        with db.tenant(Caller.system(org_id)) as tx:
            found = service.verify(tx)
        events += found.events
        faults += len(found.faults)
        for fault in found.faults:
            terminal.say(f"audit: {ids.show('org', org_id)}: {fault}")
    terminal.say(f"audit: orgs={len(orgs)} events={events} {f'faults={faults}' if faults else 'ok'}")
    return 1 if faults else 0
