"""What a model's name stands for: a route's candidates, or one model, each with its provider and its price."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import urlsplit

from shared.billing import service as billing
from shared.billing.service import TokenPrice
from shared.inference.calls import Operation
from shared.inference.config import OrgConfig, ProviderAccount, ProviderKind, Target
from shared.inference.errors import ModelNotFound
from shared.inference.policy import Candidate, Route
from shared.kernel import clock, settings

# The entry of the price book for the platform's own default models that have none.
UNLISTED_MODEL = "unlisted"
# The tenant pays its own provider itself.
OWN_KEY = TokenPrice(input_microusd=0, cached_microusd=0, output_microusd=0, source="own key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A route and, by candidate's model, whom to ask. A candidate that is offered no more has no target.

    `named`: the tenant wrote the route; else it is the implicit one of a model. Requests with the same `cache_name` may
    share an answer.
    """

    route: Route
    targets: Mapping[str, Target]
    named: bool
    cache_name: str


def resolve(config: OrgConfig, model: str | None, *, operation: Operation) -> Resolved:
    """Return what to ask for this name, None being the default model; raise `ModelNotFound`.

    A name is first looked for among the routes, then as `provider/model`, then as a plain model.
    """
    name = model or _default_model(operation)
    route = config.routes.get(name)
    if route is not None:
        return _routed(config, route)
    found = find(config, name)
    if found is None:
        raise _not_found(name)
    return Resolved(route=_implicit(name), targets={name: found}, named=False, cache_name=name)


def find(config: OrgConfig, name: str) -> Target | None:
    """Return whom to ask for a model by its plain name or as `provider/model`; None when it isn't offered."""
    account_name, slash, model = name.partition("/")
    if slash and model and (account := config.providers.get(account_name)):
        return _at_provider(config, account, model)
    for account in config.providers.values():
        # Listed there by the tenant itself: that is where its calls go.
        if account.own and name in account.models:
            return _at_provider(config, account, name)
    price = _price(config, name)
    if price is None:
        return None
    for account in config.platform:
        if name in account.models:
            return Target(account=account, model=name, shown_as=name, price=price)
    return Target(account=_default_account(), model=name, shown_as=name, price=price)


def prices(config: OrgConfig, model: str | None, *, operation: Operation) -> list[TokenPrice]:
    """Return what the models cost that this name stands for, those asked first in front; raise `ModelNotFound`.

    An ensemble's judge is the last. Unlike `resolve` it asks nothing about where the models are served.
    """
    name = model or _default_model(operation)
    route = config.routes.get(name)
    names = [name] if route is None else [candidate.model for candidate in route.candidates]
    if route is not None and route.ensemble is not None:
        names = [*names[: route.ensemble.n], route.ensemble.judge]
    found = [price for each in names if (price := _price_of(config, each)) is not None]
    if not found:
        raise _not_found(name)
    return found


def _price_of(config: OrgConfig, name: str) -> TokenPrice | None:
    account_name, slash, model = name.partition("/")
    if slash and model and (account := config.providers.get(account_name)):
        return OWN_KEY if account.own else _price(config, model)
    if any(account.own and name in account.models for account in config.providers.values()):
        return OWN_KEY
    return _price(config, name)


def has_price(config: OrgConfig, name: str) -> bool:
    """Return whether the platform can charge for this model: what it can't isn't offered."""
    return _price(config, name) is not None


def default_target() -> Target:
    """Return the platform's default chat model at its default endpoint."""
    name = settings.default_chat_model()
    return Target(account=_default_account(), model=name, shown_as=name, price=price_of(name))


def price_of(name: str, *, at: datetime | None = None) -> TokenPrice:
    """Return what a model of the platform costs by the price book, by default now; raise `ModelNotFound`."""
    found = _book_price(name, at or clock.now())
    if found is None:
        raise _not_found(name)
    return found


def _routed(config: OrgConfig, route: Route) -> Resolved:
    targets: dict[str, Target] = {}
    for candidate in route.candidates:
        if candidate.model not in targets and (target := find(config, candidate.model)):
            targets[candidate.model] = target
    if not targets:
        raise ModelNotFound(
            f"None of the models of the route {route.name!r} is offered any more; change the route.", param="model"
        )
    # Another choice of models may answer otherwise: what the former one said isn't its answer.
    cache_name = "\n".join(("route", route.name, *targets))
    return Resolved(route=route, targets=targets, named=True, cache_name=cache_name)


def _at_provider(config: OrgConfig, account: ProviderAccount, model: str) -> Target | None:
    if account.own:
        return Target(account=account, model=model, shown_as=f"{account.name}/{model}", price=OWN_KEY)
    price = _price(config, model)
    return None if price is None else Target(account=account, model=model, shown_as=model, price=price)


def _price(config: OrgConfig, name: str) -> TokenPrice | None:
    now = clock.now()
    for each in config.prices:
        if each.model == name and each.effective_from <= now:
            if each.price is not None:
                return each.price
            break
    return _book_price(name, now)


def _book_price(name: str, at: datetime) -> TokenPrice | None:
    prices = billing.prices_at(at).models
    found = prices.get(name)
    if found is None and name in (settings.default_chat_model(), settings.default_embedding_model()):
        # The operator set up a model that the book doesn't list, say a local one: it has the price for such.
        return prices.get(UNLISTED_MODEL)
    return None if name == UNLISTED_MODEL else found


def _default_model(operation: Operation) -> str:
    return settings.default_chat_model() if operation is Operation.CHAT else settings.default_embedding_model()


def _default_account() -> ProviderAccount:
    endpoint = settings.model()
    return _account(endpoint.base_url, endpoint.api_key_secret_arn)


@lru_cache(maxsize=8)
def _account(base_url: str, secret_arn: str) -> ProviderAccount:
    name = urlsplit(base_url).hostname or "unknown"
    return ProviderAccount(name=name, kind=ProviderKind.OPENAI, base_url=base_url, secret_arn=secret_arn)


@lru_cache(maxsize=1_024)
def _implicit(name: str) -> Route:
    return Route(name=name, candidates=(Candidate(model=name),))


def _not_found(name: str) -> ModelNotFound:
    return ModelNotFound(
        f"No model or route named {name[:100]!r} is offered; GET /v1/models tells which are.", param="model"
    )
