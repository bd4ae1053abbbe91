"""Advice on spending less: what the last weeks' use would have cost, done another way, at today's prices."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared.billing.prices import TOKENS, PriceVersion, TokenPrice
from shared.billing.pricing import prices_at
from shared.kernel.db import Tx
from shared.kernel.money import price, show_usd
from shared.usage import days as usage
from shared.usage.days_model import Dimension
from shared.usage.model import UsageKind

ADVICE_DAYS = 30
# Below this share of cached input, prompts are probably not laid out for the provider's cache.
_FEW_CACHED_PERCENT = 20
# What a conversation that begins the same each time gets to without effort.
_WELL_CACHED_PERCENT = 50
# Some idle time is in the nature of a sandbox: it waits while somebody thinks.
_IDLE_PERCENT = 20


class AdviceKind(StrEnum):
    """What to do otherwise."""

    CHEAPER_MODEL = "cheaper_model"
    PROMPT_CACHING = "prompt_caching"
    IDLE_SANDBOXES = "idle_sandboxes"


@dataclass(frozen=True, slots=True)
class Advice:
    """`subject` is the model or `sandboxes`; `basis` tells from what `saves_microusd` was worked out."""

    kind: AdviceKind
    subject: str
    what: str
    saves_microusd: int
    basis: str


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """All tokens of a model; `fresh` input is what the cache didn't have."""

    model: str
    fresh: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0

    @property
    def input(self) -> int:
        return self.fresh + self.cached + self.written

    def cost(self, model: TokenPrice) -> int:
        """Return what these tokens cost at the price of a model."""
        found = model.cost(
            input_tokens=self.input,
            cached_tokens=self.cached,
            written_tokens=self.written,
            output_tokens=self.output,
        )
        return found.total_microusd


@dataclass(frozen=True, slots=True)
class SandboxTime:
    """What ended sandboxes were paid for, and for how long of that a command ran in them."""

    sandboxes: int
    paid_s: int
    busy_s: int
    cost_microusd: int


def advise(prices: PriceVersion, tokens: Sequence[TokensUsed], sandboxes: SandboxTime) -> list[Advice]:
    """Return what would save something, the most first; nothing when there is nothing to save."""
    found = [*_cheaper_models(prices, tokens), *_caching(prices, tokens), *_idle_sandboxes(sandboxes)]
    return sorted(
        (advice for advice in found if advice.saves_microusd > 0),
        key=lambda advice: (-advice.saves_microusd, advice.kind, advice.subject),
    )


def advice_of(tx: Tx, sandboxes: SandboxTime, now: datetime) -> list[Advice]:
    """Return the tenant's advice from the last 30 days; `sandboxes` are those that were started in them."""
    today = now.astimezone(UTC).date()
    used = usage.daily(tx, today - timedelta(days=ADVICE_DAYS - 1), today, group_by=frozenset({Dimension.MODEL}))
    amounts: dict[str, dict[UsageKind, int]] = {}
    for each in used:
        by_kind = amounts.setdefault(each.model, {})
        by_kind[each.kind] = by_kind.get(each.kind, 0) + each.quantity
    tokens = [
        TokensUsed(
            model,
            fresh=by_kind.get(UsageKind.TOKENS_INPUT, 0),
            cached=by_kind.get(UsageKind.TOKENS_CACHED, 0),
            written=by_kind.get(UsageKind.TOKENS_CACHE_WRITTEN, 0),
            output=by_kind.get(UsageKind.TOKENS_OUTPUT, 0),
        )
        for model, by_kind in amounts.items()
        if model
    ]
    return advise(prices_at(now), tokens, sandboxes)


def _cheaper_models(prices: PriceVersion, tokens: Iterable[TokensUsed]) -> Iterator[Advice]:
    """Yield, for each model, the next cheaper one of its family: the smallest step down in quality, probably."""
    for used in tokens:
        model = prices.models.get(used.model)
        if model is None or not model.family:
            continue
        paid = used.cost(model)
        cheaper = [
            (cost, name)
            for name, other in prices.models.items()
            if other.family == model.family and (cost := used.cost(other)) < paid
        ]
        if cheaper:
            cost, name = max(cheaper)
            yield Advice(
                kind=AdviceKind.CHEAPER_MODEL,
                subject=used.model,
                what=f"Try {name} where you use {used.model}. Quality isn't compared here, as there is no feedback on "
                "answers yet: judge some answers yourself first.",
                saves_microusd=paid - cost,
                basis=f"The {used.input} input tokens ({used.cached} of them cached) and {used.output} output tokens "
                f"of {ADVICE_DAYS} days would cost {show_usd(cost)} instead of {show_usd(paid)}, at "
                "today's prices.",
            )


def _caching(prices: PriceVersion, tokens: Iterable[TokensUsed]) -> Iterator[Advice]:
    for used in tokens:
        model = prices.models.get(used.model)
        if model is None or model.cached_microusd >= model.input_microusd:
            continue
        if used.cached * 100 < used.input * _FEW_CACHED_PERCENT:
            more = used.input * _WELL_CACHED_PERCENT // 100 - used.cached
            yield Advice(
                kind=AdviceKind.PROMPT_CACHING,
                subject=used.model,
                what=f"Let prompts to {used.model} begin with what stays the same (instructions, tools, documents) and "
                "end with what changes: the provider then reads the beginning from its cache.",
                saves_microusd=price(more, microusd=model.input_microusd - model.cached_microusd, per=TOKENS),
                basis=f"{used.cached} of the {used.input} input tokens of {ADVICE_DAYS} days were cached. Were "
                f"it {_WELL_CACHED_PERCENT} %, {more} more would cost {show_usd(model.cached_microusd)} instead of "
                f"{show_usd(model.input_microusd)} for a million at today's prices.",
            )


def _idle_sandboxes(time: SandboxTime) -> Iterator[Advice]:
    idle_s = time.paid_s - time.busy_s
    if idle_s * 100 > time.paid_s * _IDLE_PERCENT:
        yield Advice(
            kind=AdviceKind.IDLE_SANDBOXES,
            subject="sandboxes",
            what="Stop sandboxes when their last command has ended, and start them with a shorter `ttl_s`.",
            saves_microusd=price(idle_s, microusd=time.cost_microusd, per=time.paid_s),
            basis=f"Sandboxes of {ADVICE_DAYS} days that have ended ({time.sandboxes}) were paid for {time.paid_s} s "
            f"and no command ran in them for {idle_s} s of that. This is the most to be saved: some waiting is needed.",
        )
