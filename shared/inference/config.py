"""What an org has set up for its calls: routes, providers, prices, settings. Kept for seconds in each worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.billing.service import TokenPrice
from shared.inference.policy import Route


class ProviderKind(StrEnum):
    """Which language a provider speaks. `OPENAI` is anything compatible: Azure, Ollama, vLLM, OpenRouter, …"""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    BEDROCK = "bedrock"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAccount:
    """A provider and the account to ask it with. `own`: the tenant's, whose tokens the platform doesn't charge.

    `secret_arn` is where its key is; empty for Bedrock under the platform's own role, and for servers without keys.
    `models` are those that a plain model name finds here. `parameters` are those that it may be given although OpenAI
    has none of that name. `owner` is the org whose it is, of a tenant's own.
    """

    name: str
    kind: ProviderKind
    base_url: str = ""
    region: str = ""
    secret_arn: str = ""
    models: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    own: bool = False
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One candidate made concrete: the provider to ask, its name of the model, and what its tokens cost here."""

    account: ProviderAccount
    # As the provider calls it.
    model: str
    # As it is priced, recorded and answered.
    shown_as: str
    price: TokenPrice
    timeout_s: float | None = None
    first_token_s: float | None = None

    @property
    def key(self) -> str:
        """Names the pair of provider and model whose health is kept together."""
        # Nobody's failures may suspend another's provider that happens to have the same name.
        account = self.account
        return f"{account.owner or account.secret_arn if account.own else ''}:{account.name}:{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`cache_ttl_s` 0: answers are not cached. Prompts and answers are recorded only with `record_content`."""

    cache_ttl_s: int = 300
    record_content: bool = False
    content_retention_days: int = 30
    # Kinds of personal data that are struck out before recording, by the names of redaction.py.
    redact: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgPrice:
    """What a tenant pays for a model from a moment on; None: as the price book says again."""

    model: str
    effective_from: datetime
    price: TokenPrice | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgConfig:
    """All of it, as of a few seconds ago. Prices are exact nevertheless: they are set ahead of when they hold."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    # Its own by name, and the platform's.
    providers: Mapping[str, ProviderAccount] = field(default_factory=dict)
    platform: Sequence[ProviderAccount] = ()
    # The latest first.
    prices: Sequence[OrgPrice] = ()
    settings: Settings = Settings()
