"""A price that was agreed with one org holds from a moment on, and is never changed once it has been in force."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.billing.prices import TokenPrice
from shared.kernel.errors import Conflict, InvalidRequest

# Workers know prices as of some seconds ago: with this much notice they all change over at the same moment.
NOTICE = timedelta(seconds=60)
_TOO_LATE = timedelta(seconds=10)


class OrgPriceExists(Conflict):
    """The org has a price for this model from this very moment on; choose another one."""

    code = "price_exists"


class OrgPriceInForce(Conflict):
    """A price that is in force, or about to be, stays: set another one from a later moment on."""

    code = "price_in_force"


@dataclass(frozen=True, slots=True)
class OrgPrice:
    """What an org pays for a model from a moment on; None: what the price book says."""

    id: UUID
    model: str
    effective_from: datetime
    price: TokenPrice | None
    created_by: str
    created_at: datetime

    def check_to_come(self, now: datetime) -> None:
        """Raise `OrgPriceInForce` unless nothing can have been priced by it."""
        if self.effective_from - now < _TOO_LATE:
            raise OrgPriceInForce("This price is in force, or about to be; set another one from a later moment on.")


def beginning(asked: datetime | None, now: datetime) -> datetime:
    """Return when a price set now begins, by default as soon as may be; raise `InvalidRequest` for a moment sooner."""
    soonest = now + NOTICE
    if asked is not None and asked < soonest:
        raise InvalidRequest(
            f"effective_from: at least {NOTICE.seconds} s from now, so that it is known everywhere when it begins.",
            param="effective_from",
        )
    return asked or soonest
