"""Use cases of credits and prices: grant, hold, settle, release, refund; what usage costs.

Each of them may be delivered twice: `source_id` names the cause, and the second call answers as the first did.
"""

from dataclasses import replace
from uuid import UUID

from shared.billing import checking, lots_store, store
from shared.billing.advice import ADVICE_DAYS as ADVICE_DAYS
from shared.billing.advice import SandboxTime as SandboxTime
from shared.billing.advice import advice_of as advice_of
from shared.billing.credits import adjust as adjust
from shared.billing.credits import grant as grant
from shared.billing.credits import refund as refund
from shared.billing.estimates import MOST_SAMPLES as MOST_SAMPLES
from shared.billing.estimates import DryRun as DryRun
from shared.billing.estimates import Estimate as Estimate
from shared.billing.estimates import accuracy as accuracy
from shared.billing.estimates import by_price_book as by_price_book
from shared.billing.estimates import check_affordable as check_affordable
from shared.billing.estimates import close_estimate as close_estimate
from shared.billing.estimates import estimate_from as estimate_from
from shared.billing.estimates import first_refusal as first_refusal
from shared.billing.estimates import note_estimate as note_estimate
from shared.billing.forecast import forecast_of as forecast_of
from shared.billing.ledger import charge as charge
from shared.billing.ledger import expire as expire
from shared.billing.ledger import hold as hold
from shared.billing.ledger import release as release
from shared.billing.ledger import release_expired as release_expired
from shared.billing.ledger import settle as settle
from shared.billing.ledger import settle_part as settle_part
from shared.billing.lots import LotKind as LotKind
from shared.billing.metering import check_metered as check_metered
from shared.billing.metering import meter as meter
from shared.billing.model import Balance, Entry, Lot, NextExpiry, Violation
from shared.billing.org_prices import delete_org_price as delete_org_price
from shared.billing.org_prices import list_org_prices as list_org_prices
from shared.billing.org_prices import org_prices_from_now_on as org_prices_from_now_on
from shared.billing.org_prices import set_org_price as set_org_price
from shared.billing.prices import CannotPrice as CannotPrice
from shared.billing.prices import ModelNotPriced as ModelNotPriced
from shared.billing.prices import NotPriced as NotPriced
from shared.billing.prices import Priced as Priced  # other areas name these two in their signatures
from shared.billing.prices import TokenPrice as TokenPrice
from shared.billing.pricing import model_price as model_price
from shared.billing.pricing import price_of as price_of
from shared.billing.pricing import price_of_sandbox as price_of_sandbox
from shared.billing.pricing import price_of_tokens as price_of_tokens
from shared.billing.pricing import prices_at as prices_at
from shared.billing.pricing import prices_until as prices_until
from shared.billing.pricing import token_price as token_price
from shared.billing.subscriptions import change_plan as change_plan
from shared.billing.subscriptions import open_account as open_account
from shared.billing.subscriptions import orgs_with_period_over as orgs_with_period_over
from shared.billing.subscriptions import preview_change as preview_change
from shared.billing.subscriptions import renew as renew
from shared.billing.subscriptions import subscription as subscription
from shared.billing.till import HoldAsked as HoldAsked
from shared.billing.till import Settlement as Settlement
from shared.billing.till import Till as Till
from shared.billing.till import hold_many as hold_many
from shared.billing.till import settle_many as settle_many
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import Forbidden
from shared.kernel.pagination import Slice


def receiver(caller: Caller, org_id: UUID | None) -> Caller:
    """Return the caller at work on this org's account, by default on its own; raise `Forbidden` unless it may."""
    if org_id not in (None, caller.org_id) and caller.role != "operator":
        raise Forbidden("Only the operator's key may name another org.")
    return replace(caller, org_id=org_id or caller.org_id)


def balance(tx: Tx) -> Balance:
    """Return the tenant's credits as they are now."""
    return store.find_balance(tx) or Balance()


def list_entries(tx: Tx, asked: Slice) -> list[Entry]:
    """Return up to `limit + 1` entries, the last to take effect first."""
    return store.list_entries(tx, asked)


def lots(tx: Tx, asked: Slice) -> list[Lot]:
    """Return up to `limit + 1` lots, the newest first, those used up included."""
    return lots_store.list_lots(tx, asked)


def held_by(tx: Tx, pattern: str) -> int:
    """Return how many micro-dollars are held for sources that match a regular expression of Postgres's."""
    return store.held_by(tx, pattern)


def next_expiry(tx: Tx) -> NextExpiry | None:
    """Return what is lost next if nobody spends it before, and when."""
    return lots_store.next_expiry(tx, now=clock.now())


def orgs_with_expired_credits() -> list[UUID]:
    """Return the tenants with lots that are over and not empty."""
    with db.anonymous() as tx:
        return store.orgs_with_expired_credits(tx)


def check(tx: Tx) -> list[Violation]:
    """Return what breaks the ledger's invariants, the first offending entry included; nothing when it is sound."""
    return checking.violations(tx)
