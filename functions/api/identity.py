"""HTTP API's health page, and the answer to what nothing else answers."""

from shared.identity.schemas import Health
from shared.kernel import cache, db
from shared.kernel.http import lambda_handler
from shared.kernel.routing import Router

router = Router(prefix="/v1", tags=["identity"])


@router.get("/health")
def health() -> Health:
    with db.anonymous() as tx:
        tx.execute("SELECT 1")
    up = cache.is_up()
    return Health(status="ok" if up else "degraded", redis="ok" if up else "down")


handler = lambda_handler(router)
