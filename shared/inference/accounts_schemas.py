"""Public JSON of the providers that orgs set up. No answer holds a key."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field

from shared.inference.accounts_model import Account
from shared.inference.config import ProviderKind
from shared.inference.policy import BreakerState, Health
from shared.inference.schemas import CHAT_PARAMETERS
from shared.kernel.fields import Input, Output, ProviderId

ApiKey = Annotated[
    str,
    # What can stand in an HTTP header.
    Field(pattern=r"^[!-~]{1,4096}$", description="Stored apart and never shown again.", examples=["sk-example"]),
]
Models = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]],
    Field(
        max_length=500, description="Those that are found here by their plain names; all others by `provider/model`."
    ),
]


def _beyond_openai(names: list[str]) -> list[str]:
    if known := CHAT_PARAMETERS & set(names):
        raise ValueError(f"every provider is given {min(known)}; list what OpenAI's API has none of.")
    return names


Parameters = Annotated[
    list[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]],
    Field(
        max_length=50,
        description="Parameters that requests may carry to it, as they are, although OpenAI's API has none of them.",
        examples=[["top_k", "chat_template_kwargs"]],
    ),
    AfterValidator(_beyond_openai),
]


class CreateProvider(Input):
    name: Annotated[
        str, Field(pattern=r"^[a-z0-9-]{1,32}$", description="1 to 32 of a-z, 0-9 and -.", examples=["openai"])
    ]
    kind: Annotated[
        ProviderKind,
        Field(
            description="Which language it speaks; `openai` is anything compatible. Bedrock is for the operator alone."
        ),
    ]
    base_url: Annotated[
        str,
        Field(
            max_length=500,
            description="By https at a public address. Anthropic's own when left out with `anthropic`.",
            examples=["https://api.openai.com/v1"],
        ),
    ] = ""
    region: Annotated[str, Field(pattern=r"^([a-z]{2}(-[a-z]+)+-\d{1,2})?$", description="With `bedrock`.")] = ""
    models: Models = []
    parameters: Parameters = []
    enabled: bool = True
    api_key: Annotated[ApiKey | None, Field(description="None for servers that take no key.")] = None


class UpdateProvider(Input):
    """What is left out stays as it is. Its address stays for good: a key is sent nowhere but where it was meant for."""

    models: Models | None = None
    parameters: Parameters | None = None
    enabled: bool | None = None


class RotateProvider(Input):
    api_key: ApiKey


class ProviderOut(Output):
    id: ProviderId
    object: Literal["provider"] = "provider"
    name: str
    kind: ProviderKind
    base_url: str
    region: str
    models: list[str]
    parameters: list[str]
    enabled: bool
    key_hint: str = Field(description="The last four characters of its key, if it is long enough.", examples=["f3Qa"])
    created_by: str = Field(examples=["user_01h455vb4pex5vsknk084sn02q"])
    created_at: datetime
    updated_at: datetime
    rotated_at: datetime | None = Field(description="When its key was last stored; null: it has none.")

    @classmethod
    def of(cls, account: Account) -> Self:
        return cls(
            id=account.id,
            name=account.name,
            kind=account.kind,
            base_url=account.base_url,
            region=account.region,
            models=list(account.models),
            parameters=list(account.parameters),
            enabled=account.enabled,
            key_hint=account.key_hint,
            created_by=account.created_by,
            created_at=account.created_at,
            updated_at=account.updated_at,
            rotated_at=account.rotated_at,
        )


class ProviderCheckOut(Output):
    """Whether the provider answers with the key that is stored."""

    object: Literal["provider_check"] = "provider_check"
    ok: bool
    error: str | None = Field(description="The code of what is wrong.", examples=["provider_misconfigured"])
    message: str | None
    models: list[str] = Field(description="What it says it has: a thousand of them at most.")


class ModelHealthOut(Output):
    """How a model at a provider has lately done, as all workers together saw it."""

    model: str
    provider: str
    breaker: BreakerState = Field(description="`open`: it failed several times in a row and isn't asked for a moment.")
    error_rate: float | None = Field(description="From 0 to 1; null while nothing is known.")
    latency_ms: int | None = Field(description="The median.")
    first_token_ms: int | None = Field(description="The median.")
    retry_in_s: float

    @classmethod
    def of(cls, model: str, provider: str, health: Health) -> Self:
        return cls(
            model=model,
            provider=provider,
            breaker=health.breaker,
            error_rate=health.error_rate,
            latency_ms=health.latency_ms,
            first_token_ms=health.first_token_ms,
            retry_in_s=health.retry_in_s,
        )


class HealthOut(Output):
    object: Literal["inference_health"] = "inference_health"
    data: list[ModelHealthOut]
