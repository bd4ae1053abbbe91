"""The second factor of one's own account: set up, confirmed, removed; recovery codes for when it is lost."""

from shared.audit import service as audit
from shared.kernel import clock
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.people import letters, second_factor, store
from shared.people.accounts import get_person
from shared.people.model import Person, ProofRefused, SecondFactorOff, SecondFactorOn


def begin_second_factor(tx: Tx, caller: Caller) -> tuple[str, str]:
    """Return a new secret and its `otpauth://` URI, shown once. Nothing is on until `confirm_second_factor`.

    Raises `SecondFactorOn`.
    """
    person = get_person(tx, caller)
    secret = second_factor.new_secret()
    if not store.begin_totp(tx, person.id, second_factor.wrap(secret, person.id)):
        raise SecondFactorOn("A second factor is on already; turn it off first.")
    _record(tx, caller, "second_factor.begin")
    return secret, second_factor.uri(secret, email=person.email)


def confirm_second_factor(tx: Tx, caller: Caller, *, code: str) -> list[str]:
    """Turn it on with a first code; return recovery codes, shown once. A letter tells of it.

    Raises `SecondFactorOff` when none was begun, `SecondFactorOn` when it is on, `ProofRefused` for a wrong code.
    """
    person = get_person(tx, caller)
    found = store.credentials(tx, person.id, lock=True)
    if found is None or found.totp_wrapped is None:
        raise SecondFactorOff("No second factor was begun.")
    if found.totp_on:
        raise SecondFactorOn("The second factor is on already.")
    step = second_factor.step_of(second_factor.unwrap(found.totp_wrapped, person.id), code, clock.now())
    if step is None or not store.use_totp_step(tx, person.id, step):
        raise ProofRefused("The code is wrong; is the telephone's clock right?", param="code")
    store.confirm_totp(tx, person.id)
    _record(tx, caller, "second_factor.create")
    letters.notify(tx, person.id, person.email, "a second factor was turned on")
    return _new_codes(tx, person)


def remove_second_factor(tx: Tx, caller: Caller) -> None:
    """Turn it off; they have just proven who they are. A letter tells of it.

    Raises `SecondFactorOff`.
    """
    person = get_person(tx, caller)
    if not person.has_second_factor:
        raise SecondFactorOff("No second factor is on.")
    store.remove_totp(tx, person.id)
    _record(tx, caller, "second_factor.delete")
    letters.notify(tx, person.id, person.email, "the second factor was turned off")


def renew_recovery_codes(tx: Tx, caller: Caller) -> list[str]:
    """Replace the recovery codes and return them, shown once. Raises `SecondFactorOff`."""
    person = get_person(tx, caller)
    if not person.has_second_factor:
        raise SecondFactorOff("No second factor is on.")
    _record(tx, caller, "recovery_codes.create")
    return _new_codes(tx, person)


def _new_codes(tx: Tx, person: Person) -> list[str]:
    codes = second_factor.new_recovery_codes()
    store.replace_recovery_codes(tx, person.id, [second_factor.sha256_of_recovery_code(code) for code in codes])
    return codes


def _record(tx: Tx, caller: Caller, action: str) -> None:
    audit.record(tx, caller, action=action, resource_type="user", resource_id=caller.actor_id)
