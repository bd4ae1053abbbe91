"""Public JSON of an org's settings of the gateway, and of its recorded calls."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from shared.inference.calls import CacheStatus, Call, Operation, Outcome
from shared.inference.config import Settings
from shared.kernel.fields import CallId, Input, Output

type PersonalData = Literal["email", "api_key", "iban", "card", "phone"]


class InferenceSettings(Input):
    """The settings as a whole: what is left out takes its default."""

    cache_ttl_s: Annotated[
        int, Field(ge=0, le=86_400, description="For how long equal requests have one answer; 0: each its own.")
    ] = Settings().cache_ttl_s
    record_content: Annotated[bool, Field(description="Whether prompts and answers are recorded.")] = False
    content_retention_days: Annotated[
        int, Field(ge=1, le=365, description="After so many days recorded prompts and answers are forgotten.")
    ] = Settings().content_retention_days
    redact: Annotated[
        list[PersonalData],
        Field(
            max_length=5,
            description="What is struck out of prompts and answers before they are recorded, where patterns find it.",
            examples=[["email", "phone"]],
        ),
    ] = []

    def to_model(self) -> Settings:
        return Settings(
            cache_ttl_s=self.cache_ttl_s,
            record_content=self.record_content,
            content_retention_days=self.content_retention_days,
            redact=frozenset(self.redact),
        )


class InferenceSettingsOut(Output):
    object: Literal["inference_settings"] = "inference_settings"
    cache_ttl_s: int
    record_content: bool
    content_retention_days: int
    redact: list[str]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            cache_ttl_s=settings.cache_ttl_s,
            record_content=settings.record_content,
            content_retention_days=settings.content_retention_days,
            redact=sorted(settings.redact),
        )


class CallTokens(Output):
    """As the provider bills them: `input` includes `cached` and `written`, `output` includes `reasoning`."""

    input: int
    cached: int = Field(description="Read from the provider's cache.")
    written: int = Field(description="Put into the provider's cache.")
    output: int
    reasoning: int


class CallOut(Output):
    """A recorded call to a model."""

    id: CallId
    object: Literal["model_call"] = "model_call"
    operation: Operation
    model: str = Field(description="The one that answered.")
    provider: str
    route: str = Field(description="The route by which it was chosen; empty: it was asked for by its own name.")
    outcome: Outcome
    error: str | None = Field(description="The code of what went wrong.")
    cache: CacheStatus
    tokens: CallTokens
    estimated: bool = Field(description="Whether the tokens are our own count, the provider's being unknown.")
    cost_microusd: int
    streamed: bool
    attempts: int
    queue_ms: int = Field(description="Until the provider was asked.")
    latency_ms: int = Field(description="For how long the provider took.")
    first_token_ms: int | None = Field(description="From asking it to its first token.")
    finish_reason: str | None
    request_id: str
    run_id: str
    agent_id: str
    person_id: str
    key_id: str
    created_at: datetime

    @classmethod
    def of(cls, call: Call) -> Self:
        return cls(**_facts(call))


class CallWithContentOut(CallOut):
    """A recorded call with what was asked and answered, where the org has that recorded and it is still kept."""

    prompt: dict[str, Any] | None
    answer: dict[str, Any] | None

    @classmethod
    def of(cls, call: Call) -> Self:
        recorded = call.prompt is not None
        return cls(
            **_facts(call),
            prompt=dict(call.prompt or {}) if recorded else None,
            # Some answers are kept for a while to be given again: that makes them no record.
            answer=dict(call.answer) if recorded and call.answer else None,
        )


def _facts(call: Call) -> dict[str, Any]:
    tokens = call.tokens
    return {
        "id": call.id,
        "operation": call.operation,
        "model": call.model,
        "provider": call.provider,
        "route": call.route,
        "outcome": call.outcome,
        "error": call.error_code,
        "cache": call.cache,
        "tokens": CallTokens(
            input=tokens.input,
            cached=tokens.cached,
            written=tokens.written,
            output=tokens.output,
            reasoning=tokens.reasoning,
        ),
        "estimated": call.estimated,
        "cost_microusd": call.cost_microusd,
        "streamed": call.streamed,
        "attempts": call.attempts,
        "queue_ms": call.queue_ms,
        "latency_ms": call.latency_ms,
        "first_token_ms": call.first_token_ms,
        "finish_reason": call.finish_reason,
        "request_id": call.request_id,
        "run_id": call.run_id,
        "agent_id": call.attribution.agent_id,
        "person_id": call.attribution.person_id,
        "key_id": call.attribution.key_id,
        "created_at": call.created_at,
    }
