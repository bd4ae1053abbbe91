"""Signing in with password and second factor, and proving oneself again before a change that matters."""

from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.wrapping import Unwrappable
from shared.people import attempts, letters, passwords, second_factor, sessions, store
from shared.people.accounts import get_person, id_of
from shared.people.model import (
    NOBODY,
    OF_ACCOUNT,
    OF_ADDRESS,
    OF_PERSON,
    Credentials,
    InvalidCredentials,
    OpenedSession,
    ProofRefused,
    SecondFactorRefused,
    TotpRequired,
    Visitor,
    network_of,
)

_WRONG = "No account has this e-mail address and password."


def sign_in(
    *, email: str, password: str, totp: str | None, recovery_code: str | None, visitor: Visitor
) -> OpenedSession:
    """Open a session for who has this address and password, and their second factor if one is on.

    Opens its own transactions: the attempt must be on record before the password is looked at, and stay there when it
    is refused. An unknown address costs the same statements and the same hash as a known one.

    Raises `TooManyAttempts`, `InvalidCredentials`, `TotpRequired`, `SecondFactorRefused`, `NoOrg`.
    """
    counters = (OF_ACCOUNT, email), (OF_ADDRESS, network_of(visitor.ip))
    with db.anonymous() as tx:
        attempts.count(tx, *counters)
    try:
        with db.anonymous() as tx:
            found = _checked(tx, email, password)
            method = _second(tx, found, totp=totp, recovery_code=recovery_code)
            attempts.clear(tx, counters[0])
            attempts.give_back(tx, counters[1])
            return sessions.open_session(
                tx,
                user_id=found.user_id,
                org_id=None,
                method=method,
                ip=visitor.ip,
                user_agent=visitor.user_agent,
                request_id=visitor.request_id,
            )
    except TotpRequired:
        # The password was right: neither a failure nor yet a success.
        with db.anonymous() as tx:
            attempts.give_back(tx, *counters)
        raise


def _checked(tx: Tx, email: str, password: str) -> Credentials:
    """Become the person with this address and password, and lock their row. Raises `InvalidCredentials`."""
    user_id = store.user_by_email(tx, email) or NOBODY
    db.become(tx, user_id)
    found = store.credentials(tx, user_id)
    if not passwords.fits(password, None if found is None else found.password_hash):
        raise InvalidCredentials(_WRONG)
    # Only those who know the password wait for a lock here; it may have been changed while it was being checked.
    locked = store.credentials(tx, user_id, lock=True)
    if found is None or locked is None or locked.password_hash != found.password_hash:
        raise InvalidCredentials(_WRONG)
    if locked.password_hash is not None and passwords.is_outdated(locked.password_hash):
        store.set_password(tx, user_id, passwords.hash_of(password))
    return locked


def _second(tx: Tx, found: Credentials, *, totp: str | None, recovery_code: str | None) -> str:
    """Use up the second factor where one is on; return how the person has proven themselves."""
    if not found.totp_on:
        return "password"
    if totp is not None:
        if not _use_totp(tx, found, totp):
            raise SecondFactorRefused("The one-time code is wrong, or was used before.")
        return "password+totp"
    if recovery_code is not None:
        if not _use_recovery_code(tx, found, recovery_code):
            raise SecondFactorRefused("The recovery code is wrong, or was used before.")
        # Asked for by the reaper within minutes: signing in does not wait for the queue.
        letters.notify(tx, found.user_id, found.email, "somebody signed in with a recovery code")
        return "password+recovery_code"
    raise TotpRequired("The password is right; send the one-time code as `totp`, or a `recovery_code`.")


def count_proof(caller: Caller) -> None:
    """Count a try of the caller to prove themselves anew; raise `TooManyAttempts`, and `NotAPerson` for a key.

    In a transaction of its own, to be committed before `prove`: the try counts when it is refused, too.
    """
    with db.anonymous() as tx:
        attempts.count(tx, (OF_PERSON, str(id_of(caller))))


def prove(tx: Tx, caller: Caller, *, password: str | None, code: str | None) -> None:
    """Check that the caller is still the person who signed in: by password, or by a one-time or recovery code.

    Raises `ProofRefused`, and `NotAPerson` for a key.
    """
    person = get_person(tx, caller)
    found = store.credentials(tx, person.id, lock=True)
    proven = found is not None and (
        (password is not None and passwords.fits(password, found.password_hash))
        or (code is not None and found.totp_on and (_use_totp(tx, found, code) or _use_recovery_code(tx, found, code)))
    )
    if not proven:
        raise ProofRefused("The current password or code is wrong.")
    attempts.clear(tx, (OF_PERSON, str(person.id)))


def _use_totp(tx: Tx, found: Credentials, code: str) -> bool:
    if found.totp_wrapped is None:
        return False
    try:
        secret = second_factor.unwrap(found.totp_wrapped, found.user_id)
    except Unwrappable:
        raise SecondFactorRefused(
            "This second factor can't be checked any more: use a recovery code, then set it up anew."
        ) from None
    step = second_factor.step_of(secret, code, clock.now())
    return step is not None and store.use_totp_step(tx, found.user_id, step)


def _use_recovery_code(tx: Tx, found: Credentials, code: str) -> bool:
    return store.use_recovery_code(tx, found.user_id, second_factor.sha256_of_recovery_code(code))
