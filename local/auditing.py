"""`make audit-verify`: walks over the audit trail of every org of a home."""

import os

from psycopg import ProgrammingError

from local.errors import HomeError
from local.terminal import Terminal
from shared.audit import service
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import Unavailable


def verify(database_url: str, terminal: Terminal) -> int:
    """Print one line when every trail is as it was written, else what is wrong with which, and return 1."""
    os.environ |= {"RUNYARD_DATABASE_URL": database_url, "RUNYARD_DATABASE_IAM_AUTH": "0"}
    try:
        return _verify(terminal)
    except Unavailable as error:
        raise HomeError("The home's database does not answer.", hint="`make up` starts it.") from error
    except ProgrammingError as error:
        raise HomeError(
            "The home's schema is older than this code.", hint="`make deploy` brings it up to date."
        ) from error
    finally:
        db.close()


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
