"""Each hour: meters what every tenant stored in the hour that ended, and in hours that nobody metered."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.billing import service as billing
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.sweeping import sweep
from shared.kernel.telemetry import invoked
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.usage import storage


def meter(org_id: UUID) -> int:
    caller = Caller.system(org_id)
    with db.tenant(caller) as tx:
        held = {each.resource: each.used for each in quotas.status(tx, org_id)}[Resource.STORAGE_BYTES]
        return billing.meter(tx, caller, storage.hours(tx, stored_bytes=held, now=clock.now()))


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    with db.anonymous() as tx:
        tenants = quotas.every_org(tx)
    return sweep(tenants, {"hours": meter})
