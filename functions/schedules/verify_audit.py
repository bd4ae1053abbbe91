"""Each night: walks over every tenant's audit trail, logs where its chain ends, and fails if one is not as written."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.audit import service
from shared.audit.model import TrailBroken
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.sweeping import sweep
from shared.kernel.telemetry import invoked, logger


def verify(org_id: UUID) -> int:
    """Return how many events the tenant's trail has; raise `TrailBroken`."""
    with db.tenant(Caller.system(org_id)) as tx:
        found = service.verify(tx)
    # Out of reach of who can write to the database: a chain that is shorter later, or another, was tampered with.
    facts = {"org_id": str(org_id), "seq": found.head.seq, "hash": found.head.hash.hex(), "events": found.events}
    logger.info("audit head", extra=facts)
    for fault in found.faults:
        logger.error("audit fault", extra={"org_id": str(org_id), "fault": fault.kind, "detail": str(fault)})
    if found.faults:
        raise TrailBroken(f"{len(found.faults)} faults in the audit trail")
    return found.events


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    with db.anonymous() as tx:
        orgs = service.every_org(tx)
    return sweep(orgs, {"events": verify})
