"""HTTP API of signing in: register, confirm, sign in and out, refresh, reset a password; the keys that check tokens."""

from typing import Annotated, Any

from fastapi import Depends, Request, Response

from shared.billing import service as billing
from shared.kernel import db
from shared.kernel.http import client_ip, lambda_handler, request_id
from shared.kernel.routing import Router
from shared.mail import service as mail
from shared.people import service
from shared.people.model import Visitor
from shared.people.schemas import (
    AcceptedOut,
    ConfirmEmail,
    ForgotPassword,
    Login,
    Logout,
    PasswordOut,
    Refresh,
    Register,
    ResetPassword,
    SessionsEndedOut,
    SignedInOut,
)
from shared.tokens import service as tokens

router = Router(tags=["auth"])
# New keys are published for an hour before they sign.
_CACHED = {"Cache-Control": "public, max-age=300"}


async def visitor(request: Request) -> Visitor:
    user_agent = request.headers.get("user-agent", "")
    return Visitor(ip=client_ip(request), user_agent=user_agent, request_id=request_id(request))


type From = Annotated[Visitor, Depends(visitor)]


@router.post("/v1/auth/register", status_code=202)
def register(body: Register, visitor: From) -> AcceptedOut:
    """Ask for an account. A letter with a link confirms the address."""
    with db.anonymous() as tx:
        service.count_letter(tx, email=body.email, ip=visitor.ip)
    with db.anonymous() as tx:
        owner, letter_id = service.register(
            tx, email=body.email, name=body.name, password=body.password.get_secret_value()
        )
    mail.ask_for("letter", owner=owner, letter_id=letter_id)
    return AcceptedOut()


@router.post("/v1/auth/confirm-email", status_code=201)
def confirm_email(body: ConfirmEmail, visitor: From) -> SignedInOut:
    """Confirm the address with the letter's link and the password chosen at registration; signs in."""
    token, password = body.token.get_secret_value(), body.password.get_secret_value()
    with db.anonymous() as tx:
        service.count_confirmation(tx, token=token, ip=visitor.ip)
    with db.anonymous() as tx:
        opened = service.confirm_email(tx, token=token, password=password, visitor=visitor)
        org_id = opened.session.org_id
        with db.acting_for(tx, org_id):
            billing.open_account(tx, org_id, plan="free", request_id=visitor.request_id)
    return SignedInOut.of(service.signed_in(opened))


@router.post("/v1/auth/login")
def login(body: Login, visitor: From) -> SignedInOut:
    opened = service.sign_in(
        email=body.email,
        password=body.password.get_secret_value(),
        totp=body.totp,
        recovery_code=body.recovery_code,
        visitor=visitor,
    )
    return SignedInOut.of(service.signed_in(opened))


@router.post("/v1/auth/refresh")
def refresh(body: Refresh, visitor: From) -> SignedInOut:
    """Get the next pair of tokens. A refresh token that comes again ends its session."""
    opened = service.refresh(body.refresh_token.get_secret_value(), org_id=body.org_id, visitor=visitor)
    return SignedInOut.of(service.signed_in(opened))


@router.post("/v1/auth/logout")
def logout(body: Logout, visitor: From) -> SessionsEndedOut:
    with db.anonymous() as tx:
        service.sign_out(tx, body.refresh_token.get_secret_value(), visitor=visitor)
    return SessionsEndedOut(count=1)


@router.post("/v1/auth/forgot-password", status_code=202)
def forgot_password(body: ForgotPassword, visitor: From) -> AcceptedOut:
    """Ask for a letter with a link that sets a new password."""
    with db.anonymous() as tx:
        service.count_letter(tx, email=body.email, ip=visitor.ip)
    with db.anonymous() as tx:
        owner, letter_id = service.forgot_password(tx, email=body.email)
    mail.ask_for("letter", owner=owner, letter_id=letter_id)
    return AcceptedOut()


@router.post("/v1/auth/reset-password")
def reset_password(body: ResetPassword, visitor: From) -> PasswordOut:
    """Set a new password with the letter's link; ends every session."""
    token, password = body.token.get_secret_value(), body.password.get_secret_value()
    with db.anonymous() as tx:
        service.reset_password(tx, token=token, password=password, visitor=visitor)
    return PasswordOut()


@router.get("/.well-known/jwks.json")
def get_jwks(response: Response) -> dict[str, Any]:
    """The public keys of access tokens."""
    response.headers.update(_CACHED)
    return tokens.jwks()


@router.get("/.well-known/openid-configuration")
def get_openid_configuration(response: Response) -> dict[str, Any]:
    response.headers.update(_CACHED)
    return tokens.discovery()


handler = lambda_handler(router)
