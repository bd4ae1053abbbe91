"""HTTP API of what a tenant's spending leads to, and how to spend less."""

from datetime import UTC, datetime, time, timedelta
from typing import Annotated

from fastapi import Depends

from shared.billing import service
from shared.billing.advice_schemas import AdviceOut, AdviceReport, ForecastOut
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.http import lambda_handler, require
from shared.kernel.routing import Router
from shared.sandboxes import service as sandboxes

router = Router(prefix="/v1/reports", tags=["reports"])
type Reader = Annotated[Caller, Depends(require("usage:read"))]


@router.get("/forecast")
def forecast_credits(caller: Reader) -> ForecastOut:
    now = clock.now()
    with db.reading(caller) as tx:
        found, available = service.forecast_of(tx, now)
    return ForecastOut.of(found, available_microusd=available, as_of=now)


@router.get("/advice")
def advise_on_spending(caller: Reader) -> AdviceReport:
    now = clock.now()
    first_day = now.astimezone(UTC).date() - timedelta(days=service.ADVICE_DAYS - 1)
    since = datetime.combine(first_day, time.min, UTC)
    with db.reading(caller) as tx:
        found = service.advice_of(tx, sandboxes.time_used(tx, since), now)
    return AdviceReport(since=since, until=now, data=[AdviceOut.of(advice) for advice in found])


handler = lambda_handler(router)
