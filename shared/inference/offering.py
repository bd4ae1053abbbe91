"""Which models an org may ask by name: the platform's that have a price, its own routes, its own providers'."""

from typing import Any

from shared.inference import configuring, targets
from shared.inference.config import OrgConfig, ProviderAccount
from shared.inference.providers import keys
from shared.inference.providers import of as provider_of
from shared.kernel.caller import Caller

_TIMEOUT_S = 10.0


async def models(caller: Caller) -> list[dict[str, Any]]:
    """Return the models in OpenAI's format, each once; raise what the platform's default provider fails with."""
    config = await configuring.of(caller)
    listed = await _served_by_default()
    found = {model["id"]: model for model in listed if targets.has_price(config, model["id"])}
    for account in config.platform:
        for name in sorted(account.models):
            if targets.has_price(config, name):
                found.setdefault(name, _entry(name, account.name))
    for name in sorted(config.routes):
        found[name] = _entry(name, "route")
    for account in _own(config):
        for name in sorted(account.models):
            found[f"{account.name}/{name}"] = _entry(f"{account.name}/{name}", account.name)
    return list(found.values())


async def _served_by_default() -> list[dict[str, Any]]:
    target = targets.default_target()
    key = await keys.read(target.account.secret_arn)
    return await provider_of(target.account.kind).models(target, key, timeout_s=_TIMEOUT_S)


def _own(config: OrgConfig) -> list[ProviderAccount]:
    return sorted((one for one in config.providers.values() if one.own), key=lambda account: account.name)


def _entry(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
