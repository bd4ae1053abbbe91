"""The HTTP API's routes: each leads to its function, and none past the authorizer but those that must."""

import json

import pytest
from fastapi.routing import APIRoute

from docs.generate import openapi, routers
from infra_cdk.functions import API
from infra_cdk.routes import ROUTES, route_of
from tests.infra.conftest import Templates

NOTHING_ELSE = {f"{method} /v1/{{proxy+}}" for method in ("GET", "POST", "PUT", "PATCH", "DELETE")}
# Whoever signs in has nothing to show yet.
SIGN_IN = {
    *(f"{method} /v1/auth/{part}{{proxy+}}" for method in ("GET", "POST") for part in ("", "oauth/", "sso/")),
    "GET /.well-known/jwks.json",
    "GET /.well-known/openid-configuration",
}
ON_OFFER = {"GET /v1/plans", "GET /v1/price-book", "GET /v1/price-book/{proxy+}"}
PUBLIC = {"GET /v1/health", *ON_OFFER, "POST /v1/sandboxes/register", *SIGN_IN, *NOTHING_ELSE}


@pytest.mark.parametrize(
    ("method", "path", "function"),
    [
        ("GET", "/v1/agents", "agents"),
        ("GET", "/v1/agents/agent_1", "agents"),
        ("GET", "/v1/agents/agent_1/versions", "agents"),
        ("POST", "/v1/agents/agent_1/runs", "runs"),
        ("GET", "/v1/runs/run_1/events", "runs"),
        ("POST", "/v1/sandboxes", "sandboxes"),
        ("POST", "/v1/sandboxes/register", "sandboxes"),
        ("POST", "/v1/sandboxes/sbx_1/stop", "sandboxes"),
        ("POST", "/v1/sandboxes/sbx_1/commands", "commands"),
        ("PUT", "/v1/sandboxes/sbx_1/files/a/b.txt", "commands"),
        ("POST", "/v1/chat/completions", "inference"),
        ("POST", "/v1/responses", "inference"),
        ("GET", "/v1/models/gpt-5", "inference"),
        ("GET", "/v1/models/acme/some-model", "inference"),
        ("GET", "/v1/audit-events", "audit"),
        ("GET", "/v1/price-book", "prices"),
        ("GET", "/v1/price-book/models/gpt-5", "prices"),
        ("GET", "/v1/reports/forecast", "advice"),
        ("GET", "/v1/reports/advice", "advice"),
        ("POST", "/v1/auth/login", "auth"),
        ("GET", "/v1/auth/oauth/google/start", "logins"),
        ("GET", "/v1/auth/sso/org_1/callback", "logins"),
        ("GET", "/v1/me", "account"),
        ("GET", "/v1/me/sessions", "account"),
        ("GET", "/v1/me/identities", "logins"),
        ("GET", "/v1/orgs/org_1", "orgs"),
        ("PUT", "/v1/orgs/org_1/settings", "orgs"),
        ("DELETE", "/v1/orgs/org_1/members/user_1", "members"),
        ("POST", "/v1/orgs/org_1/invitations/inv_1/resend", "members"),
        ("POST", "/v1/invitations/accept", "members"),
        ("PUT", "/v1/orgs/org_1/teams/team_1/members/user_1", "teams"),
        ("GET", "/v1/orgs/org_1/quota", "quotas"),
        ("PUT", "/v1/orgs/org_1/sso", "logins"),
        ("POST", "/v1/api-keys/key_1/rotate", "api_keys"),
        ("GET", "/.well-known/jwks.json", "auth"),
    ],
)
def test_the_most_specific_route_answers(method: str, path: str, function: str) -> None:
    route = route_of(method, path)
    assert route is not None
    assert route.function == function


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1/me"), ("GET", "/v1/nothing"), ("PUT", "/v1/a/b/c")])
def test_an_unknown_path_or_method_is_answered_by_the_api_with_its_own_404(method: str, path: str) -> None:
    route = route_of(method, path)
    assert route is not None
    assert (route.path, route.function, route.public) == ("/v1/{proxy+}", "identity", True)


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/v1"), ("OPTIONS", "/v1/nothing")])
def test_what_is_not_the_apis_has_no_route(method: str, path: str) -> None:
    assert route_of(method, path) is None


def test_no_two_routes_are_the_same() -> None:
    assert len({route.key for route in ROUTES}) == len(ROUTES)


def test_every_route_leads_to_a_function_and_every_function_has_a_route() -> None:
    assert {route.function for route in ROUTES} == set(API)


def test_no_route_claims_browsers_preflight_requests() -> None:
    assert not {route.method for route in ROUTES} & {"ANY", "OPTIONS"}


def test_every_operation_of_the_api_leads_to_its_function_and_through_the_authorizer_if_it_asks_for_a_caller() -> None:
    documented = openapi()["paths"]
    for name, router in routers().items():
        for operation in router.routes:
            assert isinstance(operation, APIRoute)
            path = operation.path.replace(":path}", "}")
            for method in operation.methods or ():
                route = route_of(method, path)
                assert route is not None
                assert (route.function, route.key in NOTHING_ELSE) == (name, False), f"{method} {path}"
                asks = bool(documented[path][method.lower()].get("security"))
                assert route.public is not asks, f"{method} {path}"


def test_all_routes_but_the_known_ones_ask_the_authorizer(templates: Templates) -> None:
    routes = [route for route in templates.resources("AWS::ApiGatewayV2::Route") if route.logical_id.startswith("Http")]
    assert {route.properties["RouteKey"] for route in routes} == {route.key for route in ROUTES}
    open_routes = {route.properties["RouteKey"] for route in routes if route.properties["AuthorizationType"] == "NONE"}
    assert open_routes == PUBLIC
    assert all(route.properties["AuthorizerId"] for route in routes if route.properties["RouteKey"] not in PUBLIC)


def test_a_websocket_is_authorised_when_it_connects(templates: Templates) -> None:
    routes = {
        route.properties["RouteKey"]: route.properties["AuthorizationType"]
        for route in templates.resources("AWS::ApiGatewayV2::Route")
        if route.logical_id.startswith("Sockets")
    }
    assert routes == {"$connect": "CUSTOM", "$disconnect": "NONE", "$default": "NONE"}


def test_both_apis_are_throttled_and_write_an_access_log_without_headers_or_bodies(templates: Templates) -> None:
    stages = templates.resources("AWS::ApiGatewayV2::Stage")
    assert len(stages) == 2
    for stage in stages:
        assert stage.properties["DefaultRouteSettings"]["ThrottlingRateLimit"] > 0
        fields = json.loads(stage.properties["AccessLogSettings"]["Format"]).values()
        assert "$context.requestId" in fields
        assert not [
            field for field in fields if any(word in field.lower() for word in ("header", "body", "querystring"))
        ]


def test_the_authorizers_answer_is_kept_for_five_seconds_so_that_a_revoked_key_stops_working(
    templates: Templates,
) -> None:
    (authorizer,) = (
        authorizer
        for authorizer in templates.resources("AWS::ApiGatewayV2::Authorizer")
        if authorizer.properties.get("AuthorizerPayloadFormatVersion") == "2.0"
    )
    assert authorizer.properties["AuthorizerResultTtlInSeconds"] == 5
    assert authorizer.properties["EnableSimpleResponses"] is True
    assert authorizer.properties["IdentitySource"] == ["$request.header.Authorization"]


_METHODS = {"get", "post", "put", "patch", "delete"}
