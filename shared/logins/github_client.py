"""GitHub: OAuth 2.0 without an ID token; who signed in and their addresses are asked of its API."""

from typing import Any, Final

from shared.logins import oidc_client
from shared.logins.model import Claims, GitHubClient, IdentityProviderFailed, readable_name

ISSUER: Final = "https://github.com"
_SCOPE: Final = "read:user user:email"


def authorization_url(client: GitHubClient, *, redirect_uri: str, state: str, verifier: str) -> str:
    """Return where the browser goes to sign in."""
    return oidc_client.grant_url(
        client.authorize_url,
        client_id=client.client_id,
        redirect_uri=redirect_uri,
        scope=_SCOPE,
        state=state,
        verifier=verifier,
    )


def claims(client: GitHubClient, *, code: str, redirect_uri: str, verifier: str) -> Claims:
    """Redeem the code and return who signed in, with their primary address; raise `CodeRefused`."""
    tokens = oidc_client.redeem(
        client.token_url,
        client_id=client.client_id,
        client_secret=client.client_secret,
        code=code,
        redirect_uri=redirect_uri,
        verifier=verifier,
        method="client_secret_post",
    )
    person = _ask(client, "/user", tokens)
    if not isinstance(person, dict) or type(person.get("id")) is not int:
        raise IdentityProviderFailed("GitHub does not say who signed in.")
    listed = _ask(client, "/user/emails", tokens)
    email, verified = _primary(listed if isinstance(listed, list) else [])
    return Claims(
        issuer=ISSUER,
        # The number stays when somebody else takes over the name.
        subject=str(person["id"]),
        email=email,
        email_verified=verified,
        name=readable_name(person.get("name") or person.get("login"), email),
        everything={},
    )


def _ask(client: GitHubClient, path: str, tokens: dict[str, Any]) -> Any:
    from shared.logins import guarded_http

    headers = {"Authorization": f"Bearer {tokens['access_token']}", "X-GitHub-Api-Version": "2022-11-28"}
    answer = guarded_http.get(client.api_url.rstrip("/") + path, headers=headers)
    if answer.status != 200:
        raise IdentityProviderFailed(f"GitHub answers with status {answer.status}.")
    return answer.json


def _primary(listed: list[Any]) -> tuple[str | None, bool]:
    for each in listed:
        if isinstance(each, dict) and each.get("primary") is True and isinstance(each.get("email"), str):
            return each["email"], each.get("verified") is True
    return None, False
