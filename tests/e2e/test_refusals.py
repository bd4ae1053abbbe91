"""What the API refuses, as a client sees it: always in the envelope, with a code to rely on."""

import httpx
import pytest

from tests.e2e.deployed import Deployed
from tests.e2e.tenant import Tenant
from tests.waiting import until

UNKNOWN = "ry_live_" + "a" * 32
FIELDS = {"type", "code", "message", "param", "request_id", "retryable", "doc_url"}
LIMITS = {"insufficient_credits", "quota_exceeded", "plan_limit_reached"}


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an answer that must carry the envelope."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}, answer.text
    error = answer.json()["error"]
    # Refused by a limit or a balance, it also says which, what is used and how to lift it.
    assert error.keys() == FIELDS | ({"details"} if error["code"] in LIMITS else set())
    assert error["request_id"]
    assert error["message"]
    assert error["doc_url"].endswith(f"/errors#{error['code']}")
    return answer.status_code, error["code"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "invalid_api_key"),
        ("", "invalid_api_key"),
        ("Bearer", "malformed_authorization"),
        (f"Basic {UNKNOWN}", "malformed_authorization"),
        (UNKNOWN, "malformed_authorization"),
        ("Bearer nonsense", "invalid_api_key"),
        (f"Bearer {UNKNOWN}", "invalid_api_key"),
        ("Bearer ß", "malformed_authorization"),
        ("Bearer a.b.c", "invalid_token"),
    ],
)
def test_without_a_valid_key_the_answer_is_401(home: Deployed, header: str | None, code: str) -> None:
    headers = {} if header is None else {b"Authorization": header.encode()}
    assert refusal(home.client().get("/v1/me", headers=headers)) == (401, code)


def test_two_authorization_headers_are_refused_even_if_one_is_good(home: Deployed, tenant: Tenant) -> None:
    good = f"Bearer {tenant.key}"
    twice = [("Authorization", good), ("Authorization", good)]
    assert refusal(home.client().get("/v1/me", headers=twice)) == (401, "malformed_authorization")


def test_a_key_without_the_scope_is_forbidden(home: Deployed, tenant: Tenant) -> None:
    reader = tenant.post("/v1/api-keys", {"name": "Reader", "scopes": ["runs:read"]})["secret"]
    assert home.client(reader).get("/v1/runs").status_code == 200
    assert refusal(home.client(reader).post("/v1/agents", json={"name": "A"})) == (403, "insufficient_scope")


def test_a_revoked_key_is_refused_within_seconds(home: Deployed, tenant: Tenant) -> None:
    key = tenant.post("/v1/api-keys", {"name": "Short-lived"})
    client = home.client(key["secret"])
    assert client.get("/v1/me").status_code == 200
    assert tenant.http.delete(f"/v1/api-keys/{key['id']}").status_code == 200
    # API Gateway keeps an authorizer's answer for five seconds.
    until(lambda: client.get("/v1/me").status_code == 401, "the end of the key", within_s=7)
    assert refusal(client.get("/v1/me")) == (401, "api_key_revoked")
    assert tenant.http.get("/v1/me").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/nothing"), ("DELETE", "/v1/me"), ("GET", "/v1"), ("GET", "/nothing"), ("GET", "/v1/agents/a/b/c/d")],
)
def test_an_address_without_anything_is_404(tenant: Tenant, method: str, path: str) -> None:
    status, code = refusal(tenant.http.request(method, path))
    assert (status, code) in {(404, "route_not_found"), (405, "method_not_allowed")}


def test_what_belongs_to_another_org_does_not_exist(home: Deployed, tenant: Tenant) -> None:
    agent = tenant.agent()
    assert tenant.get(f"/v1/agents/{agent}")["id"] == agent
    assert refusal(home.tenant("Rival").http.get(f"/v1/agents/{agent}")) == (404, "not_found")


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"{", "application/json"), (b"[]", "application/json"), (b"name=A", "application/x-www-form-urlencoded")],
)
def test_a_body_that_is_none_is_400(tenant: Tenant, content: bytes, kind: str) -> None:
    answer = tenant.http.post("/v1/agents", content=content, headers={"Content-Type": kind})
    assert refusal(answer) == (400, "invalid_request")


def test_a_run_that_the_credits_do_not_cover_is_402(home: Deployed, tenant: Tenant) -> None:
    agent = tenant.agent("memory.search")
    answer = tenant.http.post(
        f"/v1/agents/{agent}/runs", json={"input": "offline: say hello", "budget_microusd": 5_000_001}
    )
    assert refusal(answer) == (402, "insufficient_credits")
    home.assert_books_balance(tenant)
