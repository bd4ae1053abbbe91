"""`Idempotency-Key`: the first answer is given again, another request under the same key is refused."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from functions.api.agents import handler as agents
from functions.api.api_keys import handler as api_keys
from shared.events import service as events
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.errors import IdempotencyConflict, InvalidRequest
from shared.kernel.fields import Output
from shared.kernel.idempotency import Once, Replay, purge
from tests.api_gateway import Answer

Call = Callable[..., Answer]
KEY = {"Idempotency-Key": "one"}


class Done(Output):
    """An answer of the effects below."""

    ended: bool = True


def once(fingerprint: bytes = b"a") -> Once:
    return Once(key="k", fingerprint=fingerprint, status=200)


def test_the_same_request_gets_its_first_answer_again_and_happens_once(call: Call, org: Caller) -> None:
    first = call(agents, "POST", "/v1/agents", org, json={"name": "A"}, headers=KEY)
    again = call(agents, "POST", "/v1/agents", org, json={"name": "A"}, headers=KEY)
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(call(agents, "GET", "/v1/agents", org).json["data"]) == 1


def test_another_request_under_the_same_key_is_refused(call: Call, org: Caller) -> None:
    call(agents, "POST", "/v1/agents", org, json={"name": "A"}, headers=KEY)
    other = call(agents, "POST", "/v1/agents", org, json={"name": "B"}, headers=KEY)
    assert (other.status, other.error) == (409, "idempotency_key_reused")


def test_a_key_belongs_to_its_tenant(call: Call, org: Caller, rival: Caller) -> None:
    mine = call(agents, "POST", "/v1/agents", org, json={"name": "A"}, headers=KEY)
    theirs = call(agents, "POST", "/v1/agents", rival, json={"name": "A"}, headers=KEY)
    assert theirs.status == 201
    assert theirs.json["id"] != mine.json["id"]


def test_a_failed_request_does_not_use_up_its_key(call: Call, org: Caller) -> None:
    wrong = {"name": "A", "config": {"tools": ["no.such"]}}
    assert call(agents, "POST", "/v1/agents", org, json=wrong, headers=KEY).status == 400
    assert call(agents, "POST", "/v1/agents", org, json={"name": "A"}, headers=KEY).status == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_an_unusable_key_is_named(call: Call, org: Caller, key: str) -> None:
    answer = call(agents, "POST", "/v1/agents", org, json={"name": "A"}, headers={"Idempotency-Key": key})
    assert (answer.status, answer.json["error"]["param"]) == (400, "Idempotency-Key")


def test_many_at_once_under_one_key_make_one_thing(call: Call, org: Caller) -> None:
    answers: list[Answer] = []
    barrier = threading.Barrier(8)

    def request() -> None:
        barrier.wait()
        answers.append(call(agents, "POST", "/v1/agents", org, json={"name": "A"}, headers=KEY))

    threads = [threading.Thread(target=request) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} <= {201, 409}
    assert len({answer.json["id"] for answer in answers if answer.status == 201}) == 1
    refused = {answer.error for answer in answers if answer.status == 409}
    assert refused <= {"idempotency_in_flight"}
    assert len(call(agents, "GET", "/v1/agents", org).json["data"]) == 1


def test_a_secret_is_not_shown_again_and_not_stored(call: Call, org: Caller) -> None:
    first = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K"}, headers=KEY)
    again = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K"}, headers=KEY)
    secret = first.json["secret"]
    assert secret.startswith("ry_live_")
    assert secret not in again.text
    assert again.json["id"] == first.json["id"]
    with db.tenant(org) as tx:
        rows = tx.execute("SELECT body::text AS body FROM idempotency_keys").fetchall()
    assert rows
    assert all(secret not in row["body"] for row in rows)


def test_an_effect_outside_the_database_is_known_by_the_same_source_id_when_it_is_sent_again(org: Caller) -> None:
    seen: list[str] = []

    def effect(source_id: str) -> Done:
        seen.append(source_id)
        return Done(ended=len(seen) > 1)

    assert once().around(org, effect, final=lambda done: done.ended) == Done(ended=False)
    with pytest.raises(IdempotencyConflict):
        once(b"b").around(org, effect)
    assert once().around(org, effect, final=lambda done: done.ended) == Done(ended=True)
    assert seen[0] == seen[1]
    with pytest.raises(Replay):
        once().around(org, effect)
    assert len(seen) == 2


def test_a_refused_effect_outside_the_database_gives_its_key_back(org: Caller) -> None:
    def refuse(_: str) -> Done:
        raise InvalidRequest("no")

    for _ in range(2):
        with pytest.raises(InvalidRequest):
            once().around(org, refuse)
    assert once(b"b").around(org, lambda _: Done()) == Done()


def test_keys_of_more_than_a_day_ago_are_forgotten(call: Call, org: Caller) -> None:
    call(agents, "POST", "/v1/agents", org, json={"name": "A"}, headers=KEY)
    call(agents, "POST", "/v1/agents", org, json={"name": "B"}, headers={"Idempotency-Key": "two"})
    with db.tenant(org) as tx:
        tx.execute("UPDATE idempotency_keys SET reserved_at = now() - interval '25 hours' WHERE key = 'one'")
    assert org.org_id in events.orgs_with_work(zombie_after=timedelta(hours=1))
    with db.tenant(org) as tx:
        assert purge(tx) == 1
        assert purge(tx) == 0
