"""The HTTP API's routes: each leads to its function, and none past the authorizer but the two that must."""

import json

import pytest

from infra_cdk.functions import API
from infra_cdk.routes import ROUTES, route_of
from tests.infra.call_graph import REPOSITORY
from tests.infra.conftest import Templates

PUBLIC = {"GET /v1/health", "POST /v1/sandboxes/register"}
OPENAPI = REPOSITORY / "docs" / "openapi.json"


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
        ("GET", "/v1/audit-events", "audit"),
    ],
)
def test_the_most_specific_route_answers(method: str, path: str, function: str) -> None:
    route = route_of(method, path)
    assert route is not None
    assert route.function == function


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/v1"), ("DELETE", "/v1/me"), ("GET", "/v1/nothing")]
)
def test_an_unknown_path_or_method_has_no_route(method: str, path: str) -> None:
    assert route_of(method, path) is None


def test_no_two_routes_are_the_same() -> None:
    assert len({route.key for route in ROUTES}) == len(ROUTES)


def test_every_route_leads_to_a_function_and_every_function_has_a_route() -> None:
    assert {route.function for route in ROUTES} == set(API)


def test_no_route_claims_browsers_preflight_requests() -> None:
    assert not {route.method for route in ROUTES} & {"ANY", "OPTIONS"}


def test_every_operation_of_the_api_document_has_a_route_to_the_function_that_serves_it() -> None:
    paths = json.loads(OPENAPI.read_text())["paths"]
    operations = [(method.upper(), path) for path, item in paths.items() for method in item if method in _METHODS]
    assert operations
    assert [operation for operation in operations if route_of(*operation) is None] == []


def test_all_routes_but_two_ask_the_authorizer(templates: Templates) -> None:
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
