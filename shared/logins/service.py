"""Use cases of sign-in elsewhere: begin, come back, enter as a person, manage identities and orgs' own sign-ins."""

import secrets
from uuid import UUID

from shared.audit import service as audit
from shared.kernel import ids, settings
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice
from shared.logins import entering, github_client, oidc_client, sso, store
from shared.logins.clients import client_of
from shared.logins.model import (
    LIFETIME,
    SSO,
    Begun,
    Claims,
    Client,
    GitHubClient,
    Identity,
    LastWayIn,
    LoginStateInvalid,
    Pending,
    SignInRefused,
)
from shared.people import service as people

__all__ = [
    "begin",
    "check_issuer",
    "claims_of",
    "client_of",
    "client_of_org",
    "delete_connection",
    "enter",
    "get_connection",
    "keep",
    "list_identities",
    "org_of_slug",
    "own",
    "put_connection",
    "redirect_uri",
    "remove_identity",
    "take",
]

enter = entering.enter
check_issuer = sso.check_issuer
client_of_org = sso.client_of_org
delete_connection = sso.delete_connection
get_connection = sso.get_connection
org_of_slug = sso.org_of_slug
own = sso.own
put_connection = sso.put_connection


def redirect_uri(provider: str, org_id: UUID | None = None) -> str:
    """Return where the provider sends the browser back to, to be registered there.

    Each has its own, each org's too: an issuer can't have another one's answer delivered as its own (RFC 9700, 4.4).
    """
    place = f"oauth/{provider}" if org_id is None else f"{SSO}/{ids.show('org', org_id)}"
    return f"{settings.public_url()}/v1/auth/{place}/callback"


def begin(client: Client, *, provider: str, org_id: UUID | None = None, linking: Caller | None = None) -> Begun:
    """Return where the browser goes, with fresh secrets; `keep` must follow. May ask the provider: no transaction.

    `linking` is the person to whom the identity will be added.
    """
    state, browser, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
    back = redirect_uri(provider, org_id)
    if isinstance(client, GitHubClient):
        url = github_client.authorization_url(client, redirect_uri=back, state=state, verifier=verifier)
    else:
        url = oidc_client.authorization_url(client, redirect_uri=back, state=state, nonce=nonce, verifier=verifier)
    pending = Pending(
        provider=provider,
        org_id=org_id,
        link_user_id=linking.person_id if linking else None,
        link_session_id=linking.session_id if linking else None,
        nonce=nonce,
        code_verifier=verifier,
    )
    return Begun(url=url, state=state, browser=browser, pending=pending)


def keep(tx: Tx, begun: Begun, *, ip: str) -> None:
    """Remember a sign-in for ten minutes, under hashes of what the URL and the browser carry.

    Raises `TooManyAttempts` when too many were begun from this address.
    """
    people.count_start(tx, ip=ip)
    store.insert_pending(tx, begun, lifetime=LIFETIME)


def take(tx: Tx, *, state: str | None, browser: str | None, provider: str, org_id: UUID | None = None) -> Pending:
    """Return the sign-in that this browser began here, once; raise `LoginStateInvalid`."""
    found = store.take_pending(tx, state=state or "", browser=browser or "", provider=provider, org_id=org_id)
    if found is None:
        raise LoginStateInvalid("This sign-in was not begun in this browser within the last ten minutes; begin again.")
    return found


def claims_of(client: Client, pending: Pending, *, code: str | None, iss: str | None, error: str | None) -> Claims:
    """Return what the provider says of who signed in, given the callback's query. No transaction is open.

    Raises `SignInRefused`, `CodeRefused`, `IdTokenRefused`, `LoginStateInvalid`.
    """
    if error is not None or not code:
        raise SignInRefused("The provider did not let you sign in, or you declined.")
    back, verifier = redirect_uri(pending.provider, pending.org_id), pending.code_verifier
    if isinstance(client, GitHubClient):
        return github_client.claims(client, code=code, redirect_uri=back, verifier=verifier)
    return oidc_client.claims(client, code=code, redirect_uri=back, nonce=pending.nonce, verifier=verifier, iss=iss)


def list_identities(tx: Tx, asked: Slice) -> list[Identity]:
    """Return up to `limit + 1` identities of the current person, newest first."""
    return store.list_identities(tx, asked)


def remove_identity(tx: Tx, caller: Caller, identity_id: UUID) -> Identity:
    """Take an identity from the caller; raise `LastWayIn` when nothing else would sign them in."""
    person = people.get_person(tx, caller)
    store.lock(tx, f"identities of {person.id}")
    identity = store.find_identity(tx, identity_id)
    if identity is None:
        raise NotFound.of("identity", ids.show("idn", identity_id))
    # What an org's issuer opens is that org alone: no way in to the account itself.
    if identity.org_id is None and store.count_personal(tx) == 1 and not person.has_password:
        raise LastWayIn("Nothing else would sign you in; set a password first.")
    store.delete_identity(tx, identity_id)
    audit.record(
        tx,
        caller,
        action="identity.delete",
        resource_type="identity",
        resource_id=ids.show("idn", identity_id),
        old={"issuer": identity.issuer, "email": identity.email},
    )
    return identity
