"""A process that allocates one run's worth of quota, says so, and then waits to be killed before it makes the run."""

import sys
from uuid import UUID

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.quotas import service as quotas
from shared.quotas.plans import Resource

if __name__ == "__main__":
    org_id, run_id = UUID(sys.argv[1]), UUID(sys.argv[2])
    with db.tenant(Caller.system(org_id)) as tx:
        quotas.allocate(tx, org_id, Resource.CONCURRENT_RUNS, holder=ids.show("run", run_id))
    print("allocated", flush=True)
    sys.stdin.read()
