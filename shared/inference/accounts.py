"""Use cases of the providers that orgs set up: create, read, change, rotate, delete.

Nothing of a key can get lost on the way: the row, which names its secret, is there before the secret, and the secret is
gone before the row. Both change while the row is locked.
"""

from uuid import UUID

from shared.audit import service as audit
from shared.identity.model import OPERATOR_ORG_ID
from shared.inference import accounts_store as store
from shared.inference.accounts_model import (
    MOST_PROVIDERS,
    Account,
    ProviderInUse,
    SetUpLimitReached,
    check_complete,
    secret_of,
)
from shared.inference.config import ProviderKind
from shared.kernel import clock, ids, secrets, settings
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice


def begin_account(
    tx: Tx,
    caller: Caller,
    *,
    name: str,
    kind: ProviderKind,
    base_url: str,
    region: str,
    models: tuple[str, ...],
    parameters: tuple[str, ...],
    enabled: bool,
    api_key: str | None,
) -> Account:
    """Set up a provider. One with a key isn't asked until `store_key` has stored it, or `abandon_account` undone this.

    One of this name that was begun a minute ago and not gone on with is put away. Raises `InvalidRequest`,
    `ProviderAddressRefused`, `ProviderNameTaken` and `SetUpLimitReached`.
    """
    check_complete(
        kind,
        base_url=base_url,
        region=region,
        api_key=api_key,
        by_operator=caller.org_id == OPERATOR_ORG_ID,
        private=settings.private_providers(),
    )
    left_behind, now = store.lock_named(tx, name), clock.now()
    if left_behind is not None and left_behind.was_given_up(now):
        _delete(tx, caller, left_behind)
    if store.count(tx) >= MOST_PROVIDERS:
        raise SetUpLimitReached(f"An org has at most {MOST_PROVIDERS} providers.")
    provider_id = ids.new()
    account = Account(
        id=provider_id,
        name=name,
        kind=kind,
        base_url=base_url.rstrip("/"),
        region=region,
        models=models,
        parameters=parameters,
        secret="" if api_key is None else secret_of(settings.provider_secrets().prefix, caller.org_id, provider_id),
        key_hint="",
        enabled=enabled and api_key is None,
        created_by=caller.actor_id,
        created_at=now,
        updated_at=now,
        rotated_at=None,
    )
    store.insert(tx, account)
    _record(tx, caller, "provider.create", account.id, new=account.described())
    return account


def list_accounts(tx: Tx, asked: Slice) -> list[Account]:
    """Return up to `limit + 1` providers, the newest first."""
    return store.list_accounts(tx, asked)


def get_account(tx: Tx, provider_id: UUID, *, lock: bool = False) -> Account:
    account = store.find(tx, provider_id, lock=lock)
    if account is None:
        raise NotFound.of("provider", ids.show("prv", provider_id))
    return account


def update_account(
    tx: Tx,
    caller: Caller,
    *,
    provider_id: UUID,
    models: tuple[str, ...] | None,
    parameters: tuple[str, ...] | None,
    enabled: bool | None,
) -> Account:
    """Change what is given; raise `ProviderWithoutKey`."""
    before = get_account(tx, provider_id, lock=True)
    after = before.changed(models=models, parameters=parameters, enabled=enabled)
    store.update(tx, after)
    _record(tx, caller, "provider.update", provider_id, old=before.described(), new=after.described())
    return get_account(tx, provider_id)


def store_key(tx: Tx, caller: Caller, *, provider_id: UUID, api_key: str, enabled: bool | None = None) -> Account:
    """Store the provider's key, its first one or another.

    All workers ask with it within five minutes, or as soon as the one before is refused. Raises `InvalidRequest` where
    none is needed, and `Unavailable`.
    """
    before = get_account(tx, provider_id, lock=True)
    after = before.rotated(api_key, clock.now(), enabled=enabled)
    secrets.keep(after.secret, api_key, encryption_key_arn=settings.provider_secrets().encryption_key_arn)
    store.update(tx, after)
    _record(tx, caller, "provider.rotate", provider_id, old=before.described(), new=after.described())
    return get_account(tx, provider_id)


def delete_account(tx: Tx, caller: Caller, *, provider_id: UUID) -> None:
    """Delete a provider and its key; raise `ProviderInUse` while a route names it."""
    account = get_account(tx, provider_id, lock=True)
    route = store.route_with(tx, account.name)
    if route is not None:
        raise ProviderInUse(f"The route {route} names this provider; change or delete the route first.")
    _delete(tx, caller, account)


def abandon_account(tx: Tx, caller: Caller, *, provider_id: UUID) -> None:
    """Undo `begin_account` when what followed failed. One that has its key after all stays."""
    account = store.find(tx, provider_id, lock=True)
    if account is not None and (account.lacks_key or not account.secret):
        _delete(tx, caller, account)


def _delete(tx: Tx, caller: Caller, account: Account) -> None:
    if account.secret:
        secrets.delete(account.secret)
    store.delete(tx, account.id)
    _record(tx, caller, "provider.delete", account.id, old=account.described())


def _record(
    tx: Tx,
    caller: Caller,
    action: str,
    provider_id: UUID,
    *,
    old: dict[str, object] | None = None,
    new: dict[str, object] | None = None,
) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="provider",
        resource_id=ids.show("prv", provider_id),
        old=old,
        new=new,
    )
