"""Each night: proves every tenant's credit ledger, names the first entry that breaks a rule, and fails if one does."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.billing import service
from shared.billing.model import LedgerBroken, Violation
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.sweeping import sweep
from shared.kernel.telemetry import invoked, logger
from shared.quotas import service as quotas


def verify(org_id: UUID) -> int:
    """Return how many entries the tenant's ledger has; raise `LedgerBroken`."""
    with db.tenant(Caller.system(org_id)) as tx:
        found = service.check(tx)
        balance = service.balance(tx)
    for violation in found:
        logger.error("ledger violation", extra=_facts(org_id, violation))
    if found:
        raise LedgerBroken(f"{len(found)} rules are broken in a credit ledger, the first: {found[0].rule}")
    return balance.entries


def _facts(org_id: UUID, violation: Violation) -> dict[str, str | int | None]:
    return {
        "org_id": str(org_id),
        "rule": violation.rule,
        "entry_id": None if violation.entry_id is None else ids.show("entry", violation.entry_id),
        "expected": violation.expected,
        "found": violation.found,
    }


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    with db.anonymous() as tx:
        orgs = quotas.every_org(tx)
    return sweep(orgs, {"entries": verify})
