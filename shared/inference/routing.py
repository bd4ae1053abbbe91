"""Decides which of a route's candidates are asked, and in which order. Pure: all it goes by is handed in."""

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from shared.inference.config import Target
from shared.inference.errors import NotServed, ProviderSuspended
from shared.inference.policy import BreakerState, Candidate, Facts, Health, Route, Strategy
from shared.kernel.errors import InvalidRequest

_UNKNOWN: Final = Health()
# Of a name that somebody else chose.
_LONGEST_SHOWN: Final = 64
_RANDOM: Final = random.Random()  # noqa: S311 - spreads load, keeps no secret


def decide(
    route: Route,
    facts: Facts,
    health: Mapping[str, Health],
    targets: Mapping[str, Target],
    *,
    rng: random.Random = _RANDOM,
) -> list[Target]:
    """Return whom to ask, in this order, nobody twice. `health` is by `Target.key`, `targets` by candidate's model.

    Raises `NotServed` when no candidate is fit for the request, `InvalidRequest` when none may be given one of its
    parameters, and `ProviderSuspended` when the breakers of all that are fit are open.
    """
    fit: list[tuple[Candidate, Target]] = []
    seen: set[str] = set()
    unfit: list[str] = []
    soonest_s = math.inf
    for candidate in route.candidates:
        target = targets.get(candidate.model)
        if target is None:
            unfit.append(f"{candidate.model} is not offered")
            continue
        if (key := target.key) in seen:
            continue
        known = health.get(key, _UNKNOWN)
        if why := _untaken(target, facts.beyond) or _why_unfit(candidate, facts, known):
            unfit.append(f"{candidate.model} {why}")
            continue
        seen.add(key)
        if known.breaker is BreakerState.OPEN:
            soonest_s = min(soonest_s, known.retry_in_s)
            continue
        fit.append((candidate, target))
    if not fit:
        if soonest_s < math.inf:
            raise suspended(soonest_s)
        check_parameters(targets.values(), facts.beyond)
        raise NotServed(f"No model of {route.name!r} takes this request: {'; '.join(unfit)[:1_000]}.", param="model")
    if route.strategy is Strategy.WEIGHTED and len(fit) > 1:
        fit.insert(0, fit.pop(_drawn([candidate.weight for candidate, _ in fit], rng)))
    return [_limited(target, candidate) for candidate, target in fit]


def check_parameters(targets: Iterable[Target], beyond: frozenset[str]) -> None:
    """Raise `InvalidRequest` for a parameter that none of these may be given."""
    untaken = sorted(beyond.difference(*(target.account.parameters for target in targets)))
    if untaken:
        name = untaken[0][:_LONGEST_SHOWN]
        raise InvalidRequest(
            f"{name}: no such parameter. One that a provider of your own knows is handed to it once the provider's "
            "`parameters` list it.",
            param=name,
        )


def suspended(retry_in_s: float) -> ProviderSuspended:
    return ProviderSuspended(
        "The model provider has just failed several times in a row; try again shortly.",
        retry_after_s=max(1, math.ceil(retry_in_s)),
    )


def _untaken(target: Target, beyond: frozenset[str]) -> str | None:
    untaken = beyond - target.account.parameters if beyond else ()
    return f"isn't given {min(untaken)[:_LONGEST_SHOWN]}" if untaken else None


def _why_unfit(candidate: Candidate, facts: Facts, known: Health) -> str | None:
    when = candidate.when
    if when is _ALWAYS or when == _ALWAYS:
        return None
    return _unfit_content(candidate, facts) or _unfit_figures(candidate, facts, known)


def _unfit_content(candidate: Candidate, facts: Facts) -> str | None:
    when = candidate.when
    if when.tasks and facts.task not in when.tasks:
        return "is for other tasks"
    if when.tools is not None and when.tools is not facts.tools:
        return "is for requests with tools" if when.tools else "is for requests without tools"
    if when.images is not None and when.images is not facts.images:
        return "is for requests with images" if when.images else "is for requests without images"
    if when.min_input_tokens is not None and facts.input_tokens < when.min_input_tokens:
        return f"is for prompts from {when.min_input_tokens} tokens"
    if when.max_input_tokens is not None and facts.input_tokens > when.max_input_tokens:
        return f"is for prompts up to {when.max_input_tokens} tokens"
    return None


def _unfit_figures(candidate: Candidate, facts: Facts, known: Health) -> str | None:
    when = candidate.when
    if when.max_price_microusd is not None and facts.prices.get(candidate.model, 0) > when.max_price_microusd:
        return f"would cost more than {when.max_price_microusd} microusd"
    if when.max_latency_ms is not None and (known.first_token_ms or 0) > when.max_latency_ms:
        return f"takes longer than {when.max_latency_ms} ms just now"
    return None


_ALWAYS: Final = Candidate(model="").when


def _drawn(weights: list[int], rng: random.Random) -> int:
    """Return an index, drawn by weight; the first where nothing has any."""
    left = rng.random() * sum(weights)
    for index, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return index
    return 0


def _limited(target: Target, candidate: Candidate) -> Target:
    if candidate.timeout_s is None and candidate.first_token_s is None:
        return target
    return replace(target, timeout_s=candidate.timeout_s, first_token_s=candidate.first_token_s)
