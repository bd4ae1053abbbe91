"""An org's own sign-in: which issuer it trusts for itself, and what that issuer's word makes of somebody."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from shared.audit import service as audit
from shared.kernel import db, ids, settings, wrapping
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.logins import oidc_client, store
from shared.logins.addresses import check_url
from shared.logins.model import (
    IdentityProviderFailed,
    IssuerRefused,
    OidcClient,
    ProviderNotConfigured,
    SsoConnection,
    check_roles,
)


def own(caller: Caller, org_id: UUID) -> Caller:
    """Return the caller; raise `NotFound` unless the org is theirs."""
    if caller.org_id != org_id:
        raise NotFound.of("org", ids.show("org", org_id))
    return caller


def check_issuer(issuer: str) -> None:
    """Ask the issuer for its discovery document; raise `IssuerRefused` unless sign-in with it can work."""
    check_url(issuer, private=settings.logins().private_issuers)
    if "?" in issuer:
        raise IssuerRefused("An issuer has no query.", param="issuer")
    try:
        oidc_client.discover(issuer)
    except IdentityProviderFailed as error:
        raise IssuerRefused(f"The issuer can't be asked: {error.message}", param="issuer") from None


def put_connection(
    tx: Tx,
    caller: Caller,
    *,
    issuer: str,
    client_id: str,
    client_secret: str,
    role_claim: str | None,
    role_map: Mapping[str, str],
    default_role: str | None,
) -> SsoConnection:
    """Set up the org's sign-in, or replace it. The issuer has been checked; roles are checked here."""
    check_roles(role_map, default_role)
    before = store.find_connection(tx)
    after = store.put_connection(
        tx,
        issuer=issuer,
        client_id=client_id,
        client_secret_wrapped=wrapping.wrap(client_secret.encode(), context=_context(caller.org_id)),
        role_claim=role_claim,
        role_map=role_map,
        default_role=default_role,
    )
    _record(tx, caller, "sso.update" if before else "sso.create", old=before, new=after)
    return after


def get_connection(tx: Tx, org_id: UUID) -> SsoConnection:
    """Return the sign-in of the org that `tx` acts for."""
    connection = store.find_connection(tx)
    if connection is None:
        raise NotFound.of("sign-in of its own in the org", ids.show("org", org_id))
    return connection


def delete_connection(tx: Tx, caller: Caller) -> SsoConnection:
    """Remove the org's sign-in. Sessions it opened go on until they end or their people are removed."""
    connection = store.delete_connection(tx)
    if connection is None:
        raise NotFound.of("sign-in of its own in the org", ids.show("org", caller.org_id))
    _record(tx, caller, "sso.delete", old=connection, new=None)
    return connection


def org_of_slug(tx: Tx, slug: str) -> UUID:
    """Return the org with this slug and a sign-in of its own; raise `ProviderNotConfigured`."""
    org_id = store.org_by_slug(tx, slug)
    if org_id is None:
        raise _not_configured()
    return org_id


def client_of_org(tx: Tx, org_id: UUID) -> OidcClient:
    """Return how the org's issuer knows us; raise `ProviderNotConfigured`. `tx` is anonymous."""
    with db.acting_for(tx, org_id):
        connection = store.find_connection(tx)
    if connection is None:
        raise _not_configured()
    secret = wrapping.unwrap(connection.client_secret_wrapped, context=_context(org_id)).decode()
    return OidcClient(connection.issuer, connection.client_id, secret)


def _not_configured() -> ProviderNotConfigured:
    return ProviderNotConfigured("No org of this name has a sign-in of its own.", param="org_slug")


def _context(org_id: UUID) -> dict[str, str]:
    return {"purpose": "sso-client", "org": ids.show("org", org_id)}


def _record(tx: Tx, caller: Caller, action: str, *, old: SsoConnection | None, new: SsoConnection | None) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="sso_connection",
        resource_id=ids.show("org", caller.org_id),
        old=_shown(old),
        new=_shown(new),
    )


def _shown(connection: SsoConnection | None) -> dict[str, Any] | None:
    told = ("issuer", "client_id", "role_claim", "role_map", "default_role")
    return None if connection is None else {name: value for name, value in asdict(connection).items() if name in told}
