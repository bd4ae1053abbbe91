"""HTTP API of metering: what the platform's own services measure outside of the API, taken at the operator's word."""

from dataclasses import replace
from typing import Annotated

from fastapi import Depends

from shared.audit import service as audit
from shared.billing import service as billing
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.routing import Router
from shared.orgs import service as orgs
from shared.usage import service
from shared.usage.ingest_schemas import RecordUsage, UsageAcceptedOut

router = Router(prefix="/v1/usage", tags=["usage"])


@router.post("/events", status_code=202)
def record_usage(
    body: RecordUsage,
    caller: Annotated[Caller, Depends(require("usage:write"))],
    once: Annotated[Once, Depends(once)],
) -> UsageAcceptedOut:
    """Meter what a tenant used outside of the API. What is sent again counts once."""
    receiver = replace(caller, org_id=body.org_id)
    events = body.at(clock.now())

    def put() -> UsageAcceptedOut:
        with db.acting_for(tx, body.org_id):
            orgs.get_org(tx, body.org_id)
            billing.check_metered(events)
            shown = ids.show("org", body.org_id)
            audit.record(
                tx,
                receiver,
                action="usage.record",
                resource_type="org",
                resource_id=shown,
                new={"events": len(events)},
            )
        # Before the commit: who is told that it was accepted can rely on it, and sent twice it counts once.
        service.put_on_queue(body.org_id, events)
        return UsageAcceptedOut(events=len(events))

    with db.tenant(caller) as tx:
        return once(tx, put)


handler = lambda_handler(router)
