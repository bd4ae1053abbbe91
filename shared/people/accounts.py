"""Accounts: registered, confirmed by letter, changed, and got back by letter when the password is lost."""

from uuid import UUID

from shared.audit import service as audit
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.orgs import service as orgs
from shared.people import attempts, letters, passwords, sessions, store
from shared.people.model import (
    NOBODY,
    OF_ACCOUNT,
    OF_ADDRESS,
    OF_LETTERS_FROM,
    OF_LETTERS_TO,
    OF_LINK,
    OF_STARTS,
    EmailTaken,
    InvalidCredentials,
    NotAPerson,
    OpenedSession,
    Person,
    Visitor,
    network_of,
    sha256_of_link,
)

# "'s org" has to fit as well.
_MAX_NAME_IN_ORG = 94


def find_by_email(tx: Tx, email: str) -> UUID | None:
    """Return whose address this is. `email` is folded."""
    return store.user_by_email(tx, email)


def create_person(
    tx: Tx,
    *,
    user_id: UUID,
    email: str,
    name: str,
    password_hash: str | None,
    request_id: str,
    ip: str,
) -> Person:
    """Create a person, and their first org with them as its owner. `tx` is anonymous and becomes the person's.

    The org has no credits yet. Raises `EmailTaken`.
    """
    db.become(tx, user_id)
    person = store.insert_user(tx, user_id=user_id, email=email, name=name, password_hash=password_hash)
    org_id = ids.new()
    creator = sessions.person_acting(user_id, org_id, Visitor(ip=ip, user_agent="", request_id=request_id))
    with db.acting_for(tx, org_id):
        orgs.create_org(tx, creator, org_id=org_id, name=f"{name[:_MAX_NAME_IN_ORG]}'s org", owner=user_id)
        _record(tx, creator, "user.create", new={"name": name})
    return person


def create_guest(tx: Tx, *, user_id: UUID, email: str, name: str, org_id: UUID, request_id: str, ip: str) -> Person:
    """Create a person for one org's own sign-in: without password and without an org of their own.

    `tx` becomes the person's; whoever calls makes them a member. `email` is one that nobody can register.
    """
    db.become(tx, user_id)
    person = store.insert_user(tx, user_id=user_id, email=email, name=name, password_hash=None)
    creator = sessions.person_acting(user_id, org_id, Visitor(ip=ip, user_agent="", request_id=request_id))
    with db.acting_for(tx, org_id):
        _record(tx, creator, "user.create", new={"name": name, "guest": True})
    return person


def count_letter(tx: Tx, *, email: str, ip: str) -> None:
    """Count a letter asked for; raise `TooManyAttempts` when there were too many of late. `email` is folded."""
    attempts.count(tx, (OF_LETTERS_TO, email), (OF_LETTERS_FROM, network_of(ip)))


def count_start(tx: Tx, *, ip: str) -> None:
    """Count a sign-in begun elsewhere; raise `TooManyAttempts` when there were too many of late."""
    attempts.count(tx, (OF_STARTS, network_of(ip)))


def register(tx: Tx, *, email: str, name: str, password: str) -> tuple[UUID, UUID]:
    """Write the letter that confirms the address; return whose it is and its id. `tx` is anonymous.

    Nobody exists yet: the letter holds name and password hash. A known address gets another letter, and neither the
    answer nor the work for it tells which. Raises `PasswordRefused`.
    """
    passwords.check(password, email=email, name=name)
    password_hash = passwords.hash_of(password)
    known = store.user_by_email(tx, email)
    owner = known or ids.new()
    db.become(tx, owner)
    purpose = letters.REGISTER if known is None else letters.ALREADY_REGISTERED
    params = {"name": name, "password_hash": password_hash} if known is None else {}
    return owner, letters.write(tx, user_id=owner, purpose=purpose, email=email, params=params)


def count_confirmation(tx: Tx, *, token: str, ip: str) -> None:
    """Count a try of a password beside a letter's link; raise `TooManyAttempts`."""
    attempts.count(tx, (OF_LINK, sha256_of_link(token).hex()), (OF_ADDRESS, network_of(ip)))


