"""Use cases of identity: make and revoke keys, tell who calls."""

from datetime import datetime, timedelta
from uuid import UUID

from shared.audit import service as audit
from shared.identity import store
from shared.identity.model import OPERATOR_ORG_ID, ApiKey, KeySecret
from shared.identity.policy import KEY_SCOPES, OPERATOR_SCOPES, grantable
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import ApiKeyExpired, ApiKeyRevoked, InvalidRequest, NotFound, Unauthenticated
from shared.kernel.pagination import Slice

_TOUCH_EVERY = timedelta(minutes=1)


def authenticate(header: str | None) -> Caller:
    """Return the bearer of an `Authorization` header; raise `Unauthenticated`."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("Send an API key as `Authorization: Bearer ry_live_…`.")
    secret = KeySecret.parse(token)
    with db.anonymous() as tx:
        found = store.bearer(tx, secret.sha256)
    if found is None:
        raise Unauthenticated("This API key is unknown.")
    if found["revoked_at"] is not None or found["disabled_at"] is not None:
        raise ApiKeyRevoked("This API key was revoked.")
    if found["expires_at"] is not None and found["expires_at"] <= clock.now():
        raise ApiKeyExpired("This API key has expired.")
    caller = Caller(
        org_id=found["org_id"],
        actor_id=ids.show("key", found["id"]),
        role=found["role"],
        scopes=frozenset(found["scopes"]),
        plan=found["plan"],
    )
    if found["last_used_at"] is None or found["last_used_at"] < clock.now() - _TOUCH_EVERY:
        with db.tenant(caller) as tx:
            store.touch_key(tx, found["id"])
    return caller


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
) -> tuple[ApiKey, KeySecret]:
    """Make a key with at most the caller's own scopes. The secret is returned here and never again."""
    if expires_at is not None and expires_at <= clock.now():
        raise InvalidRequest("expires_at: must be in the future.", param="expires_at")
    secret = KeySecret.generate()
    key = _insert_key(
        tx,
        caller,
        name=name,
        secret=secret,
        scopes=grantable(scopes, caller.scopes),
        expires_at=expires_at,
        metadata=metadata,
    )
    return key, secret


def list_keys(tx: Tx, asked: Slice) -> list[ApiKey]:
    """Return up to `limit + 1` keys, newest first, revoked ones included."""
    return store.list_keys(tx, asked)


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
    )
    audit.record(
        tx,
        caller,
        org_id=org_id,
        action="api_key.create",
        resource_type="api_key",
        resource_id=ids.show("key", key.id),
        new={"name": name, "scopes": sorted(scopes)},
    )
    return key
