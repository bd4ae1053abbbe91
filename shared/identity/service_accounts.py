"""Use cases of service accounts: programs that own keys, and bound what these may do."""

from typing import Any
from uuid import UUID

from shared.audit import service as audit
from shared.identity import service_accounts_store as store
from shared.identity.model import ServiceAccount
from shared.identity.policy import grantable
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest, NotFound
from shared.kernel.pagination import Slice


def create_account(
    tx: Tx, caller: Caller, *, name: str, scopes: frozenset[str] | None, metadata: dict[str, str]
) -> ServiceAccount:
    """Create a service account with at most the caller's own scopes; by default all of them that a key can hold."""
    account = store.insert(
        tx,
        account_id=ids.new(),
        name=name,
        scopes=grantable(scopes, caller.scopes),
        metadata=metadata,
        created_by=caller.actor_id,
    )
    _record(tx, caller, "service_account.create", account, old=None)
    return account


def get_account(tx: Tx, account_id: UUID) -> ServiceAccount:
    return _required(store.find(tx, account_id), account_id)


def list_accounts(tx: Tx, asked: Slice) -> list[ServiceAccount]:
    """Return up to `limit + 1` service accounts, newest first, disabled ones included."""
    return store.list_accounts(tx, asked)


def update_account(
    tx: Tx,
    caller: Caller,
    *,
    account_id: UUID,
    name: str | None,
    scopes: frozenset[str] | None,
    metadata: dict[str, str] | None,
) -> ServiceAccount:
    """Change what is given. Its keys lose at once what it loses, and have again what it is given back.

    Nobody adds a scope that they lack. Raises `NotFound`, `ServiceAccountDisabled`, `InvalidRequest`.
    """
    before = _required(store.find(tx, account_id, lock=True), account_id).enabled()
    if scopes is not None:
        grantable(scopes - before.scopes, caller.scopes)
    after = store.update(
        tx,
        account_id,
        name=before.name if name is None else name,
        scopes=before.scopes if scopes is None else scopes,
        metadata=before.metadata if metadata is None else metadata,
    )
    _record(tx, caller, "service_account.update", after, old=_facts(before))
    return after


def disable_account(tx: Tx, caller: Caller, *, account_id: UUID) -> ServiceAccount:
    """Disable it for good, and with it its keys; again, it changes nothing."""
    before = _required(store.find(tx, account_id, lock=True), account_id)
    if before.disabled_at is not None:
        return before
    after = store.disable(tx, account_id)
    _record(tx, caller, "service_account.disable", after, old=_facts(before))
    return after


def scopes_for_key(tx: Tx, caller: Caller, *, account_id: UUID, asked: frozenset[str] | None) -> frozenset[str]:
    """Return the scopes of a new key of this account: within the caller's and within the account's own."""
    account = _required(store.find(tx, account_id, lock=True), account_id, param="service_account_id").enabled()
    if asked is None:
        return grantable(None, caller.scopes & account.scopes)
    if beyond := sorted(grantable(asked, caller.scopes) - account.scopes):
        raise InvalidRequest(f"The service account lacks these scopes: {', '.join(beyond)}.", param="scopes")
    return asked


def _required(account: ServiceAccount | None, account_id: UUID, *, param: str = "id") -> ServiceAccount:
    if account is None:
        raise NotFound(f"No service account has the id {ids.show('svc', account_id)}.", param=param)
    return account


def _facts(account: ServiceAccount) -> dict[str, Any]:
    return {"name": account.name, "scopes": sorted(account.scopes), "disabled": account.disabled_at is not None}


def _record(tx: Tx, caller: Caller, action: str, account: ServiceAccount, *, old: dict[str, Any] | None) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="service_account",
        resource_id=ids.show("svc", account.id),
        old=old,
        new=_facts(account),
    )