def confirm_email(tx: Tx, *, token: str, password: str, visitor: Visitor) -> OpenedSession:
    """Create the person whose letter this is, and sign them in. `tx` is anonymous.

    The password is asked for again: else somebody could register another's address, and have its owner confirm an
    account that both can use. Raises `LinkInvalid`, `InvalidCredentials`, `EmailTaken`.
    """
    letter = letters.open_link(tx, token, letters.REGISTER)
    if not passwords.fits(password, letter.params["password_hash"]):
        raise InvalidCredentials("This is not the password that was chosen at registration.")
    if store.user_by_email(tx, letter.email) is not None:
        raise EmailTaken("There is an account with this address by now: sign in.", param="token")
    letters.use(tx, letter)
    person = create_person(
        tx,
        user_id=letter.user_id,
        email=letter.email,
        name=letter.params["name"],
        password_hash=letter.params["password_hash"],
        request_id=visitor.request_id,
        ip=visitor.ip,
    )
    attempts.give_back(tx, (OF_ADDRESS, network_of(visitor.ip)))
    return sessions.open_session(
        tx,
        user_id=person.id,
        org_id=None,
        method="registration",
        ip=visitor.ip,
        user_agent=visitor.user_agent,
        request_id=visitor.request_id,
    )


def forgot_password(tx: Tx, *, email: str) -> tuple[UUID, UUID]:
    """Write the letter that resets a password; return whose it is and its id. `tx` is anonymous.

    For an unknown address the letter is to nobody, and is deleted where others are sent.
    """
    owner = store.user_by_email(tx, email) or NOBODY
    db.become(tx, owner)
    if owner == NOBODY:
        return owner, letters.write_to_nobody(tx, owner=owner)
    return owner, letters.write(tx, user_id=owner, purpose=letters.RESET_PASSWORD, email=email)


def reset_password(tx: Tx, *, token: str, password: str, visitor: Visitor) -> None:
    """Set the password of the person whose letter this is, and end their sessions. `tx` is anonymous.

    A second factor stays. A letter tells them, which the reaper sends. Raises `LinkInvalid`, `PasswordRefused`.
    """
    letter = letters.open_link(tx, token, letters.RESET_PASSWORD)
    person = store.find_user(tx, letter.user_id)
    if person is None:
        raise NotAPerson("This account is gone.")
    # The person's row before their letters, as when a password is changed: so neither waits for the other for ever.
    _set_password(tx, person, password)
    letters.use(tx, letter)
    letters.use_all(tx, letters.RESET_PASSWORD)
    # Whoever was locked out by somebody else's guesses is let in again.
    attempts.clear(tx, (OF_ACCOUNT, person.email))
    org_id = sessions.home_org(tx)
    if org_id is not None:
        actor = sessions.person_acting(person.id, org_id, visitor)
        with db.acting_for(tx, org_id):
            _record(tx, actor, "user.reset_password")
            sessions.end_all_sessions(tx, actor, because="password_reset")
    letters.notify(tx, person.id, person.email, "the password was set anew, by a link from a letter")


def get_person(tx: Tx, caller: Caller) -> Person:
    """Return the caller as a person; raise `NotAPerson` for a key."""
    person = store.find_user(tx, id_of(caller))
    if person is None:
        raise NotAPerson("This account is gone.")
    return person


def id_of(caller: Caller) -> UUID:
    """Return which person the caller is; raise `NotAPerson` for a key."""
    if caller.person_id is None:
        raise NotAPerson("Only a person who signed in has an account; API keys do not.")
    return caller.person_id


def update_person(tx: Tx, caller: Caller, *, name: str | None, metadata: dict[str, str] | None) -> Person:
    """Change what is not None; raise `NotAPerson` for a key."""
    before = get_person(tx, caller)
    after = store.update_user(tx, before.id, name=name, metadata=metadata) or before
    _record(
        tx,
        caller,
        "user.update",
        old={"name": before.name, "metadata": before.metadata},
        new={"name": after.name, "metadata": after.metadata},
    )
    return after


def change_password(tx: Tx, caller: Caller, *, password: str) -> None:
    """Set the caller's password, end their other sessions and write them a letter about it.

    They have just proven who they are. Raises `PasswordRefused`.
    """
    person = get_person(tx, caller)
    _set_password(tx, person, password)
    letters.use_all(tx, letters.RESET_PASSWORD)
    _record(tx, caller, "user.change_password")
    sessions.end_other_sessions(tx, caller, because="password_changed")
    letters.notify(tx, person.id, person.email, "the password was changed")


def _set_password(tx: Tx, person: Person, password: str) -> None:
    passwords.check(password, email=person.email, name=person.name)
    store.set_password(tx, person.id, passwords.hash_of(password))


def _record(
    tx: Tx, caller: Caller, action: str, *, old: dict[str, object] | None = None, new: dict[str, object] | None = None
) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="user",
        resource_id=caller.actor_id,
        old=old,
        new=new,
    )
