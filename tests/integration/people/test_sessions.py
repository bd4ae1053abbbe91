"""Sessions: refreshed, switched to another org, listed, ended; what becomes of a stolen refresh token."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from functions.api.account import handler as account
from functions.api.audit import handler as audit
from functions.api.orgs import handler as orgs
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import SessionEnded
from shared.people import service
from shared.people.model import InvalidRefreshToken, Visitor
from tests.integration.people.somebody import Somebody


def admitted(somebody: Somebody) -> bool:
    try:
        somebody.caller()
    except SessionEnded:
        return False
    return True


def trail(somebody: Somebody, caller: Caller, action: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = somebody.call(audit, "GET", f"/v1/audit-events?action={action}", caller).json[
        "data"
    ]
    return found


def test_each_refresh_gives_the_next_pair_in_the_same_session(ada: Somebody) -> None:
    first = ada.tokens
    answer = ada.refresh()
    assert answer.status == 200
    assert answer.json["session_id"] == first["session_id"]
    assert answer.json["refresh_token"] != first["refresh_token"]
    assert ada.refresh(answer.json["refresh_token"]).status == 200


def test_a_refresh_token_used_again_ends_the_session_and_is_in_the_trail(ada: Somebody) -> None:
    stolen = ada.tokens["refresh_token"]
    ada.tokens = ada.refresh().json
    assert admitted(ada)
    again = ada.refresh(stolen)
    assert (again.status, again.error) == (401, "refresh_token_reused")
    # Whoever has the newest one has nothing any more, whether thief or owner.
    assert ada.refresh().error == "session_ended"
    assert not admitted(ada)
    ada.sign_in()
    events = trail(ada, ada.caller(), "session.end")
    assert [event["new"] for event in events] == [{"because": "refresh_token_reused"}]


def test_of_64_uses_of_one_token_at_once_one_succeeds_at_most_and_the_session_ends(ada: Somebody) -> None:
    token = ada.tokens["refresh_token"]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ada.refresh(token), range(64)))
    counted = Counter("ok" if answer.status == 200 else answer.error for answer in answers)
    assert counted == {"ok": 1, "refresh_token_reused": 1, "session_ended": 62}
    winner = next(answer.json["refresh_token"] for answer in answers if answer.status == 200)
    assert ada.refresh(winner).error == "session_ended"


@pytest.mark.parametrize(
    "token",
    ["", "x", "ry_refresh_", "ry_refresh_" + "a" * 43, "ry_refresh_" + "a" * 44, "ry_live_" + "a" * 32, "é" * 54],
)
def test_what_is_no_refresh_token_is_refused(ada: Somebody, token: str) -> None:
    answer = ada.auth("refresh", refresh_token=token)
    assert (answer.status, answer.error) == (401, "invalid_refresh_token")
    assert ada.auth("logout", refresh_token=token).error == "invalid_refresh_token"


def test_refresh_tokens_are_not_kept_as_they_are(ada: Somebody) -> None:
    with db.person(ids.read("user", ada.tokens["user_id"])) as tx:
        kept = str([*tx.execute("SELECT * FROM refresh_tokens"), *tx.execute("SELECT * FROM sessions")])
    assert ada.tokens["refresh_token"] not in kept


def test_a_session_lasts_thirty_days_however_often_it_is_refreshed(ada: Somebody) -> None:
    ada.tokens = ada.refresh().json
    with db.person(ids.read("user", ada.tokens["user_id"])) as tx:
        row = tx.execute("SELECT expires_at - created_at = interval '30 days' AS right FROM sessions").fetchone()
        assert row is not None
        assert row["right"]
        tx.execute("UPDATE sessions SET expires_at = now()")
    assert ada.refresh().error == "session_ended"
    assert not admitted(ada)


def test_signing_out_ends_the_session_at_once(ada: Somebody) -> None:
    assert ada.auth("logout", refresh_token=ada.tokens["refresh_token"]).status == 200
    assert ada.refresh().error == "session_ended"
    assert not admitted(ada)
    # To say it again is no mistake.
    assert ada.auth("logout", refresh_token=ada.tokens["refresh_token"]).status == 200


def test_a_person_goes_over_to_another_org_of_theirs_and_is_there_at_the_next_sign_in(ada: Somebody) -> None:
    made = ada.call(orgs, "POST", "/v1/orgs", ada.caller(), json={"name": "Second"})
    assert made.status == 201, made.text
    second = made.json["org"]["id"]
    switched = ada.refresh(org_id=second)
    assert switched.json["org_id"] == second
    ada.tokens = switched.json
    assert ids.show("org", ada.caller().org_id) == second
    assert ada.sign_in().json["org_id"] == second


def test_a_strangers_org_does_not_exist_and_the_token_stays_good(ada: Somebody, org: Caller) -> None:
    answer = ada.refresh(org_id=ids.show("org", org.org_id))
    assert (answer.status, answer.error) == (404, "not_found")
    assert ada.refresh().status == 200


def test_a_session_locked_to_an_org_stays_there(ada: Somebody) -> None:
    second = ada.call(orgs, "POST", "/v1/orgs", ada.caller(), json={"name": "Second"}).json["org"]["id"]
    user_id, first = ids.read("user", ada.tokens["user_id"]), ids.read("org", ada.tokens["org_id"])
    with db.person(user_id) as tx:
        opened = service.open_session(
            tx, user_id=user_id, org_id=first, method="sso", ip="", user_agent="", request_id="", org_locked=True
        )
    assert ada.refresh(opened.refresh_token, org_id=second).status == 404
    answer = ada.refresh(opened.refresh_token)
    assert answer.json["org_id"] == ada.tokens["org_id"]


def test_sessions_are_listed_newest_first_with_the_present_one_marked(ada: Somebody) -> None:
    ada.sign_in()
    page = ada.me("GET", "/sessions?limit=1").json
    assert [session["current"] for session in page["data"]] == [True]
    assert page["data"][0]["user_agent"] == "python-httpx/0.28.1"
    assert page["data"][0]["ip"] == "203.0.113.10"
    rest = ada.me("GET", f"/sessions?cursor={page['next_cursor']}").json
    assert [session["current"] for session in rest["data"]] == [False]
    assert rest["has_more"] is False


def test_ending_a_session_from_another_one_shuts_it_out(ada: Somebody) -> None:
    lost = replace(ada, tokens=dict(ada.tokens))
    ada.sign_in()
    ended = ada.me("DELETE", f"/sessions/{lost.tokens['session_id']}")
    assert ended.status == 200
    assert ended.json["ended_at"] is not None
    assert not admitted(lost)
    assert admitted(ada)
    assert lost.refresh().error == "session_ended"


def test_ending_all_others_keeps_the_present_one(ada: Somebody) -> None:
    others = [replace(ada, tokens=dict(ada.tokens))]
    ada.sign_in()
    others.append(replace(ada, tokens=dict(ada.tokens)))
    ada.sign_in()
    assert ada.me("DELETE", "/sessions").json == {"object": "sessions_ended", "count": 2}
    assert [admitted(other) for other in [*others, ada]] == [False, False, True]


def test_anothers_session_does_not_exist(ada: Somebody) -> None:
    eve = replace(ada, email="eve@example.org", tokens={}).registered()
    answer = eve.me("DELETE", f"/sessions/{ada.tokens['session_id']}")
    assert answer.status == 404
    assert admitted(ada)
    assert [session["id"] for session in eve.me("GET", "/sessions").json["data"]] == [eve.tokens["session_id"]]


def test_an_api_key_has_no_sessions(ada: Somebody, org: Caller) -> None:
    assert ada.call(account, "GET", "/v1/me/sessions", org).error == "insufficient_scope"
    me = ada.call(account, "GET", "/v1/me", org).json
    assert (me["user_id"], me["actor_id"]) == (None, org.actor_id)


def test_signing_in_and_out_is_in_the_trail_with_who_and_how(ada: Somebody) -> None:
    ada.sign_in()
    signed_out = ada.tokens["refresh_token"]
    ada.sign_in()
    ada.auth("logout", refresh_token=signed_out)
    made = trail(ada, ada.caller(), "session.create")
    assert [event["new"] for event in made] == [
        {"method": "password", "org_locked": False},
        {"method": "password", "org_locked": False},
        {"method": "registration", "org_locked": False},
    ]
    assert {event["actor"] for event in made} == {ada.tokens["user_id"]}
    assert [event["new"] for event in trail(ada, ada.caller(), "session.end")] == [{"because": "signed_out"}]


def test_the_services_functions_raise_what_the_api_answers(ada: Somebody) -> None:
    with pytest.raises(InvalidRefreshToken):
        service.refresh("ry_refresh_" + "b" * 43, org_id=None, visitor=Visitor("", "", ""))
