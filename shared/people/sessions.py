"""Sessions: opened at sign-in, refreshed with tokens that are good once, ended by hand or by a token's second use."""

import hashlib
import secrets
from uuid import UUID

from shared.audit import service as audit
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound, SessionEnded
from shared.kernel.pagination import Slice
from shared.kernel.text import storable
from shared.orgs import service as orgs
from shared.people import sessions_store as store
from shared.people.model import (
    REFRESH_TOKEN_PREFIX,
    SESSION_LIFETIME,
    InvalidRefreshToken,
    NoOrg,
    OpenedSession,
    RefreshTokenReused,
    Session,
    SignedIn,
    Visitor,
    sha256_of_refresh_token,
)

_MAX_USER_AGENT = 300


def open_session(
    tx: Tx,
    *,
    user_id: UUID,
    org_id: UUID | None,
    method: str,
    ip: str,
    user_agent: str,
    request_id: str,
    org_locked: bool = False,
) -> OpenedSession:
    """Open a session of the current person: in `org_id`, else where they were last, else in their first org.

    Raises `NoOrg` when there is none, and `NotFound` for an org they don't belong to.
    """
    session = store.insert_session(
        tx,
        session_id=ids.new(),
        user_id=user_id,
        org_id=_org_of(tx, wanted=org_id),
        org_locked=org_locked,
        method=method,
        ip=ip,
        user_agent=str(storable(user_agent))[:_MAX_USER_AGENT],
        lifetime=SESSION_LIFETIME,
    )
    actor = actor_of(session, Visitor(ip=ip, user_agent=user_agent, request_id=request_id))
    _record(tx, actor, session, "session.create", new={"method": method, "org_locked": org_locked})
    return OpenedSession(session, _new_token(tx, session))


def signed_in(opened: OpenedSession) -> SignedIn:
    """Return the session with an access token for it; to be called once the session is committed."""
    # Here, because functions that only send letters or tidy up have no layer with what signs.
    from shared.tokens import service as tokens

    session = opened.session
    token = tokens.issue(user_id=session.user_id, session_id=session.id, org_id=session.org_id)
    return SignedIn(session, opened.refresh_token, token)


def refresh(token: str, *, org_id: UUID | None, visitor: Visitor) -> OpenedSession:
    """Use up a refresh token for the next one, and go over to another org where `org_id` names one.

    Opens its own transaction: that a token came twice must be committed although it is refused.
    Raises `InvalidRefreshToken`, `SessionEnded`, `RefreshTokenReused`, `NotFound` for an org that isn't theirs.
    """
    with db.anonymous() as tx:
        session, sha256 = _of_token(tx, token)
        if not session.is_open(clock.now()):
            raise SessionEnded("This session has ended; sign in again.")
        if store.use_token(tx, sha256):
            return _refreshed(tx, session, org_id, visitor)
        _end(tx, session, actor_of(session, visitor), because="refresh_token_reused")
    raise RefreshTokenReused("This refresh token was used before; the session has ended: sign in again.")


def _refreshed(tx: Tx, session: Session, org_id: UUID | None, visitor: Visitor) -> OpenedSession:
    if session.org_locked:
        if org_id not in (None, session.org_id):
            raise _no_such_org()
        try:
            wanted = _org_of(tx, wanted=session.org_id)
        except NotFound as error:
            raise SessionEnded("You are no member of this session's org any more.") from error
    else:
        wanted = _org_of(tx, wanted=org_id)
    used = store.use_session(tx, session.id, org_id=wanted)
    if wanted != session.org_id:
        left = ids.show("org", session.org_id)
        _record(tx, actor_of(used, visitor), used, "session.switch_org", old={"org_id": left})
    return OpenedSession(used, _new_token(tx, used))


def sign_out(tx: Tx, token: str, *, visitor: Visitor) -> Session:
    """End the session of a refresh token, used up or not. `tx` is anonymous. Raises `InvalidRefreshToken`."""
    session, _ = _of_token(tx, token)
    _end(tx, session, actor_of(session, visitor), because="signed_out")
    return session


