"""Nobody learns from the API's answers, or from the time they take, which addresses have an account."""

import math
import random
import time
from collections.abc import Callable

import pytest

from functions.api.auth import handler as auth
from shared.kernel import db
from tests.integration.people.somebody import OTHER_PASSWORD, Somebody

# Of each kind of address.
TRIES = {"login": 200, "forgot-password": 100, "register": 100}
# Two samples of one distribution look this different once in a hundred times, and twice in a row once in ten thousand.
UNLIKELY = 0.01


def p_value(one: list[float], other: list[float]) -> float:
    """How likely two samples of one distribution differ this much: Mann and Whitney's U, nearly normal here."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks = sum(rank for rank, (_, sample) in enumerate(ranked, 1) if sample == 0)
    u = ranks - len(one) * (len(one) + 1) / 2
    mean = len(one) * len(other) / 2
    deviation = math.sqrt(len(one) * len(other) * (len(one) + len(other) + 1) / 12)
    return math.erfc(abs(u - mean) / deviation / math.sqrt(2))


def samples(ask: Callable[[str], int], known: str, tries: int) -> tuple[list[float], list[float]]:
    """Seconds that the answers about a known and about unknown addresses took, asked in random order."""
    addresses = [known, "nobody@example.org"] * tries
    random.Random(tries).shuffle(addresses)
    taken: dict[bool, list[float]] = {True: [], False: []}
    for address in addresses:
        # So that no try has to wait; outside of what is measured.
        with db.anonymous() as tx:
            tx.execute("DELETE FROM login_failures")
        began = time.perf_counter()
        ask(address)
        taken[address == known].append(time.perf_counter() - began)
    return taken[True], taken[False]


@pytest.mark.parametrize("route", ["login", "forgot-password", "register"])
def test_a_known_and_an_unknown_address_take_the_same_time(ada: Somebody, route: str) -> None:
    more = {
        "login": {"password": OTHER_PASSWORD},
        "forgot-password": {},
        "register": {"password": OTHER_PASSWORD, "name": "Ada"},
    }[route]

    def ask(address: str) -> int:
        return ada.call(auth, "POST", f"/v1/auth/{route}", json={"email": address} | more).status

    expected = 401 if route == "login" else 202
    assert {ask(ada.email), ask("nobody@example.org")} == {expected}
    likely = (p_value(*samples(ask, ada.email, TRIES[route])) > UNLIKELY for _ in range(2))
    assert any(likely)


def test_the_statistic_tells_a_difference_of_a_tenth_of_the_noise() -> None:
    draw = random.Random(1)
    noise = [draw.gauss(30, 2) for _ in range(20_000)]
    assert p_value(noise[::2], noise[1::2]) > UNLIKELY
    assert p_value(noise[::2], [value + 0.2 for value in noise[1::2]]) < UNLIKELY


def test_the_statistic_tells_a_known_address_without_a_hash(ada: Somebody) -> None:
    """As it would be if an unknown address were refused before the password is hashed."""

    def ask(address: str) -> int:
        if address != ada.email:
            return 0
        return ada.call(auth, "POST", "/v1/auth/login", json={"email": address, "password": OTHER_PASSWORD}).status

    assert p_value(*samples(ask, ada.email, 50)) < UNLIKELY
