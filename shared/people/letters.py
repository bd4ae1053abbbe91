"""Letters to people: written in the transaction of what they tell, their secret made when they are sent."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.kernel import clock, db, ids, settings
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.mail import service as mail
from shared.orgs import service as orgs
from shared.people import letters_store as store
from shared.people.model import Letter, LinkInvalid, sha256_of_link

REGISTER = "register"
ALREADY_REGISTERED = "already_registered"
RESET_PASSWORD = "reset_password"  # noqa: S105 - what the letter is for
NOTICE = "notice"
_NOBODY = "nobody"

_LIFETIMES = {
    REGISTER: timedelta(hours=24),
    RESET_PASSWORD: timedelta(hours=1),
}
_OTHERS_LIFETIME = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class _Template:
    """Subject and text of a letter. Nothing in it is of anybody's choice but ours: strangers can have it sent."""

    subject: str
    text: str
    # What the link says it is for: the page reads it from the address.
    link: str | None = None


_TEMPLATES = {
    REGISTER: _Template(
        "Confirm your e-mail address",
        "Somebody, probably you, registered at {url} with this address.\n\n"
        "To confirm it, open this link within 24 hours and enter the password you chose:\n\n{link}\n\n"
        "If it was not you, do nothing: without this link there will be no account.\n",
        link="confirm-email",
    ),
    ALREADY_REGISTERED: _Template(
        "You have an account already",
        "Somebody, probably you, registered at {url} with this address, which has an account already.\n\n"
        "Sign in at {url}/account. If you don't remember your password, ask there for a letter to set a new one.\n\n"
        "If it was not you, do nothing: nothing has changed.\n",
    ),
    RESET_PASSWORD: _Template(
        "Set a new password",
        "Somebody, probably you, asked for a new password for your account at {url}.\n\n"
        "To set one, open this link within an hour:\n\n{link}\n\n"
        "You will be signed out everywhere. If it was not you, do nothing: your password stays as it is.\n",
        link="reset-password",
    ),
    NOTICE: _Template(
        "Your account has changed",
        "At your account at {url}: {what}.\n\n"
        "If it was not you, set a new password at {url}/account and have a look at your sessions.\n",
    ),
}


def write(tx: Tx, *, user_id: UUID, purpose: str, email: str, params: dict[str, Any] | None = None) -> UUID:
    """Write a letter and return its id; the person it belongs to is current. After commit: `mail.ask_for`."""
    letter_id = ids.new()
    store.insert_letter(
        tx,
        letter_id=letter_id,
        user_id=user_id,
        purpose=purpose,
        email=email,
        params=params or {},
        lifetime=_LIFETIMES.get(purpose, _OTHERS_LIFETIME),
    )
    return letter_id


def write_to_nobody(tx: Tx, *, owner: UUID) -> UUID:
    """Write what is deleted instead of sent, at the cost of a letter."""
    return write(tx, user_id=owner, purpose=_NOBODY, email="")


def open_link(tx: Tx, token: str, purpose: str) -> Letter:
    """Become the person whose letter this link is from, and return the letter; `use` it before the commit.

    Raises `LinkInvalid` when the link is unknown, was used, is too old or is for something else.
    """
    found = store.letter_by_secret(tx, sha256_of_link(token))
    if found is None:
        raise _invalid()
    letter_id, user_id = found
    db.become(tx, user_id)
    letter = store.find_letter(tx, letter_id)
    if letter is None or letter.purpose != purpose or letter.used_at or letter.expires_at <= clock.now():
        raise _invalid()
    return letter


def use(tx: Tx, letter: Letter) -> None:
    """Use the link up; raise `LinkInvalid` when another request has done so meanwhile."""
    if not store.use_letter(tx, letter.id):
        raise _invalid()


def use_all(tx: Tx, purpose: str) -> None:
    """Spend all letters of the current person that are for this purpose."""
    store.use_all(tx, purpose)


def _invalid() -> LinkInvalid:
    return LinkInvalid("This link is mistyped, was used already or is too old: ask for a new letter.", param="token")


def send_letter(user_id: UUID, letter_id: UUID) -> None:
    """Send a letter once; told again, do nothing. What SES says passes, so that the queue tries again.

    Sent and noted in one transaction: should the note be lost, the next letter's link is the one that counts.
    """
    with db.person(user_id) as tx:
        letter = store.find_letter(tx, letter_id, lock=True)
        if letter is None or letter.sent_at is not None or letter.expires_at <= clock.now():
            return
        if letter.purpose == _NOBODY:
            store.delete_letter(tx, letter_id)
            return
        template = _TEMPLATES[letter.purpose]
        secret = secrets.token_urlsafe(32) if template.link else None
        store.mark_sent(tx, letter_id, None if secret is None else hashlib.sha256(secret.encode()).digest())
        url = settings.public_url()
        text = template.text.format(url=url, link=f"{url}/account#{template.link}={secret}", **_told(letter))
        mail.send(to=letter.email, subject=f"Runyard: {template.subject}", text=text)


def _told(letter: Letter) -> dict[str, str]:
    return {"what": letter.params["what"]} if letter.purpose == NOTICE else {}


def notify(tx: Tx, user_id: UUID, email: str, what: str) -> None:
    """Write a letter that tells of a change which could be somebody else's doing."""
    write(tx, user_id=user_id, purpose=NOTICE, email=email, params={"what": what})


def ask_for_notices(caller: Caller) -> None:
    """Ask for the letters that tell the caller of changes just committed."""
    if caller.person_id is None:
        return
    with db.person(caller.person_id) as tx:
        waiting = store.unsent_notices(tx)
    for letter_id in waiting:
        mail.ask_for("letter", owner=caller.person_id, letter_id=letter_id)


def ask_for_unsent(older_than: timedelta) -> int:
    """Ask again for letters and invitations that wait for longer than `older_than`; return how many."""
    with db.anonymous() as tx:
        waiting = store.unsent_letters(tx, older_than)
    for letter_id, user_id in waiting:
        mail.ask_for("letter", owner=user_id, letter_id=letter_id)
    return len(waiting) + orgs.ask_for_unsent_invitations(older_than)
