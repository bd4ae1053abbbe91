"""Use cases of people: the door to accounts, signing in, sessions, second factors and letters."""

from collections.abc import Callable
from uuid import UUID

from shared.kernel import db
from shared.kernel.sweeping import sweep
from shared.people import attempts_store, letters_store, sessions_store
from shared.people.accounts import (
    change_password,
    confirm_email,
    count_confirmation,
    count_letter,
    count_start,
    create_guest,
    create_person,
    find_by_email,
    forgot_password,
    get_person,
    register,
    reset_password,
    update_person,
)
from shared.people.letters import ask_for_notices, ask_for_unsent, send_letter
from shared.people.protecting import (
    begin_second_factor,
    confirm_second_factor,
    remove_second_factor,
    renew_recovery_codes,
)
from shared.people.sessions import (
    end_other_sessions,
    end_session,
    list_sessions,
    open_session,
    refresh,
    sign_out,
    signed_in,
)
from shared.people.signing_in import count_proof, prove, sign_in

__all__ = [
    "ask_for_notices",
    "ask_for_unsent",
    "begin_second_factor",
    "change_password",
    "confirm_email",
    "confirm_second_factor",
    "count_confirmation",
    "count_letter",
    "count_proof",
    "count_start",
    "create_guest",
    "create_person",
    "end_other_sessions",
    "end_session",
    "find_by_email",
    "forgot_password",
    "get_person",
    "list_sessions",
    "open_session",
    "prove",
    "refresh",
    "register",
    "remove_second_factor",
    "renew_recovery_codes",
    "reset_password",
    "send_letter",
    "sign_in",
    "sign_out",
    "signed_in",
    "tidy",
    "update_person",
]


def tidy() -> dict[str, int]:
    """Delete expired letters and sessions, counters of attempts and sign-ins begun elsewhere; return how many of each.

    One person's rows at a time, as many people as the look-ups name at once; the rest is for the next night.
    """
    with db.anonymous() as tx:
        attempts = attempts_store.purge_attempts(tx)
        pending_logins = attempts_store.purge_pending_logins(tx)
        with_letters = letters_store.users_with_expired(tx)
        with_sessions = sessions_store.users_with_expired(tx)
    return {
        "attempts": attempts,
        "pending_logins": pending_logins,
        **sweep(with_letters, {"letters": _of_person(letters_store.delete_expired)}),
        **sweep(with_sessions, {"sessions": _of_person(sessions_store.delete_expired)}),
    }


def _of_person(delete: Callable[[db.Tx], int]) -> Callable[[UUID], int]:
    def job(user_id: UUID) -> int:
        with db.person(user_id) as tx:
            return delete(tx)

    return job
