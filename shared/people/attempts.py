"""Counts attempts before anything is looked at, so that parallel guesses can't slip through."""

from math import ceil

from shared.kernel.db import Tx
from shared.people import attempts_store as store
from shared.people.model import Limit, TooManyAttempts

type Subject = tuple[Limit, str]


def count(tx: Tx, *subjects: Subject) -> None:
    """Count one attempt on each; raise `TooManyAttempts`, having counted none, when one of them must wait.

    To be committed before the attempt goes on.
    """
    for limit, of in subjects:
        wait_s = store.count(tx, limit, of)
        if wait_s is not None:
            raise TooManyAttempts("Too many attempts; wait and try again.", retry_after_s=max(1, ceil(wait_s)))


def give_back(tx: Tx, *subjects: Subject) -> None:
    """Take back one attempt that was no failure."""
    for limit, of in subjects:
        store.give_back(tx, limit, of)


def clear(tx: Tx, subject: Subject) -> None:
    """Start anew: whoever this counts for has proven themselves."""
    store.clear(tx, *subject)
