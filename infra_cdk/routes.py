"""Which function answers which path of the HTTP API."""

from collections.abc import Iterator
from dataclasses import dataclass

# Methods are named one by one: a catch-all method would send browsers' preflight requests to the authorizer,
# while API Gateway answers them by itself wherever no route claims OPTIONS.
_MEMBER_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Route:
    """A method and path of API Gateway; `{name}` stands for one segment, `{name+}` for all that follow."""

    method: str
    path: str
    function: str
    public: bool = False

    @property
    def key(self) -> str:
        return f"{self.method} {self.path}"

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request (or an OpenAPI path with its own placeholders) takes this route."""
        if method.upper() != self.method:
            return False
        wanted, given = self.path.strip("/").split("/"), path.strip("/").split("/")
        if wanted[-1].endswith("+}"):
            wanted, given = wanted[:-1], given[: len(wanted) - 1] if len(given) >= len(wanted) else []
        return len(wanted) == len(given) and all(
            part.startswith("{") or part == segment for part, segment in zip(wanted, given, strict=True)
        )

    @property
    def specificity(self) -> tuple[bool, int, int]:
        """Order routes as API Gateway does: a full match before a greedy one, literal segments before variables."""
        parts = self.path.split("/")
        return (not parts[-1].endswith("+}"), sum(not part.startswith("{") for part in parts), len(parts))


def _exact(path: str, function: str, *methods: str, public: bool = False) -> tuple[Route, ...]:
    return tuple(Route(method, path, function, public) for method in methods)


def _resource(path: str, function: str) -> tuple[Route, ...]:
    """A plural resource: list and create on the path itself, everything else below it."""
    return _exact(path, function, "GET", "POST") + _exact(path + "/{proxy+}", function, *_MEMBER_METHODS)


ROUTES: tuple[Route, ...] = (
    *_exact("/v1/health", "identity", "GET", public=True),
    *_exact("/.well-known/openid-configuration", "auth", "GET", public=True),
    *_exact("/.well-known/jwks.json", "auth", "GET", public=True),
    # Whoever signs in has nothing to show yet.
    *_exact("/v1/auth/{proxy+}", "auth", "GET", "POST", public=True),
    *_exact("/v1/auth/oauth/{proxy+}", "logins", "GET", "POST", public=True),
    *_exact("/v1/auth/sso/{proxy+}", "logins", "GET", "POST", public=True),
    *_exact("/v1/me", "account", "GET", "PATCH"),
    *_exact("/v1/me/{proxy+}", "account", *_MEMBER_METHODS),
    *_exact("/v1/me/identities", "logins", "GET", "POST"),
    *_exact("/v1/me/identities/{proxy+}", "logins", "POST", "DELETE"),
    # What nothing else answers gets a 404 in the API's envelope, rather than API Gateway's own.
    *_exact("/v1/{proxy+}", "identity", *_MEMBER_METHODS, public=True),
    *_resource("/v1/orgs", "orgs"),
    *_exact("/v1/orgs/{org_id}/members", "members", "GET", "POST"),
    *_exact("/v1/orgs/{org_id}/members/{proxy+}", "members", *_MEMBER_METHODS),
    *_exact("/v1/orgs/{org_id}/invitations", "members", "GET", "POST"),
    *_exact("/v1/orgs/{org_id}/invitations/{proxy+}", "members", *_MEMBER_METHODS),
    *_exact("/v1/invitations/accept", "members", "POST"),
    *_exact("/v1/orgs/{org_id}/teams", "teams", "GET", "POST"),
    *_exact("/v1/orgs/{org_id}/teams/{proxy+}", "teams", *_MEMBER_METHODS),
    *_exact("/v1/orgs/{org_id}/quota", "quotas", "GET", "PUT"),
    *_exact("/v1/orgs/{org_id}/subscription", "subscriptions", "PUT"),
    *_exact("/v1/plans", "subscriptions", "GET", public=True),
    *_exact("/v1/subscription", "subscriptions", "GET", "PUT"),
    *_exact("/v1/subscription/preview", "subscriptions", "POST"),
    *_exact("/v1/orgs/{org_id}/sso", "logins", "GET", "PUT", "DELETE"),
    *_resource("/v1/api-keys", "api_keys"),
    *_resource("/v1/service-accounts", "api_keys"),
    *_resource("/v1/agents", "agents"),
    *_exact("/v1/agents/{agent_id}/runs", "runs", "GET", "POST"),
    *_resource("/v1/runs", "runs"),
    *_resource("/v1/sandboxes", "sandboxes"),
    # A sandbox has no API key: it proves itself with its one-time registration token.
    *_exact("/v1/sandboxes/register", "sandboxes", "POST", public=True),
    *_exact("/v1/sandboxes/{sandbox_id}/commands", "commands", "GET", "POST"),
    *_exact("/v1/sandboxes/{sandbox_id}/commands/{proxy+}", "commands", "GET"),
    *_exact("/v1/sandboxes/{sandbox_id}/files", "commands", "GET"),
    *_exact("/v1/sandboxes/{sandbox_id}/files/{proxy+}", "commands", *_MEMBER_METHODS),
    *_resource("/v1/memories", "memory"),
    *_exact("/v1/chat/completions", "inference", "POST"),
    *_exact("/v1/responses", "inference", "POST"),
    *_exact("/v1/embeddings", "inference", "POST"),
    *_exact("/v1/models", "inference", "GET"),
    # A provider's own model has its name in two segments.
    *_exact("/v1/models/{model_id+}", "inference", "GET"),
    *_exact("/v1/inference/settings", "inference_setup", "GET", "PUT"),
    *_exact("/v1/inference/calls", "inference_setup", "GET"),
    *_exact("/v1/inference/calls/{proxy+}", "inference_setup", "GET"),
    *_resource("/v1/inference/routes", "inference_setup"),
    *_resource("/v1/inference/providers", "providers"),
    *_exact("/v1/inference/health", "providers", "GET"),
    *_resource("/v1/budgets", "budgets"),
    *_resource("/v1/orgs/{org_id}/prices", "org_prices"),
    *_resource("/v1/credits", "billing"),
    *_exact("/v1/estimates", "estimates", "POST"),
    *_exact("/v1/reports/estimates", "estimates", "GET"),
    *_exact("/v1/reports/forecast", "advice", "GET"),
    *_exact("/v1/reports/advice", "advice", "GET"),
    # Prices are for everybody.
    *_exact("/v1/price-book", "prices", "GET", public=True),
    *_exact("/v1/price-book/{proxy+}", "prices", "GET", public=True),
    *_exact("/v1/usage", "usage", "GET"),
    *_exact("/v1/usage/events", "metering", "POST"),
    *_exact("/v1/usage/{proxy+}", "usage", "GET"),
    *_exact("/v1/audit-events", "audit", "GET"),
    *_exact("/v1/audit-events/{proxy+}", "audit", "GET"),
)

# What streams, as CloudFront writes paths: these go past the HTTP API, to the gateway's own address. At home the front
# door sends the same ones to the part `gateway`.
GATEWAY_PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/models/*")


def route_of(method: str, path: str) -> Route | None:
    """Return the route a request takes, or None where API Gateway answers 404."""
    return max(_matching(method, path), key=lambda route: route.specificity, default=None)


def _matching(method: str, path: str) -> Iterator[Route]:
    return (route for route in ROUTES if route.matches(method, path))
