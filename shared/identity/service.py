"""Use cases of identity: make, rotate and revoke keys; the door to service accounts and to who calls."""

from datetime import datetime, timedelta
from uuid import UUID

from shared.audit import service as audit
from shared.identity import store
from shared.identity.authentication import authenticate
from shared.identity.model import OPERATOR_ORG_ID, ApiKey, KeyBeyondYours, KeyMode, KeySecret, key_expiry
from shared.identity.policy import KEY_SCOPES, OPERATOR_SCOPES, grantable
from shared.identity.service_accounts import (
    create_account,
    disable_account,
    get_account,
    list_accounts,
    scopes_for_key,
    update_account,
)
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound, Unauthenticated
from shared.kernel.pagination import Slice

__all__ = ["authenticate", "create_account", "disable_account", "get_account", "list_accounts", "update_account"]


def create_first_key(tx: Tx, creator: Caller, *, org_id: UUID) -> tuple[ApiKey, KeySecret]:
    """Make a new tenant's first key, with every scope of a key. `tx` acts for that tenant."""
    secret = KeySecret.generate()
    return _insert_key(tx, creator, org_id=org_id, name="First key", secret=secret, scopes=KEY_SCOPES), secret


def create_key(
    tx: Tx,
    caller: Caller,
    *,
    name: str,
    scopes: frozenset[str] | None,
    expires_at: datetime | None,
    metadata: dict[str, str],
    mode: KeyMode = KeyMode.LIVE,
    rate_limit_per_minute: int | None = None,
    service_account_id: UUID | None = None,
) -> tuple[ApiKey, KeySecret]:
    """Make a key with at most the caller's own scopes. The secret is returned here and never again.

    A service account's key has at most the account's scopes as well. Raises `InvalidRequest`, and `NotFound` or
    `ServiceAccountDisabled` for an account that can have no key.
    """
    if service_account_id is None:
        allowed = grantable(scopes, caller.scopes)
    else:
        allowed = scopes_for_key(tx, caller, account_id=service_account_id, asked=scopes)
    secret = KeySecret.generate(mode)
    key = _insert_key(
        tx,
        caller,
        name=name,
        secret=secret,
        scopes=allowed,
        expires_at=key_expiry(mode, expires_at, clock.now()),
        metadata=metadata,
        rate_limit_per_minute=rate_limit_per_minute,
        service_account_id=service_account_id,
    )
    return key, secret


def rotate_key(tx: Tx, caller: Caller, *, key_id: UUID, overlap_s: int) -> tuple[ApiKey, KeySecret]:
    """Make a key that is as this one is, which works on for `overlap_s` at most; return the new one and its secret.

    Raises `NotFound`, `KeyNotRotatable`, `KeyBeyondYours` and `ServiceAccountDisabled`.
    """
    old = store.find_key(tx, key_id, lock=True)
    if old is None:
        raise NotFound.of("API key", ids.show("key", key_id))
    now = clock.now()
    expires_at = old.successor_expires_at(now)
    if old.service_account_id is not None:
        get_account(tx, old.service_account_id).enabled()
    if beyond := sorted(old.scopes - caller.scopes):
        raise KeyBeyondYours(f"You can't rotate a key that may do what you may not: {', '.join(beyond)}.")
    secret = KeySecret.generate(old.mode)
    new = _insert_key(
        tx,
        caller,
        name=old.name,
        secret=secret,
        scopes=old.scopes,
        expires_at=expires_at,
        metadata=old.metadata,
        rate_limit_per_minute=old.rate_limit_per_minute,
        service_account_id=old.service_account_id,
    )
    good_until = old.overlapping(now, timedelta(seconds=overlap_s))
    store.replace_key(tx, key_id, replaced_by=new.id, expires_at=good_until)
    audit.record(
        tx,
        caller,
        action="api_key.rotate",
        resource_type="api_key",
        resource_id=ids.show("key", key_id),
        old={"expires_at": _moment(old.expires_at)},
        new={"expires_at": _moment(good_until), "replaced_by": ids.show("key", new.id)},
    )
    return new, secret


def get_key(tx: Tx, key_id: UUID) -> ApiKey:
    key = store.find_key(tx, key_id)
    if key is None:
        raise NotFound.of("API key", ids.show("key", key_id))
    return key


def list_keys(tx: Tx, asked: Slice, *, service_account_id: UUID | None = None) -> list[ApiKey]:
    """Return up to `limit + 1` keys, newest first, revoked ones included; of one service account, if given."""
    return store.list_keys(tx, asked, service_account_id=service_account_id)


def revoke_key(tx: Tx, caller: Caller, *, key_id: UUID) -> ApiKey:
    """Revoke a key for good; revoking it again changes nothing. Effective once API Gateway's 5 s cache has passed."""
    before = store.find_key(tx, key_id)
    after = store.revoke_key(tx, key_id)
    if before is None or after is None:
        raise NotFound.of("API key", ids.show("key", key_id))
    if before.revoked_at is None:
        audit.record(tx, caller, action="api_key.revoke", resource_type="api_key", resource_id=ids.show("key", key_id))
    return after


def operator_key(stored: str) -> KeySecret:
    """Return the operator's key as stored, or a new one when what is stored isn't a key."""
    try:
        return KeySecret.parse(stored)
    except Unauthenticated:
        return KeySecret.generate()


def register_operator(secret: KeySecret) -> None:
    """Make this the operator's one live key. Running it again with the same secret changes nothing."""
    system = Caller.system(OPERATOR_ORG_ID)
    with db.tenant(system) as tx:
        store.ensure_operator_org(tx, OPERATOR_ORG_ID)
        store.revoke_other_operators(tx, secret.sha256)
        if store.has_key(tx, secret.sha256):
            return
        _insert_key(tx, system, name="Operator", secret=secret, role="operator", scopes=OPERATOR_SCOPES)


def _insert_key(
    tx: Tx,
    caller: Caller,
    *,
    name: str,
    secret: KeySecret,
    scopes: frozenset[str],
    role: str = "api",
    org_id: UUID | None = None,
    expires_at: datetime | None = None,
    metadata: dict[str, str] | None = None,
    rate_limit_per_minute: int | None = None,
    service_account_id: UUID | None = None,
) -> ApiKey:
    key = store.insert_key(
        tx,
        key_id=ids.new(),
        org_id=org_id or caller.org_id,
        name=name,
        secret=secret,
        role=role,
        scopes=scopes,
        expires_at=expires_at,
        metadata=metadata or {},
        rate_limit_per_minute=rate_limit_per_minute,
        service_account_id=service_account_id,
    )
    audit.record(
        tx,
        caller,
        org_id=org_id,
        action="api_key.create",
        resource_type="api_key",
        resource_id=ids.show("key", key.id),
        new={"name": name, "mode": key.mode, "scopes": sorted(scopes), "expires_at": _moment(expires_at)}
        | ({} if service_account_id is None else {"service_account_id": ids.show("svc", service_account_id)}),
    )
    return key


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
