"""How long a route takes to decide among its candidates, all with conditions, and a name to be resolved."""

import random
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

from bench.results import percentile, rounded
from shared.inference.config import ProviderAccount, ProviderKind, Target
from shared.inference.policy import Candidate, Conditions, Facts, Health, Route, Strategy
from shared.inference.routing import decide
from shared.inference.targets import OWN_KEY

_CANDIDATES = 16
_CALLS = 20_000


def main(arguments: Sequence[str]) -> None:
    if arguments:
        raise SystemExit("bench.routing takes no arguments")
    route, targets, health, facts = _case()
    rng = random.Random(0)
    took = sorted(_took_us(lambda: decide(route, facts, health, targets, rng=rng)) for _ in range(_CALLS))
    print(
        f"routing: decide_p50_us={rounded(median(took))} decide_p99_us={rounded(percentile(took, 99))} "
        f"candidates={_CANDIDATES}"
    )


def _case() -> tuple[Route, dict[str, Target], dict[str, Health], Facts]:
    """Every candidate is fit, and each of its conditions has to be looked at to know."""
    when = Conditions(
        tasks=frozenset({"code", "prose"}),
        min_input_tokens=1,
        max_input_tokens=100_000,
        tools=True,
        images=False,
        max_price_microusd=10_000,
        max_latency_ms=2_000,
    )
    names = [f"model-{number}" for number in range(_CANDIDATES)]
    candidates = tuple(Candidate(model=name, weight=number, when=when) for number, name in enumerate(names, 1))
    account = ProviderAccount(name="provider", kind=ProviderKind.OPENAI)
    targets = {name: Target(account=account, model=name, shown_as=name, price=OWN_KEY) for name in names}
    health = {target.key: Health(error_rate=0.01, latency_ms=900, first_token_ms=300) for target in targets.values()}
    facts = Facts(task="code", input_tokens=1_000, tools=True, prices=dict.fromkeys(names, 500))
    return Route(name="bench", candidates=candidates, strategy=Strategy.WEIGHTED), targets, health, facts


def _took_us(work: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - began) / 1_000


if __name__ == "__main__":
    main(sys.argv[1:])
