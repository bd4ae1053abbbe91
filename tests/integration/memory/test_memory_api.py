"""Memory over HTTP: what is saved is found at once, by its tenant alone, by meaning and by words."""

from collections.abc import Callable
from typing import Any

import pytest

from functions.api.memory import handler
from shared.audit import service as audit
from shared.billing import service as billing
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from shared.memory import service, store
from shared.memory.model import DIMENSIONS, Draft
from tests.api_gateway import Answer
from tests.model_provider import Provider

type Calling = Callable[..., Answer]
MEMORIES = "/v1/memories"


@pytest.fixture(autouse=True)
def credits_for_all(org: Caller, rival: Caller, provider: Provider) -> None:
    for caller in (org, rival):
        with db.tenant(caller) as tx:
            billing.grant(tx, caller, amount_microusd=1_000_000, source_id="grant", reason="test")


@pytest.fixture
def save(org: Caller, call: Calling) -> Calling:
    def saved(content: str, *, caller: Caller = org, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        body = {"content": content, "subject": "person:ada", **fields}
        return call(handler, "POST", MEMORIES, caller, json=body, headers=headers or {})

    return saved


@pytest.fixture
def search(org: Caller, call: Calling) -> Callable[..., list[str]]:
    """`search(query, **body)`: the contents found, best first."""

    def found(query: str, *, caller: Caller = org, **fields: Any) -> list[str]:
        answer = call(handler, "POST", f"{MEMORIES}/search", caller, json={"query": query, **fields})
        assert answer.status == 200, answer.text
        return [hit["memory"]["content"] for hit in answer.json["data"]]

    return found


def test_a_memory_is_found_as_soon_as_it_is_saved(save: Calling, search: Callable[..., list[str]]) -> None:
    answer = save("Ada prefers metric units.", tags=["preference"], importance=0.9, metadata={"from": "chat"})

    assert answer.status == 201
    assert answer.json["object"] == "memory"
    assert answer.json["id"].startswith("mem_")
    assert (answer.json["importance"], answer.json["tags"], answer.json["metadata"]) == (
        0.9,
        ["preference"],
        {"from": "chat"},
    )
    assert search("which units does she prefer?")[0] == "Ada prefers metric units."


def test_one_matching_word_of_a_question_is_enough(org: Caller, save: Calling, call: Calling) -> None:
    for content in ("The invoice number is INV-2041-X.", "Lunch is at noon.", "The sky was grey."):
        save(content)
    query = {"query": "tell me whatever you know regarding INV-2041-X please"}
    hits = call(handler, "POST", f"{MEMORIES}/search", org, json=query).json["data"]
    by_words = [hit["memory"]["content"] for hit in hits if hit["place_by_words"] is not None]
    assert by_words == [hits[0]["memory"]["content"]] == ["The invoice number is INV-2041-X."]


@pytest.mark.parametrize(
    "query",
    [
        "it's a 'quoted' \\ backslash",
        "a & b | !c <-> (d):*",
        "see https://example.com/a?b=1&c='2'\\3",
        "%s %(query)s",
        "the and of",
        "日本語 العربية 🙂",
        "'",
    ],
)
def test_any_text_may_be_searched_for(query: str, save: Calling, search: Callable[..., list[str]]) -> None:
    save("something else altogether")
    save(query)
    assert search(query)[0] == query


def test_a_rivals_memories_do_not_exist(
    org: Caller, rival: Caller, save: Calling, search: Callable[..., list[str]], call: Calling
) -> None:
    saved = save("The launch code is 0000.").json
    path = f"{MEMORIES}/{saved['id']}"

    assert search("launch code 0000", caller=rival) == []
    assert call(handler, "GET", MEMORIES, rival).json["data"] == []
    assert call(handler, "GET", path, rival).error == "not_found"
    assert call(handler, "DELETE", path, rival).error == "not_found"
    assert call(handler, "GET", path, org).json == saved


def test_a_small_tenant_gets_its_k_results_among_a_rivals_nearer_thousands(
    org: Caller, rival: Caller, save: Calling, search: Callable[..., list[str]]
) -> None:
    mine = {f"note {number} on the harvest" for number in range(5)}
    for content in mine:
        save(content)
    vector = [1.0] + [0.0] * (DIMENSIONS - 1)
    draft = Draft(content="note on the harvest", subject="person:ada")
    with db.tenant(rival) as tx:
        for _ in range(1_000):
            found = store.insert(
                tx,
                draft,
                memory_id=ids.new(),
                source_id=str(ids.new()),
                embedding=vector,
                created_by_user=None,
                embedding_model="runyard-offline-embed",
            )
            assert found is not None

    assert set(search("note on the harvest", k=5)) == mine


def test_a_subject_narrows_both_rankings(save: Calling, search: Callable[..., list[str]]) -> None:
    save("Ada drinks tea", subject="person:ada")
    save("Bob drinks tea", subject="person:bob")
    assert search("who drinks tea", subject="person:bob") == ["Bob drinks tea"]


def test_a_hit_tells_its_places_in_both_rankings(org: Caller, save: Calling, call: Calling) -> None:
    save("zebra")
    save("giraffe")
    hits = call(handler, "POST", f"{MEMORIES}/search", org, json={"query": "zebra"}).json["data"]
    assert [(hit["memory"]["content"], hit["place_by_words"]) for hit in hits] == [("zebra", 1), ("giraffe", None)]
    assert [hit["place_by_meaning"] for hit in hits] == [1, 2]
    assert hits[0]["score"] == pytest.approx(2 / 11)


def test_vectors_of_another_model_are_no_neighbours(org: Caller, search: Callable[..., list[str]]) -> None:
    with db.tenant(org) as tx:
        store.insert(
            tx,
            Draft(content="written by an older model", subject="s"),
            memory_id=ids.new(),
            source_id="old",
            embedding=[1.0] * DIMENSIONS,
            created_by_user=None,
            embedding_model="former",
        )
    assert search("unrelated") == []
    assert search("older") == ["written by an older model"]


def test_a_long_text_is_found_by_its_end(save: Calling, search: Callable[..., list[str]]) -> None:
    long = "lorem ipsum " * 7_000 + "the needle is a marmalade spoon"
    assert save(long).status == 201
    for number in range(3):
        save(f"filler {number}")
    assert search("marmalade spoon", k=1) == [long]


def test_saved_twice_with_one_source_id_it_is_one_memory_and_one_payment(org: Caller, provider: Provider) -> None:
    def save() -> object:
        return service.save(org, content="c", subject="s", source_id="run:1:0", max_cost_microusd=100_000)

    assert save() == save()
    assert len(provider.asked) == 1
    with db.tenant(org) as tx:
        assert len(service.list_memories(tx, org, Slice())) == 1


def test_killed_between_embedding_and_insert_it_is_embedded_and_paid_for_once(
    org: Caller, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    def save() -> object:
        return service.save(org, content="long " * 1_000, subject="s", source_id="run:1:0", max_cost_microusd=None)

    with monkeypatch.context() as patched:
        patched.setattr(store, "insert", kill)
        with pytest.raises(Killed):
            save()
    save()

    assert len(provider.asked) == 1
    with db.tenant(org) as tx:
        assert billing.balance(tx).settled_microusd == service.cost_of(tx, source_id="run:1:0") > 0
        assert billing.balance(tx).held_microusd == 0


def test_the_same_idempotency_key_saves_once(save: Calling, org: Caller, call: Calling) -> None:
    first = save("once", headers={"idempotency-key": "k"})
    again = save("once", headers={"idempotency-key": "k"})
    other = save("twice", headers={"idempotency-key": "k"})

    assert (again.json, again.headers["idempotency-replayed"]) == (first.json, "true")
    assert (other.status, other.error) == (409, "idempotency_key_reused")
    assert len(call(handler, "GET", MEMORIES, org).json["data"]) == 1


def test_a_deleted_memory_is_gone_and_the_trail_says_who_did_it(
    org: Caller, save: Calling, search: Callable[..., list[str]], call: Calling
) -> None:
    path = f"{MEMORIES}/{save('forget me').json['id']}"
    assert call(handler, "DELETE", path, org).status == 204
    assert call(handler, "GET", path, org).status == 404
    assert search("forget me") == []
    with db.tenant(org) as tx:
        trail = audit.list_events(tx, Slice(), action=None, resource_id=path.rpartition("/")[2])
    assert [(event.action, event.actor) for event in trail] == [
        ("memory.delete", org.actor_id),
        ("memory.create", org.actor_id),
    ]
    assert "forget me" not in str(trail)


def test_pages_go_from_new_to_old(org: Caller, save: Calling, call: Calling) -> None:
    for number in range(3):
        save(f"m{number}")
    first = call(handler, "GET", f"{MEMORIES}?limit=2", org).json
    rest = call(handler, "GET", f"{MEMORIES}?limit=2&cursor={first['next_cursor']}", org).json
    assert [one["content"] for one in first["data"] + rest["data"]] == ["m2", "m1", "m0"]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


@pytest.mark.parametrize(
    ("content", "fields", "status", "code"),
    [
        ("x" * 1_000_000, {}, 413, "memory_too_large"),
        ("", {}, 400, "invalid_request"),
        (" \n ", {}, 400, "invalid_request"),
        ("a\x00b", {}, 400, "invalid_request"),
        ("a\ud800b", {}, 400, "invalid_request"),
        ("ok", {"tags": ["t"] * 10_000}, 400, "invalid_request"),
        ("ok", {"importance": 2}, 400, "invalid_request"),
        ("ok", {"subject": ""}, 400, "invalid_request"),
    ],
    ids=["1 MB", "empty", "blank", "NUL", "surrogate", "10,000 tags", "importance", "no subject"],
)
def test_what_cannot_be_remembered_is_refused_before_it_costs_anything(
    save: Calling, provider: Provider, content: str, fields: dict[str, Any], status: int, code: str
) -> None:
    answer = save(content, **fields)
    assert (answer.status, answer.error) == (status, code)
    assert provider.asked == []


@pytest.mark.parametrize("body", [{"query": "q", "k": 0}, {"query": "q", "k": 10_000}, {"query": " "}, {}])
def test_a_search_that_cannot_be_made_is_refused(org: Caller, call: Calling, body: dict[str, Any]) -> None:
    assert call(handler, "POST", f"{MEMORIES}/search", org, json=body).status == 400


@pytest.mark.parametrize("subject", ["%00", "", "x" * 201])
def test_a_list_of_an_impossible_subject_is_refused(org: Caller, call: Calling, subject: str) -> None:
    answer = call(handler, "GET", f"{MEMORIES}?subject={subject}", org)
    assert (answer.status, answer.json["error"]["param"]) == (400, "subject")


def test_right_to_left_text_comes_back_as_it_was(save: Calling) -> None:
    assert save("مرحبا \u202eabc").json["content"] == "مرحبا \u202eabc"
