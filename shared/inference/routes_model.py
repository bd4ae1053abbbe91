"""A route is found by its name before any model is: none is called like a model, and it leads to models alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.billing import service as billing
from shared.inference.config import OrgConfig
from shared.inference.policy import Route, Strategy
from shared.kernel import settings
from shared.kernel.errors import Conflict, InvalidRequest

MOST_ROUTES = 200
MOST_CANDIDATES = 16
# As many names as an error can hold and be read.
_MOST_TOLD = 30
# Stands in the price book for models that aren't in it.
_UNLISTED = "unlisted"


class RouteNameTaken(Conflict):
    """The org has another route of this name, or there is a model of this name."""

    code = "route_name_taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoute:
    """A route as it is stored; its version counts its changes."""

    id: UUID
    route: Route
    version: int
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The models that a route can lead to: by their plain names, and any that a provider of the org's own has."""

    models: frozenset[str]
    own_providers: frozenset[str]
    platform_providers: frozenset[str]

    @classmethod
    def of(cls, config: OrgConfig, *, at: datetime) -> "Known":
        # What has no price can't be charged for, and so isn't the platform's to offer.
        priced = billing.prices_at(at).models.keys() - {_UNLISTED} | {settings.default_chat_model()}
        own = [account for account in config.providers.values() if account.own]
        return cls(
            models=frozenset(priced.union(*(account.models for account in own))),
            own_providers=frozenset(account.name for account in own),
            platform_providers=frozenset(account.name for account in config.platform),
        )

    def has(self, name: str) -> bool:
        if name in self.models:
            return True
        provider, slash, model = name.partition("/")
        if not slash or not model:
            return False
        return provider in self.own_providers or (provider in self.platform_providers and model in self.models)

    def told(self) -> str:
        names = [*sorted(self.models), *(f"{each}/…" for each in sorted(self.own_providers | self.platform_providers))]
        return ", ".join(names[:_MOST_TOLD]) + (", …" if len(names) > _MOST_TOLD else "")


def check_route(route: Route, known: Known) -> None:
    """Raise `InvalidRequest` for a policy that can't work, `RouteNameTaken` for a name that means a model."""
    if route.name in known.models:
        raise RouteNameTaken(f"There is a model named {route.name}; a route needs another name.", param="name")
    wanted = [candidate.model for candidate in route.candidates]
    if route.ensemble is not None:
        wanted.append(route.ensemble.judge)
        if route.ensemble.n > len(route.candidates):
            raise InvalidRequest("ensemble.n: more answers than there are candidates.", param="ensemble")
    _check_known(wanted, known)
    if route.strategy is Strategy.WEIGHTED and not any(candidate.weight for candidate in route.candidates):
        raise InvalidRequest("candidates: one at least needs a weight above 0.", param="candidates")
    for candidate in route.candidates:
        least, most = candidate.when.min_input_tokens, candidate.when.max_input_tokens
        if least is not None and most is not None and least > most:
            raise InvalidRequest(f"candidates: {candidate.model} is fit for no number of tokens.", param="candidates")


def _check_known(wanted: Iterable[str], known: Known) -> None:
    unknown = [name for name in dict.fromkeys(wanted) if not known.has(name)]
    if unknown:
        named = ", ".join(repr(name[:100]) for name in unknown[:3])
        raise InvalidRequest(f"No model is named {named}. There are: {known.told()}.", param="candidates")
