"""Whose address the audit trail keeps: what API Gateway saw, or what the edge in front of it says, never a guess."""

from collections.abc import Callable

import pytest

from functions.api import audit as function
from shared.audit import service as audit
from shared.kernel import db, settings
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from tests.api_gateway import Answer

type Seen = Callable[..., str]
_SECRET = "the-edge's-own-secret"
# The address that API Gateway saw: of the client, or of the edge.
_GATEWAY_SAW = "203.0.113.10"
_CLIENT = "198.51.100.7"
_FORGED = "192.0.2.66"


@pytest.fixture
def seen(call: Callable[..., Answer], org: Caller, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """`seen(headers…)`: the address in the audit trail of a request with these headers."""
    monkeypatch.setenv("RUNYARD_EDGE_SECRET", _SECRET)
    settings.forget()

    def ask(**headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = call(function.handler, "GET", "/v1/audit-events/export", org, headers=named)
        assert answer.status == 200, answer.text
        with db.tenant(org) as tx:
            return audit.list_events(tx, Slice(limit=1))[0].actor_ip

    return ask


def test_without_an_edge_it_is_what_the_gateway_saw(seen: Seen) -> None:
    assert seen() == _GATEWAY_SAW


@pytest.mark.parametrize("proof", [{}, {"x_runyard_edge": "guessed"}, {"x_runyard_edge": ""}, {"x_runyard_edge": "é"}])
@pytest.mark.parametrize("forwarded", [_FORGED, f"{_FORGED}, {_GATEWAY_SAW}", f"{_FORGED}, {_FORGED}, {_GATEWAY_SAW}"])
def test_who_goes_past_the_edge_can_claim_no_address(seen: Seen, proof: dict[str, str], forwarded: str) -> None:
    assert seen(x_forwarded_for=forwarded, **proof) == _GATEWAY_SAW


@pytest.mark.parametrize(
    "forwarded",
    [
        f"{_CLIENT}, {_GATEWAY_SAW}",
        # What a client sends to the edge comes first, however much it is.
        f"{_FORGED}, {_CLIENT}, {_GATEWAY_SAW}",
        f"{_GATEWAY_SAW}, {_FORGED}, {_CLIENT},{_GATEWAY_SAW}",
        f"not an address, , {_CLIENT}, {_GATEWAY_SAW}",
        # A gateway that adds nothing, as at home.
        _CLIENT,
    ],
)
def test_the_edge_says_who_its_client_is_whatever_that_client_claims(seen: Seen, forwarded: str) -> None:
    assert seen(x_forwarded_for=forwarded, x_runyard_edge=_SECRET) == _CLIENT


def test_an_address_of_version_six_is_kept_in_its_short_spelling(seen: Seen) -> None:
    assert seen(x_forwarded_for=f"2001:DB8:0:0::1, {_GATEWAY_SAW}", x_runyard_edge=_SECRET) == "2001:db8::1"


@pytest.mark.parametrize("forwarded", ["", "unknown", f"'; DROP TABLE, {_GATEWAY_SAW}", f", {_GATEWAY_SAW}"])
def test_what_is_no_address_is_not_kept(seen: Seen, forwarded: str) -> None:
    assert seen(x_forwarded_for=forwarded, x_runyard_edge=_SECRET) == _GATEWAY_SAW


def test_a_home_without_the_secret_believes_no_edge(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNYARD_EDGE_SECRET")
    settings.forget()
    assert seen(x_forwarded_for=f"{_FORGED}, {_GATEWAY_SAW}", x_runyard_edge="") == _GATEWAY_SAW
