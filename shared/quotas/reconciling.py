"""Makes what is counted agree with what exists, after a crash or a fault left them apart."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import batched
from uuid import UUID

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest
from shared.kernel.telemetry import logger
from shared.quotas import store
from shared.quotas.model import Holdings, Look
from shared.quotas.plans import Resource

# An allocation may be committed before its thing: for this long it is left alone.
GRACE = timedelta(minutes=15)
_AT_ONCE = 1000


def reconcile(caller: Caller, resource: Resource, *, prefix: str, holdings: Holdings) -> int:
    """Correct one resource of the caller's tenant; return how many holders were counted wrongly.

    `holdings` tells what exists, `prefix` is that of its public ids. Looks without locks first; what seems wrong is
    looked at again while nobody else can allocate or release.
    """
    corrected = 0
    for suspects in batched(_suspects(caller, resource, prefix, holdings), _AT_ONCE, strict=False):
        with db.tenant(caller) as tx:
            store.lock(tx, caller.org_id, resource)
            corrected += _correct(tx, caller.org_id, resource, prefix, holdings, list(suspects))
            _recount(tx, caller.org_id, resource)
    with db.tenant(caller) as tx:
        used, held = store.counted(tx, caller.org_id, resource)
        if used != held:
            store.lock(tx, caller.org_id, resource)
            _recount(tx, caller.org_id, resource)
            corrected += 1
    if corrected:
        logger.warning(
            "quota corrected", extra={"org_id": str(caller.org_id), "resource": resource, "count": corrected}
        )
    return corrected


def _suspects(caller: Caller, resource: Resource, prefix: str, holdings: Holdings) -> Iterator[str]:
    """Walk things and holders side by side in the order of their ids; yield the holders that differ."""
    after: UUID | None = None
    while True:
        with db.tenant(caller) as tx:
            things = holdings(tx, Look(limit=_AT_ONCE, after=after))
            last = things[-1][0] if len(things) == _AT_ONCE else None
            counted = store.holders(
                tx,
                caller.org_id,
                resource,
                grace=GRACE,
                after=None if after is None else ids.show(prefix, after),
                until=None if last is None else ids.show(prefix, last),
            )
        existing = {ids.show(prefix, thing): amount for thing, amount in things}
        yield from sorted(holder for holder in existing.keys() | counted if _differs(holder, existing, counted))
        if last is None:
            return
        after = last


def _correct(tx: Tx, org_id: UUID, resource: Resource, prefix: str, holdings: Holdings, suspects: list[str]) -> int:
    counted = store.holders(tx, org_id, resource, grace=GRACE, among=suspects)
    among = [thing for holder in suspects if (thing := _thing(prefix, holder))]
    found = holdings(tx, Look(limit=len(among), among=among)) if among else []
    existing = {ids.show(prefix, thing): amount for thing, amount in found}
    wrong = [holder for holder in suspects if _differs(holder, existing, counted)]
    for holder in wrong:
        if existing.get(holder):
            store.put_holder(tx, org_id, resource, holder=holder, amount=existing[holder])
        else:
            store.remove_holder(tx, org_id, resource, holder=holder)
    return len(wrong)


def _differs(holder: str, existing: dict[str, int], counted: dict[str, store.Holder]) -> bool:
    known = counted.get(holder)
    if not existing.get(holder):
        return known is not None and known.settled
    return known is None or known.amount != existing[holder]


def _recount(tx: Tx, org_id: UUID, resource: Resource) -> None:
    _, held = store.counted(tx, org_id, resource)
    store.set_used(tx, org_id, resource, used=held)


def _thing(prefix: str, holder: str) -> UUID | None:
    try:
        return ids.read(prefix, holder)
    except InvalidRequest:
        return None
