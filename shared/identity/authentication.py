"""Who calls, told from an Authorization header: the bearer of an API key or of an access token."""

import re
from datetime import timedelta

from shared.identity import store
from shared.identity.model import KeySecret
from shared.identity.policy import Role, scopes_of
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import (
    ApiKeyExpired,
    ApiKeyRevoked,
    MalformedAuthorization,
    SessionEnded,
    Unauthenticated,
)
from shared.quotas import service as quotas
from shared.tokens import service as tokens

# What the edge puts in for a request without the header: API Gateway would not ask the authorizer otherwise.
_NO_HEADER = "none"
_TOUCH_EVERY = timedelta(minutes=1)
_LONGEST_HEADER = 4096
# RFC 6750. A second header arrives joined by a comma, which is no character of a credential.
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE | re.ASCII)
# What an org's own issuer opens is that org alone. Its owner could enter as any member by it: the person's account,
# sessions and other orgs are none of theirs.
_NOT_FROM_ELSEWHERE = frozenset({"account:read", "account:write", "orgs:create"})


def authenticate(header: str | None) -> Caller:
    """Return the bearer of an `Authorization` header; raise `Unauthenticated` or a kind of it."""
    if header is None or header == _NO_HEADER or not header.strip():
        raise Unauthenticated("Send an API key or access token as `Authorization: Bearer …`.")
    found = _BEARER.fullmatch(header) if len(header) <= _LONGEST_HEADER else None
    if found is None:
        raise MalformedAuthorization("Send one header `Authorization: Bearer …` with one API key or access token.")
    credential = found[1]
    return _person(credential) if "." in credential else _program(credential)


def _program(credential: str) -> Caller:
    """Return the caller with this API key."""
    secret = KeySecret.parse(credential)
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
        rates=quotas.rates_of(found["plan"], found["resource_quota"], found["rate_limit_per_minute"]),
    )
    if found["last_used_at"] is None or found["last_used_at"] < clock.now() - _TOUCH_EVERY:
        with db.tenant(caller) as tx:
            store.touch_key(tx, found["id"])
    return caller


def _person(token: str) -> Caller:
    """Return the person whose access token this is, as long as the session lives and they belong to the org."""
    claims = tokens.verify(token)
    with db.anonymous() as tx:
        found = store.bearer_of_session(tx, session_id=claims.session_id, user_id=claims.user_id, org_id=claims.org_id)
    if found is None or found["ended_at"] is not None or found["expires_at"] <= clock.now():
        raise SessionEnded("This session has ended, or its person left the org; sign in again.")
    scopes = scopes_of(Role(found["role"]))
    return Caller(
        org_id=claims.org_id,
        actor_id=ids.show("user", claims.user_id),
        role=found["role"],
        scopes=scopes - _NOT_FROM_ELSEWHERE if found["org_locked"] else scopes,
        plan=found["plan"],
        person_id=claims.user_id,
        session_id=claims.session_id,
        rates=quotas.rates_of(found["plan"], found["resource_quota"], None),
    )
