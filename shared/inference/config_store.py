"""SQL that reads all that an org has set up, and a route's policy as JSON."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, LiteralString

from pydantic import TypeAdapter

from shared.billing import service as billing
from shared.identity.model import OPERATOR_ORG_ID
from shared.inference.config import OrgConfig, OrgPrice, ProviderAccount, ProviderKind, Settings
from shared.inference.policy import Route
from shared.kernel.caller import Caller
from shared.kernel.db import Row, Tx

ROUTES: LiteralString = "SELECT name, policy FROM inference_routes"
PROVIDERS: LiteralString = """
    SELECT name, kind, base_url, region, models, parameters, secret_arn FROM inference_providers WHERE enabled
"""
PLATFORM: LiteralString = """
    SELECT name, kind, base_url, region, models, parameters, secret_arn FROM platform_providers() ORDER BY id
"""
SETTINGS: LiteralString = """
    SELECT cache_ttl_s, record_content, content_retention_days, redact FROM inference_settings
"""
SET_SETTINGS: LiteralString = """
    INSERT INTO inference_settings (org_id, cache_ttl_s, record_content, content_retention_days, redact, updated_at)
    VALUES (current_setting('app.current_org_id')::uuid, %(cache_ttl_s)s, %(record_content)s,
            %(content_retention_days)s, %(redact)s, now())
    ON CONFLICT (org_id) DO UPDATE
       SET cache_ttl_s = excluded.cache_ttl_s, record_content = excluded.record_content,
           content_retention_days = excluded.content_retention_days, redact = excluded.redact, updated_at = now()
"""


def load(tx: Tx, caller: Caller) -> OrgConfig:
    """Return all that the caller's org has set up, and the platform's providers."""
    with tx.pipeline():
        routes, providers, platform, stored = (tx.execute(query) for query in (ROUTES, PROVIDERS, PLATFORM, SETTINGS))
    shared = [account(row) for row in platform]
    # The operator's own are the platform's: its calls are priced like everybody's.
    own = [] if caller.org_id == OPERATOR_ORG_ID else [account(row, owner=str(caller.org_id)) for row in providers]
    found = stored.fetchone()
    return OrgConfig(
        routes={row["name"]: route_of(row["name"], row["policy"]) for row in routes},
        providers={each.name: each for each in (*shared, *own)},
        platform=tuple(shared),
        prices=tuple(
            OrgPrice(model=each.model, effective_from=each.effective_from, price=each.price)
            for each in billing.org_prices_from_now_on(tx)
        ),
        settings=Settings() if found is None else _settings(found),
    )


def settings(tx: Tx) -> Settings:
    """Return the org's settings, the defaults where it never set any."""
    row = tx.execute(SETTINGS).fetchone()
    return Settings() if row is None else _settings(row)


def set_settings(tx: Tx, given: Settings) -> None:
    tx.execute(SET_SETTINGS, to_json(given))


def to_json(given: Settings) -> dict[str, Any]:
    return {
        "cache_ttl_s": given.cache_ttl_s,
        "record_content": given.record_content,
        "content_retention_days": given.content_retention_days,
        "redact": sorted(given.redact),
    }


def account(row: Row, *, owner: str = "") -> ProviderAccount:
    return ProviderAccount(
        name=row["name"],
        kind=ProviderKind(row["kind"]),
        base_url=row["base_url"],
        region=row["region"],
        secret_arn=row["secret_arn"],
        models=frozenset(row["models"]),
        parameters=frozenset(row["parameters"]),
        own=bool(owner),
        owner=owner,
    )


def _settings(row: Row) -> Settings:
    return Settings(
        cache_ttl_s=row["cache_ttl_s"],
        record_content=row["record_content"],
        content_retention_days=row["content_retention_days"],
        redact=frozenset(row["redact"]),
    )


def policy_of(route: Route) -> dict[str, Any]:
    """Return the route's policy as it is stored: without its name, sets sorted."""
    policy: dict[str, Any] = _routes().dump_python(route, mode="json", exclude={"name"})
    policy["fall_back_on"].sort()
    for candidate in policy["candidates"]:
        candidate["when"]["tasks"].sort()
    return policy


def route_of(name: str, policy: Mapping[str, Any]) -> Route:
    """Return what `policy_of` made of a route."""
    found = _routes().validate_python({**policy, "name": name})
    return replace(found, candidates=tuple(found.candidates))


@cache
def _routes() -> TypeAdapter[Route]:
    return TypeAdapter(Route)
