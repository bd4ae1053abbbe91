"""The gateway's HTTP face under real uvicorn: who calls, headers, errors, keys of repetition, limits, counting."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from redis import Redis

from shared.identity import service as identity
from shared.identity.model import KeyMode
from shared.inference.asking import CacheControl
from shared.inference.calls import CacheStatus
from shared.inference.edge import app as edge
from shared.inference.edge import callers, reading
from shared.inference.errors import BudgetExceeded, ProviderRateLimited
from shared.inference.trace import Trace
from shared.kernel import db, settings
from shared.kernel.buckets import Bucket
from shared.kernel.caller import Caller
from shared.kernel.errors import RateLimited, Unavailable
from shared.kernel.limiting import Counted
from shared.kernel.rates import Rate
from tests.fake_gateway import ANSWER, FakeGateway
from tests.http_server import listening
from tests.waiting import until

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
EMBEDDINGS = "/v1/embeddings"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
BODIES = {CHAT: HELLO, RESPONSES: {"input": "hello"}, EMBEDDINGS: {"input": "hello"}}
ENDPOINTS = pytest.mark.parametrize("path", list(BODIES))


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def make_key(org: Caller) -> Callable[..., str]:
    """`make_key(scopes, rate_limit_per_minute=…)`: a new key of the tenant, as it is sent."""

    def make(scopes: frozenset[str] | None = None, **options: Any) -> str:
        with db.tenant(org) as tx:
            _, secret = identity.create_key(
                tx, org, name="k", scopes=scopes, expires_at=None, metadata={}, mode=KeyMode.LIVE, **options
            )
        return secret.text

    return make


@pytest.fixture
def url(gateway: FakeGateway, redis: Redis) -> Iterator[str]:
    with listening(edge.create(gateway)) as address:
        yield address


@pytest.fixture
def client(url: str, make_key: Callable[..., str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {make_key()}"}, timeout=20) as made:
        yield made


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def counted_calls(caller: Caller) -> int:
    with db.tenant(caller) as tx:
        row = tx.execute("SELECT coalesce(sum(calls), 0)::int AS calls FROM api_calls").fetchone()
    assert row is not None
    return int(row["calls"])


def test_an_answer_tells_what_it_cost_how_it_came_about_and_what_is_left(
    client: httpx.Client, gateway: FakeGateway
) -> None:
    buckets = [
        Bucket("actor.model", Rate(60, 10), False, 8, 1.4, 0.0),
        Bucket("org.model", Rate(600, 100), False, 90, 0.25, 0.0),
    ]
    gateway.known = Trace(
        counted=Counted(buckets), provider="stub", cache=CacheStatus.MISS, provider_ms=3, cost_microusd=7
    )
    answer = client.post(CHAT, json=HELLO)

    assert (answer.status_code, answer.json()) == (200, ANSWER)
    found = answer.headers
    assert found["content-type"] == "application/json"
    assert (found["x-runyard-cost-microusd"], found["x-runyard-cache"], found["x-runyard-provider"]) == (
        "7",
        "miss",
        "stub",
    )
    assert 0 <= int(found["x-runyard-overhead-ms"]) < 1000
    assert found["x-request-id"] == gateway.asked[0].caller.request_id
    assert (found["x-ratelimit-limit-requests"], found["x-ratelimit-remaining-requests"]) == ("10", "8")
    assert found["x-ratelimit-reset-requests"] == "1s"
    assert found["ratelimit"].startswith('"actor.model";r=8')
    assert "ratelimit-policy" in found


def test_time_that_the_provider_took_is_not_ours(client: httpx.Client, gateway: FakeGateway) -> None:
    gateway.known.provider_ms = 10_000
    assert client.post(CHAT, json=HELLO).headers["x-runyard-overhead-ms"] == "0"


@ENDPOINTS
def test_every_endpoint_hands_on_who_asks_and_what(
    client: httpx.Client, gateway: FakeGateway, org: Caller, path: str
) -> None:
    answer = client.post(path, json=BODIES[path], headers={"x-runyard-cache": "off", "x-runyard-task": "sort"})
    assert answer.status_code == 200
    assert answer.headers["x-runyard-cost-microusd"] == "7"
    if path == EMBEDDINGS:
        assert gateway.embedded[0]["limited"] is True
        return
    ask = gateway.asked[0]
    assert ask.caller.org_id == org.org_id
    assert ask.caller.actor_id.startswith("key_")
    assert (ask.cache.read, ask.cache.write, ask.task, ask.limited, ask.repeatable) == (
        False,
        False,
        "sort",
        True,
        False,
    )
    assert ask.request.messages == HELLO["messages"]
    assert ask.source_id.startswith("api:")


def test_a_request_that_says_nothing_of_the_cache_allows_it_all(client: httpx.Client, gateway: FakeGateway) -> None:
    client.post(CHAT, json=HELLO)
    client.post(CHAT, json=HELLO, headers={"cache-control": "no-cache, stale-if-error=60"})
    assert gateway.asked[0].cache == CacheControl()
    assert (gateway.asked[1].cache.read, gateway.asked[1].cache.stale_if_error_s) == (False, 60)


def test_no_two_requests_have_a_source_id_or_request_id_in_common(client: httpx.Client, gateway: FakeGateway) -> None:
    for _ in range(3):
        client.post(CHAT, json=HELLO)
    assert len({ask.source_id for ask in gateway.asked}) == 3
    assert len({ask.caller.request_id for ask in gateway.asked}) == 3


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_embeddings_come_in_either_encoding(client: httpx.Client, encoding: str | None) -> None:
    body = {"input": ["a", "b"], "dimensions": 2} | ({"encoding_format": encoding} if encoding else {})
    answer = client.post(EMBEDDINGS, json=body).json()
    wanted: Any = "AACAPwAAAD8=" if encoding == "base64" else [1.0, 0.5]
    assert [one["embedding"] for one in answer["data"]] == [wanted, wanted]
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


def test_token_ids_are_refused_with_what_to_do(client: httpx.Client) -> None:
    answer = client.post(EMBEDDINGS, json={"input": [[1, 2]]})
    assert error_of(answer) == (400, "not_supported_by_provider")
    assert "check_embedding_ctx_length" in answer.json()["error"]["message"]


def test_models_are_listed_and_found_by_their_names_slashes_included(client: httpx.Client) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["m", "mine/of/two"]
    for name in ("mine/of/two", "mine%2Fof%2Ftwo"):
        assert client.get(f"/v1/models/{name}").json()["id"] == "mine/of/two"
    assert error_of(client.get("/v1/models/none")) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", CHAT, (405, "method_not_allowed")),
        ("POST", "/v1/models", (405, "method_not_allowed")),
        ("DELETE", "/v1/models/m", (405, "method_not_allowed")),
        ("POST", "/v1/completions", (404, "route_not_found")),
        ("GET", "/v1/models/", (404, "route_not_found")),
        ("GET", "/", (404, "route_not_found")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_routes_and_methods_are_not_there(
    client: httpx.Client, method: str, path: str, wanted: tuple[int, str]
) -> None:
    assert error_of(client.request(method, path)) == wanted


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "invalid_api_key"),
        ({"authorization": "Bearer ry_live_nobody"}, "invalid_api_key"),
        ({"authorization": "Basic eHg6eHg="}, "malformed_authorization"),
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], "malformed_authorization"),
    ],
    ids=["none", "unknown", "basic", "twice"],
)
@pytest.mark.parametrize("path", [CHAT, RESPONSES, EMBEDDINGS, "/v1/models", "/v1/models/m"])
def test_without_a_good_key_nothing_is_asked(
    url: str, gateway: FakeGateway, path: str, headers: Any, code: str
) -> None:
    answer = httpx.request("GET" if "models" in path else "POST", f"{url}{path}", json={}, headers=headers)
    assert error_of(answer) == (401, code)
    assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]
    assert gateway.asked == []


@ENDPOINTS
def test_a_key_without_the_scope_is_refused(
    url: str, gateway: FakeGateway, make_key: Callable[..., str], path: str
) -> None:
    reader = {"authorization": f"Bearer {make_key(frozenset({'inference:read'}))}"}
    assert error_of(httpx.post(f"{url}{path}", json=BODIES[path], headers=reader)) == (403, "insufficient_scope")
    assert httpx.get(f"{url}/v1/models", headers=reader).status_code == 200
    writer = {"authorization": f"Bearer {make_key(frozenset({'inference:write'}))}"}
    assert error_of(httpx.get(f"{url}/v1/models", headers=writer)) == (403, "insufficient_scope")
    assert gateway.asked == []


def test_a_key_is_looked_up_once_in_a_while_however_many_ask(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str | None] = []
    real = identity.authenticate

    def look(header: str | None) -> Caller:
        looked.append(header)
        time.sleep(0.1)
        return real(header)

    monkeypatch.setattr(identity, "authenticate", look)
    monkeypatch.setattr(callers, "_KEPT_S", 60.0)
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: client.post(CHAT, json=HELLO).status_code, range(16)))
    assert answers == [200] * 16
    assert len(looked) == 1

    monkeypatch.setattr(callers, "_KEPT_S", 0.0)
    for _ in range(2):
        client.post(CHAT, json=HELLO, headers={"authorization": "Bearer other"})
    assert len(looked) == 3


def test_a_refusal_is_kept_too_and_told_again_in_full(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str | None] = []
    real = identity.authenticate

    def look(header: str | None) -> Caller:
        looked.append(header)
        return real(header)

    monkeypatch.setattr(identity, "authenticate", look)
    answers = [httpx.post(f"{url}{CHAT}", headers={"authorization": "Bearer x"}).json() for _ in range(3)]
    assert len(looked) == 1
    assert {answer["error"]["message"] for answer in answers} == {answers[0]["error"]["message"]}


def test_an_outage_is_not_kept(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:

        def gone(_: str | None) -> Caller:
            raise Unavailable("gone")

        patched.setattr(identity, "authenticate", gone)
        assert error_of(client.post(CHAT, json=HELLO)) == (503, "unavailable")
    assert client.post(CHAT, json=HELLO).status_code == 200


def test_a_revoked_key_is_refused_once_the_five_seconds_are_over(
    client: httpx.Client, org: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_KEPT_S", 0.0)
    assert client.post(CHAT, json=HELLO).status_code == 200
    with db.tenant(org) as tx:
        tx.execute("UPDATE api_keys SET revoked_at = now()")
    assert error_of(client.post(CHAT, json=HELLO)) == (401, "api_key_revoked")


@pytest.fixture
def behind_an_edge(monkeypatch: pytest.MonkeyPatch, database: str) -> Iterator[None]:
    monkeypatch.setenv("RUNYARD_EDGE_SECRET", "s3cret")
    settings.forget()
    yield
    settings.forget()


def test_behind_an_edge_only_the_edge_gets_in_and_its_word_on_the_address_counts(
    behind_an_edge: None, client: httpx.Client, gateway: FakeGateway
) -> None:
    assert error_of(client.post(CHAT, json=HELLO)) == (404, "route_not_found")
    assert error_of(client.post(CHAT, json=HELLO, headers={"x-runyard-edge": "guess"})) == (404, "route_not_found")
    told = {"x-runyard-edge": "s3cret", "x-forwarded-for": "198.51.100.9, 203.0.113.7"}
    assert client.post(CHAT, json=HELLO, headers=told).status_code == 200
    assert gateway.asked[0].caller.ip == "203.0.113.7"


def test_without_an_edge_nobodys_word_on_the_address_counts(client: httpx.Client, gateway: FakeGateway) -> None:
    client.post(CHAT, json=HELLO, headers={"x-forwarded-for": "203.0.113.7"})
    assert gateway.asked[0].caller.ip == "127.0.0.1"


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (ProviderRateLimited("slow down", retry_after_s=3), 429, "3"),
        (BudgetExceeded("no", details={"budget_id": "bud_1"}), 402, None),
        (psycopg.OperationalError("no"), 503, "1"),
        (RuntimeError("password=hunter2"), 500, None),
    ],
    ids=["rate", "budget", "postgres", "bug"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_goes_wrong_before_the_answer_is_an_error_in_the_envelope(
    client: httpx.Client, gateway: FakeGateway, error: Exception, status: int, retry_after: str | None, stream: bool
) -> None:
    gateway.answer, gateway.chunks = error, [error]
    answer = client.post(CHAT, json=HELLO | {"stream": stream})
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == retry_after
    assert answer.headers["x-runyard-cost-microusd"] in ("0", "7")
    assert set(answer.json()["error"]) >= {"type", "code", "message", "param", "request_id", "retryable", "doc_url"}
    assert answer.json()["error"].get("details") == getattr(error, "details", None)
    assert "hunter2" not in answer.text


def test_a_body_beyond_the_limit_is_a_413(client: httpx.Client, gateway: FakeGateway) -> None:
    assert error_of(client.post(CHAT, content=b"x" * (reading.MOST_BYTES + 1))) == (413, "payload_too_large")
    pieces = (b"x" * 1_000_000 for _ in range(11))
    assert error_of(client.post(CHAT, content=pieces)) == (413, "payload_too_large")
    assert gateway.asked == []


class TestIdempotency:
    KEY = {"idempotency-key": "k"}

    @ENDPOINTS
    def test_the_same_request_gets_the_first_answer(
        self, client: httpx.Client, gateway: FakeGateway, path: str
    ) -> None:
        first = client.post(path, json=BODIES[path], headers=self.KEY)
        gateway.answer = RuntimeError("asked twice")
        again = client.post(path, json=BODIES[path], headers=self.KEY)

        assert again.json() == first.json()
        assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
        assert again.headers["x-runyard-cost-microusd"] == "0"
        assert "idempotency-replayed" not in first.headers
        assert len(gateway.asked) + len(gateway.embedded) == 1

    def test_the_gateway_is_told_that_it_may_be_repeated_under_one_name(
        self, client: httpx.Client, gateway: FakeGateway
    ) -> None:
        gateway.answer = ProviderRateLimited("wait", retry_after_s=1)
        for _ in range(2):
            client.post(CHAT, json=HELLO, headers=self.KEY)
        client.post(CHAT, json=HELLO, headers={"idempotency-key": "other"})
        assert all(ask.repeatable for ask in gateway.asked)
        first, second, other = (ask.source_id for ask in gateway.asked)
        assert first == second != other

    def test_another_request_is_a_conflict(self, client: httpx.Client) -> None:
        client.post(CHAT, json=HELLO, headers=self.KEY)
        answer = client.post(CHAT, json=HELLO | {"seed": 1}, headers=self.KEY)
        assert error_of(answer) == (409, "idempotency_key_reused")
        assert error_of(client.post(f"{CHAT}?x=1", json=HELLO, headers=self.KEY))[0] == 409

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    def test_a_request_under_way_is_a_conflict(self, client: httpx.Client, gateway: FakeGateway, stream: bool) -> None:
        gateway.delay_s = 0.5
        body = HELLO | {"stream": stream}
        with ThreadPoolExecutor(1) as other:
            slow = other.submit(client.post, CHAT, json=body, headers=self.KEY)
            until(lambda: gateway.asked, "the call")
            assert error_of(client.post(CHAT, json=body, headers=self.KEY)) == (409, "idempotency_in_flight")
            assert slow.result().status_code == 200
        assert len(gateway.asked) == 1

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    def test_a_failed_request_gives_its_key_back(
        self, client: httpx.Client, gateway: FakeGateway, stream: bool
    ) -> None:
        answer, chunks = gateway.answer, gateway.chunks
        failure = ProviderRateLimited("wait", retry_after_s=1)
        gateway.answer, gateway.chunks = failure, [failure]
        body = HELLO | {"stream": stream}
        assert client.post(CHAT, json=body, headers=self.KEY).status_code == 429
        gateway.answer, gateway.chunks = answer, chunks
        assert client.post(CHAT, json=body, headers=self.KEY).status_code == 200

    @pytest.mark.parametrize("path", [CHAT, RESPONSES])
    def test_a_stream_is_replayed_as_a_stream(self, client: httpx.Client, gateway: FakeGateway, path: str) -> None:
        body = BODIES[path] | {"stream": True}
        first = client.post(path, json=body, headers=self.KEY)
        gateway.chunks = [RuntimeError("asked twice")]
        again = client.post(path, json=body, headers=self.KEY)
        assert again.headers["content-type"].startswith("text/event-stream")
        assert again.headers["idempotency-replayed"] == "true"
        assert len(gateway.asked) == 1
        assert _text(again.text) == _text(first.text) == "Hello you."

    @pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
    def test_a_key_that_is_none_is_refused(self, client: httpx.Client, gateway: FakeGateway, key: str) -> None:
        answer = client.post(CHAT, json=HELLO, headers={"idempotency-key": key})
        assert error_of(answer) == (400, "invalid_request")
        assert answer.json()["error"]["param"] == "Idempotency-Key"
        assert gateway.asked == []

    def test_nobody_is_given_the_answer_of_another_key_of_the_org(
        self, client: httpx.Client, gateway: FakeGateway, url: str, make_key: Callable[..., str]
    ) -> None:
        client.post(CHAT, json=HELLO, headers=self.KEY)
        headers = self.KEY | {"authorization": f"Bearer {make_key()}"}
        assert error_of(httpx.post(f"{url}{CHAT}", json=HELLO, headers=headers)) == (409, "idempotency_key_reused")
        assert len(gateway.asked) == 1

    def test_a_rivals_equal_key_is_another(
        self, client: httpx.Client, gateway: FakeGateway, rival: Caller, url: str
    ) -> None:
        client.post(CHAT, json=HELLO, headers=self.KEY)
        with db.tenant(rival) as tx:
            _, secret = identity.create_key(tx, rival, name="k", scopes=None, expires_at=None, metadata={})
        headers = self.KEY | {"authorization": f"Bearer {secret.text}"}
        assert "idempotency-replayed" not in httpx.post(f"{url}{CHAT}", json=HELLO, headers=headers).headers
        assert len(gateway.asked) == 2


def _text(stream: str) -> str:
    data = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    if data and data[0].get("object") == "chat.completion.chunk":
        return "".join(choice["delta"].get("content") or "" for one in data for choice in one["choices"])
    return "".join(one["delta"] for one in data if one["type"] == "response.output_text.delta")


class TestLimits:
    def test_what_fails_before_the_gateway_counts_against_the_rates(
        self, url: str, make_key: Callable[..., str], gateway: FakeGateway
    ) -> None:
        headers = {"authorization": f"Bearer {make_key(rate_limit_per_minute=6)}"}
        answers = [httpx.post(f"{url}{CHAT}", json={}, headers=headers) for _ in range(20)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == 400
        assert answers[0].headers["x-ratelimit-remaining-requests"]
        assert refused
        assert error_of(refused[0]) == (429, "rate_limited")
        assert int(refused[0].headers["retry-after"]) > 0
        assert refused[0].headers["x-ratelimit-remaining-requests"] == "0"
        assert gateway.asked == []

    def test_listing_models_counts_too(self, url: str, make_key: Callable[..., str]) -> None:
        headers = {"authorization": f"Bearer {make_key(rate_limit_per_minute=6)}"}
        assert 429 in [httpx.get(f"{url}/v1/models", headers=headers).status_code for _ in range(20)]

    def test_replays_count_too(self, url: str, make_key: Callable[..., str]) -> None:
        headers = {"authorization": f"Bearer {make_key(rate_limit_per_minute=6)}", "idempotency-key": "k"}
        assert 429 in [httpx.post(f"{url}{CHAT}", json=HELLO, headers=headers).status_code for _ in range(20)]

    def test_what_the_gateway_counted_is_not_counted_again(
        self, url: str, make_key: Callable[..., str], gateway: FakeGateway, redis: Redis
    ) -> None:
        gateway.known.counted = Counted([Bucket("key", Rate(6, 1), True, 0, 10.0, 10.0)])
        gateway.answer = RateLimited("slow down", retry_after_s=10)
        headers = {"authorization": f"Bearer {make_key(rate_limit_per_minute=6)}"}
        answer = httpx.post(f"{url}{CHAT}", json=HELLO, headers=headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        assert redis.keys("rate:*") == []


class TestCounting:
    def test_the_edge_counts_what_the_gateway_does_not(
        self, client: httpx.Client, gateway: FakeGateway, org: Caller
    ) -> None:
        client.post(CHAT, json=HELLO)
        until(lambda: counted_calls(org) == 0, "the count")
        client.post(CHAT, json={})
        client.get("/v1/models")
        gateway.known.request_counted = False
        client.post(CHAT, json=HELLO)
        until(lambda: counted_calls(org) == 3, "the count")

    def test_our_faults_and_rate_limits_are_not_counted(
        self, client: httpx.Client, gateway: FakeGateway, org: Caller
    ) -> None:
        gateway.known.request_counted = False
        for error in (RuntimeError("x"), RateLimited("x", retry_after_s=1)):
            gateway.answer = error
            client.post(CHAT, json=HELLO)
        gateway.answer = BudgetExceeded("no")
        client.post(CHAT, json=HELLO)
        until(lambda: counted_calls(org) == 1, "the count")
