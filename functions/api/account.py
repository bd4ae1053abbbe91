"""HTTP API of who calls: the caller, and a person's own profile, password, sessions and second factor."""

from functools import partial
from typing import Annotated

from fastapi import Depends

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Page, SessionId
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.people import service
from shared.people.schemas import (
    ChangePassword,
    ConfirmTotp,
    MeOut,
    PasswordOut,
    RecoveryCodesOut,
    RemoveTotp,
    RenewRecoveryCodes,
    SessionOut,
    SessionsEndedOut,
    TotpOut,
    TotpRemovedOut,
    UpdateMe,
)

router = Router(prefix="/v1/me", tags=["account"])
type Reader = Annotated[Caller, Depends(require("account:read"))]
type Writer = Annotated[Caller, Depends(require("account:write"))]
type OnceOnly = Annotated[Once, Depends(once)]


@router.get("")
def get_me(caller: Annotated[Caller, Depends(require("orgs:read"))]) -> MeOut:
    if caller.person_id is None:
        return MeOut.of(caller, None)
    with db.tenant(caller) as tx:
        return MeOut.of(caller, service.get_person(tx, caller))


@router.patch("")
def update_me(body: UpdateMe, caller: Writer) -> MeOut:
    with db.tenant(caller) as tx:
        return MeOut.of(caller, service.update_person(tx, caller, name=body.name, metadata=body.metadata))


@router.post("/password")
def change_password(body: ChangePassword, caller: Writer, once: OnceOnly) -> PasswordOut:
    """Change the password; ends all other sessions."""

    def change() -> PasswordOut:
        service.prove(tx, caller, password=body.current_password.get_secret_value(), code=None)
        service.change_password(tx, caller, password=body.new_password.get_secret_value())
        return PasswordOut()

    service.count_proof(caller)
    with db.tenant(caller) as tx:
        answer = once(tx, change)
    service.ask_for_notices(caller)
    return answer


@router.get("/sessions")
def list_sessions(asked: Annotated[Slice, slice_of("ses")], caller: Reader) -> Page[SessionOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_sessions(tx, asked), asked)
    cursor = ids.show("ses", found[-1].id) if more else None
    return Page(data=[SessionOut.of(session, caller) for session in found], has_more=more, next_cursor=cursor)


@router.delete("/sessions")
def end_other_sessions(caller: Writer) -> SessionsEndedOut:
    """End all sessions but the one that asks."""
    with db.tenant(caller) as tx:
        return SessionsEndedOut(count=service.end_other_sessions(tx, caller, because="revoked"))


@router.delete("/sessions/{session_id}")
def end_session(session_id: SessionId, caller: Writer) -> SessionOut:
    with db.tenant(caller) as tx:
        return SessionOut.of(service.end_session(tx, caller, session_id), caller)


@router.post("/totp", status_code=201)
def begin_totp(caller: Writer, once: OnceOnly) -> TotpOut:
    """Begin to set up a second factor; `confirm` turns it on."""
    with db.tenant(caller) as tx:
        return once(tx, lambda: TotpOut.of(*service.begin_second_factor(tx, caller)), secret={"secret", "otpauth_uri"})


@router.post("/totp/confirm")
def confirm_totp(body: ConfirmTotp, caller: Writer, once: OnceOnly) -> RecoveryCodesOut:
    """Turn the second factor on with its first code; answers with recovery codes."""
    with db.tenant(caller) as tx:
        effect = partial(service.confirm_second_factor, tx, caller, code=body.code)
        answer = once(tx, lambda: RecoveryCodesOut(recovery_codes=effect()), secret={"recovery_codes"})
    service.ask_for_notices(caller)
    return answer


@router.delete("/totp")
def remove_totp(body: RemoveTotp, caller: Writer) -> TotpRemovedOut:
    service.count_proof(caller)
    with db.tenant(caller) as tx:
        service.prove(tx, caller, password=body.password(), code=body.code)
        service.remove_second_factor(tx, caller)
    service.ask_for_notices(caller)
    return TotpRemovedOut()


@router.post("/recovery-codes")
def renew_recovery_codes(body: RenewRecoveryCodes, caller: Writer, once: OnceOnly) -> RecoveryCodesOut:
    """Replace all recovery codes."""

    def renew() -> RecoveryCodesOut:
        service.prove(tx, caller, password=None, code=body.code)
        return RecoveryCodesOut(recovery_codes=service.renew_recovery_codes(tx, caller))

    service.count_proof(caller)
    with db.tenant(caller) as tx:
        return once(tx, renew, secret={"recovery_codes"})


handler = lambda_handler(router)
