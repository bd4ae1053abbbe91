"""Each night: makes the quotas that are counted agree with what exists, tenant by tenant."""

from functools import partial
from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.sweeping import sweep
from shared.kernel.telemetry import invoked
from shared.memory import service as memory
from shared.orgs import service as orgs
from shared.quotas import service as quotas
from shared.quotas.model import Holdings
from shared.quotas.plans import Resource
from shared.runs import service as runs
from shared.sandboxes import service as sandboxes

# Who knows what exists of each resource, and the prefix of its ids. Webhook endpoints don't exist yet.
HOLDINGS: dict[Resource, tuple[str, Holdings]] = {
    Resource.CONCURRENT_RUNS: ("run", runs.holders),
    Resource.SANDBOXES: ("sbx", sandboxes.holders),
    Resource.MEMBERS: ("user", orgs.holders),
    Resource.MEMORIES: ("mem", memory.holders),
    Resource.STORAGE_BYTES: ("mem", memory.stored_bytes),
}


def reconcile(resource: Resource, org_id: UUID) -> int:
    prefix, holdings = HOLDINGS[resource]
    return quotas.reconcile(Caller.system(org_id), resource, prefix=prefix, holdings=holdings)


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    with db.anonymous() as tx:
        tenants = quotas.every_org(tx)
    return sweep(tenants, {resource: partial(reconcile, resource) for resource in HOLDINGS})
