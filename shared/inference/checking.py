"""Asks a provider whether it knows us, and tells how models have lately done."""

from dataclasses import dataclass
from uuid import UUID

from shared.billing.service import TokenPrice
from shared.inference import accounts, configuring, targets
from shared.inference.accounts_model import Account
from shared.inference.config import Target
from shared.inference.errors import ProviderRefused
from shared.inference.health import board
from shared.inference.policy import Health
from shared.inference.providers import keys
from shared.inference.providers import of as provider_of
from shared.kernel import secrets
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import ProviderFailed, RunyardError

_TIMEOUT_S = 10.0
_MOST_TOLD = 1_000
# Nothing is asked that costs something.
_FREE = TokenPrice(input_microusd=0, cached_microusd=0, output_microusd=0, source="a check")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a provider has, or why it doesn't tell."""

    models: tuple[str, ...] = ()
    error: RunyardError | None = None


@dataclass(frozen=True, slots=True)
class ModelHealth:
    model: str
    provider: str
    health: Health


def account_to_check(tx: Tx, provider_id: UUID) -> Account:
    """Return the provider; raise `NotFound`, and `ProviderWithoutKey` when its key was never stored."""
    return accounts.get_account(tx, provider_id).changed(enabled=True)


async def check(account: Account, *, own: bool) -> Checked:
    """Ask the provider for its models, with the key as it is stored now."""
    target = Target(account=account.to_ask(own=own), model="", shown_as=account.name, price=_FREE)
    # Whoever has just rotated a key wants to know about that one.
    secrets.forget(account.secret)
    try:
        key = await keys.read(account.secret)
        found = await provider_of(account.kind).models(target, key, timeout_s=_TIMEOUT_S)
    except (ProviderFailed, ProviderRefused) as error:
        return Checked(error=error)
    return Checked(tuple(str(model["id"]) for model in found[:_MOST_TOLD]))


async def health_of_models(caller: Caller) -> list[ModelHealth]:
    """Return how the models of the org's routes, and those that the platform and its own providers list, are doing."""
    config = await configuring.of(caller)
    default = targets.default_target()
    names = dict.fromkeys(
        (
            default.shown_as,
            *(candidate.model for route in config.routes.values() for candidate in route.candidates),
            *(model for account in config.platform for model in sorted(account.models)),
            *(
                f"{each.name}/{model}"
                for each in config.providers.values()
                if each.own
                for model in sorted(each.models)
            ),
        )
    )
    found = {name: target for name in names if (target := targets.find(config, name)) is not None}
    health = await board.read(dict.fromkeys(target.key for target in found.values()))
    return [ModelHealth(name, target.account.name, health[target.key]) for name, target in found.items()]