def list_sessions(tx: Tx, asked: Slice) -> list[Session]:
    """Return up to `limit + 1` open sessions of the current person, newest first."""
    return store.list_sessions(tx, asked)


def end_session(tx: Tx, caller: Caller, session_id: UUID) -> Session:
    """End one of the caller's own sessions; it is as if nothing had happened when it has ended before."""
    session = store.lock_session(tx, session_id)
    if session is None:
        raise NotFound.of("session", ids.show("ses", session_id))
    return _end(tx, session, caller, because="revoked")


def end_other_sessions(tx: Tx, caller: Caller, *, because: str) -> int:
    """End all of the caller's sessions but the present one; return how many."""
    ended = store.end_others(tx, keep=caller.session_id, because=because)
    for session_id in ended:
        _record_end(tx, caller, session_id, because)
    return len(ended)


def end_all_sessions(tx: Tx, caller: Caller, *, because: str) -> int:
    """End every session of the current person; return how many. `tx` acts for the caller's org."""
    ended = store.end_others(tx, keep=None, because=because)
    for session_id in ended:
        _record_end(tx, caller, session_id, because)
    return len(ended)


def home_org(tx: Tx) -> UUID | None:
    """Return the org the current person would be signed in to, None when there is none."""
    theirs = [org.id for org, _ in orgs.orgs_of_person(tx)]
    newest = store.newest_org(tx)
    return newest if newest in theirs else next(iter(theirs), None)


def actor_of(session: Session, visitor: Visitor) -> Caller:
    """Return the session's person as who acts, for the audit trail; with no scope for anything."""
    return person_acting(session.user_id, session.org_id, visitor, session_id=session.id)


def person_acting(user_id: UUID, org_id: UUID, visitor: Visitor, *, session_id: UUID | None = None) -> Caller:
    return Caller(
        org_id=org_id,
        actor_id=ids.show("user", user_id),
        role="",
        scopes=frozenset(),
        plan="",
        request_id=visitor.request_id,
        person_id=user_id,
        session_id=session_id,
        ip=visitor.ip,
    )


def _org_of(tx: Tx, *, wanted: UUID | None) -> UUID:
    if wanted is None:
        found = home_org(tx)
        if found is None:
            raise NoOrg("You belong to no org any more; somebody has to invite you to one.")
        return found
    if all(org.id != wanted for org, _ in orgs.orgs_of_person(tx)):
        raise _no_such_org()
    return wanted


def _no_such_org() -> NotFound:
    return NotFound("No org of yours has this id.", param="org_id")


def _of_token(tx: Tx, token: str) -> tuple[Session, bytes]:
    """Become the token's person and return the session, locked."""
    sha256 = sha256_of_refresh_token(token)
    found = store.token_by_secret(tx, sha256)
    if found is not None:
        user_id, session_id = found
        db.become(tx, user_id)
        session = store.lock_session(tx, session_id)
        if session is not None:
            return session, sha256
    raise InvalidRefreshToken("This refresh token is unknown.")


def _new_token(tx: Tx, session: Session) -> str:
    token = REFRESH_TOKEN_PREFIX + secrets.token_urlsafe(32)
    sha256 = hashlib.sha256(token.encode()).digest()
    store.insert_token(tx, sha256=sha256, user_id=session.user_id, session_id=session.id)
    return token


def _end(tx: Tx, session: Session, actor: Caller, *, because: str) -> Session:
    ended = store.end_session(tx, session.id, because=because)
    if ended is not None:
        with db.acting_for(tx, actor.org_id):
            _record_end(tx, actor, session.id, because)
    return ended or session


def _record(tx: Tx, actor: Caller, session: Session, action: str, **change: dict[str, object]) -> None:
    with db.acting_for(tx, actor.org_id):
        audit.record(
            tx,
            actor,
            action=action,
            resource_type="session",
            resource_id=ids.show("ses", session.id),
            old=change.get("old"),
            new=change.get("new"),
        )


def _record_end(tx: Tx, actor: Caller, session_id: UUID, because: str) -> None:
    audit.record(
        tx,
        actor,
        action="session.end",
        resource_type="session",
        resource_id=ids.show("ses", session_id),
        new={"because": because},
    )
