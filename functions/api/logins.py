"""HTTP API of sign-in elsewhere: Google, GitHub, an org's own issuer; the identities of a person."""

from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from shared.billing import service as billing
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import IdentityId, OrgId, Page
from shared.kernel.http import client_ip, lambda_handler, once, request_id, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.logins import browser, service
from shared.logins.model import SSO, Begun, Client, Pending
from shared.logins.schemas import AuthorizationOut, Callback, IdentityOut, PutSso, SsoOut
from shared.people import service as people
from shared.people.model import Visitor
from shared.people.schemas import SignedInOut

router = Router(tags=["logins"])
Reader = Annotated[Caller, Depends(require("account:read"))]
Person = Annotated[Caller, Depends(require("account:write"))]
Answer = Annotated[Callback, Query()]


@router.get("/v1/auth/oauth/{provider}/start", status_code=302, response_class=RedirectResponse)
def start_oauth(provider: str, request: Request) -> RedirectResponse:
    """Send the browser to the provider, `google` or `github`; it comes back to `…/callback` within ten minutes."""
    return _sent_to(service.begin(service.client_of(provider), provider=provider), request)


@router.get("/v1/auth/oauth/{provider}/callback")
def finish_oauth(provider: str, answer: Answer, request: Request, response: Response) -> SignedInOut:
    """Sign in with what the provider says: a person known by this identity or verified e-mail address, or a new one."""
    client, cookie = service.client_of(provider), request.cookies.get(browser.COOKIE)
    with db.anonymous() as tx:
        pending = service.take(tx, state=answer.state, browser=cookie, provider=provider)
    return _entered(client, pending, answer, request, response)


@router.get("/v1/auth/sso/{org_slug}/start", status_code=302, response_class=RedirectResponse)
def start_sso(org_slug: str, request: Request) -> RedirectResponse:
    """Send the browser to the org's own issuer."""
    with db.anonymous() as tx:
        org_id = service.org_of_slug(tx, org_slug)
        client = service.client_of_org(tx, org_id)
    return _sent_to(service.begin(client, provider=SSO, org_id=org_id), request)


@router.get("/v1/auth/sso/{org_id}/callback")
def finish_sso(org_id: OrgId, answer: Answer, request: Request, response: Response) -> SignedInOut:
    """Sign in to this org alone, with what its own issuer says."""
    with db.anonymous() as tx:
        cookie = request.cookies.get(browser.COOKIE)
        pending = service.take(tx, state=answer.state, browser=cookie, provider=SSO, org_id=org_id)
        client = service.client_of_org(tx, org_id)
    return _entered(client, pending, answer, request, response)


@router.get("/v1/me/identities")
def list_identities(asked: Annotated[Slice, slice_of("idn")], caller: Reader) -> Page[IdentityOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_identities(tx, asked), asked)
    cursor = ids.show("idn", found[-1].id) if more else None
    return Page(data=[IdentityOut.of(each) for each in found], has_more=more, next_cursor=cursor)


@router.post("/v1/me/identities/{provider}/start")
def start_linking(
    provider: str, caller: Person, once: Annotated[Once, Depends(once)], response: Response
) -> AuthorizationOut:
    """Begin to add an identity to yourself, in the browser that was given this answer's cookie."""
    begun = service.begin(service.client_of(provider), provider=provider, linking=caller)
    with db.tenant(caller) as tx:
        service.keep(tx, begun, ip=caller.ip)
        answer = once(tx, lambda: AuthorizationOut(authorization_url=begun.url), secret={"authorization_url"})
    response.headers.update(browser.bound_to(begun))
    return answer


@router.delete("/v1/me/identities/{identity_id}")
def remove_identity(identity_id: IdentityId, caller: Person) -> IdentityOut:
    """Remove an identity. A person without a password keeps one."""
    with db.tenant(caller) as tx:
        return IdentityOut.of(service.remove_identity(tx, caller, identity_id))


@router.get("/v1/orgs/{org_id}/sso")
def get_sso(org_id: OrgId, caller: Annotated[Caller, Depends(require("sso:read"))]) -> SsoOut:
    with db.tenant(service.own(caller, org_id)) as tx:
        return SsoOut.of(service.get_connection(tx, org_id))


@router.put("/v1/orgs/{org_id}/sso")
def put_sso(org_id: OrgId, body: PutSso, caller: Annotated[Caller, Depends(require("sso:write"))]) -> SsoOut:
    """Let the org's own OpenID Connect issuer sign people in to this org."""
    own = service.own(caller, org_id)
    service.check_issuer(body.issuer)
    with db.tenant(own) as tx:
        return SsoOut.of(service.put_connection(tx, caller, **dict(body)))


@router.delete("/v1/orgs/{org_id}/sso")
def delete_sso(org_id: OrgId, caller: Annotated[Caller, Depends(require("sso:write"))]) -> SsoOut:
    with db.tenant(service.own(caller, org_id)) as tx:
        return SsoOut.of(service.delete_connection(tx, caller))


def _sent_to(begun: Begun, request: Request) -> RedirectResponse:
    with db.anonymous() as tx:
        service.keep(tx, begun, ip=client_ip(request))
    return RedirectResponse(begun.url, 302, browser.bound_to(begun))


def _entered(client: Client, pending: Pending, answer: Callback, request: Request, response: Response) -> SignedInOut:
    claims = service.claims_of(client, pending, code=answer.code, iss=answer.iss, error=answer.error)
    visitor = Visitor(client_ip(request), request.headers.get("user-agent", ""), request_id(request))
    with db.anonymous() as tx:
        entered = service.enter(tx, pending, claims, visitor)
        if entered.new_org is not None:
            with db.acting_for(tx, entered.new_org):
                billing.open_account(tx, entered.new_org, plan="free", request_id=visitor.request_id)
    response.headers.update(browser.done())
    return SignedInOut.of(people.signed_in(entered.opened))


handler = lambda_handler(router)
