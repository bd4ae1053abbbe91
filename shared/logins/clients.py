"""How the providers of this deployment know us: client ids and secrets, kept as one JSON secret."""

import json
from collections.abc import Mapping
from typing import Any

from shared.kernel import secrets, settings
from shared.logins.model import Client, GitHubClient, OidcClient, ProviderNotConfigured

_KNOWN = frozenset({"google", "github"})
_GOOGLE_ISSUER = "https://accounts.google.com"
# What a test server stands in for.
_GITHUB = {
    "authorize_url": "https://github.com/login/oauth/authorize",
    "token_url": "https://github.com/login/oauth/access_token",
    "api_url": "https://api.github.com",
}


def client_of(provider: str) -> Client:
    """Return how Google or GitHub knows us; raise `ProviderNotConfigured`."""
    match provider, _configured().get(provider) if provider in _KNOWN else None:
        case "google", {"client_id": str(client_id), "client_secret": str(client_secret), **rest}:
            return OidcClient(str(rest.get("issuer", _GOOGLE_ISSUER)), client_id, client_secret)
        case "github", {"client_id": str(client_id), "client_secret": str(client_secret), **rest}:
            urls = {name: str(rest.get(name, url)) for name, url in _GITHUB.items()}
            return GitHubClient(client_id, client_secret, **urls)
        case _:
            raise ProviderNotConfigured("Sign-in with this provider is not set up here.", param="provider")


def _configured() -> Mapping[str, Any]:
    # What a new deployment's secret holds is a random text: nothing is configured yet.
    try:
        found = json.loads(secrets.read(settings.logins().clients_secret_arn))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
