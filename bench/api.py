"""In-process latency of the API against the bare SQL in it, and requests per second through a home's front door.

Each request is an API Gateway event handed to the function's handler, with real PostgreSQL and Redis. Its floor is the
very same statements, sent over one bare connection between the requests. Its figures are those of the whole mix of
routes, each asked equally often; sql_ratio is the median over the routes of (p50 of the route / p50 of its floor).
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg

from bench import in_process, results
from bench.homes import customer, home
from bench.load import Load, load
from bench.results import Result, percentile, rounded
from bench.routes import Route, routes
from bench.statements import rehearsal, replay_ms
from tests import api_gateway

_WARM_UP = 10  # requests a route; psycopg prepares a statement at its sixth execution
_LOADED = "/v1/agents?limit=1"


@dataclass(slots=True)
class Timing:
    """What was measured of one route, milliseconds."""

    name: str
    api_ms: list[float] = field(default_factory=list)
    sql_ms: list[float] = field(default_factory=list)
    statements: int = 0

    @property
    def ratio(self) -> float:
        return median(self.api_ms) / median(self.sql_ms)

    def row(self) -> dict[str, results.Cell]:
        return {
            "route": self.name,
            "p50_ms": rounded(median(self.api_ms)),
            "p95_ms": rounded(percentile(self.api_ms, 95)),
            "sql_p50_ms": rounded(median(self.sql_ms)),
            "sql_p95_ms": rounded(percentile(self.sql_ms, 95)),
            "sql_ratio": rounded(self.ratio),
            "statements": self.statements,
        }


def main(arguments: Sequence[str]) -> None:
    options = _parser().parse_args(arguments)
    timings = measure_routes(options.iterations)
    for timing in timings:
        print("  ".join(f"{name}={value}" for name, value in timing.row().items()))
    with _target(options.url, options.key) as (url, key):
        loads = [load(url, key, clients=clients, seconds=options.seconds) for clients in options.clients]
    figures = _figures(timings, loads)
    rows = [timing.row() for timing in timings] + [_row(each) for each in loads]
    command = results.command_line("api", arguments)
    Result(bench="api", figures=figures, rows=rows, command=command).save(options.results)
    shown = {name: figures.get(name, "none") for name in ("p50_ms", "p95_ms", "sql_ratio", "rps_16")}
    print("api: " + " ".join(f"{name}={value}" for name, value in shown.items()))


def measure_routes(iterations: int) -> list[Timing]:
    """Return each route's times; routes and floors take turns, so that a slow moment hits them alike."""
    with (
        in_process.platform() as platform,
        psycopg.connect(platform.database_url, autocommit=True) as bare,
    ):
        measured = [(route, Timing(route.name)) for route in routes(platform)]
        for _ in range(_WARM_UP):
            for route, _ in measured:
                _turn(route, Timing(route.name), bare)
        for _ in range(iterations):
            for route, timing in measured:
                _turn(route, timing, bare)
    return [timing for _, timing in measured]


def _turn(route: Route, timing: Timing, bare: psycopg.Connection) -> None:
    timing.api_ms.append(_ask_ms(route))
    with rehearsal() as tape:
        _ask_ms(route)
    # What comes after it counts the request: a cost of the platform's, not part of the floor.
    while tape and tape[-1].query != "COMMIT":
        tape.pop()
    if not tape:
        raise SystemExit(f"{route.name} sent no COMMIT: there is nothing to compare it with.")
    timing.statements = len(tape)
    timing.sql_ms.append(replay_ms(bare, tape))


def _ask_ms(route: Route) -> float:
    event = api_gateway.request(route.method, route.path, route.caller, json=route.body(), headers=route.headers())
    context = api_gateway.Context()
    began = time.perf_counter()
    answer = route.handler(event, context)
    took_ms = (time.perf_counter() - began) * 1000
    if answer["statusCode"] != route.status:
        raise SystemExit(f"{route.name} answered {answer['statusCode']}: {answer.get('body')}")
    return took_ms


@contextmanager
def _target(url: str | None, key: str | None) -> Iterator[tuple[str, str]]:
    if url is not None:
        yield url.rstrip("/") + _LOADED, key or ""
        return
    with home() as running, customer(running) as api:
        api.post("/v1/agents", {"name": "Bench"})
        yield running.public_url + _LOADED, api.key


def _figures(timings: list[Timing], loads: list[Load]) -> dict[str, results.Cell]:
    everything = [each for timing in timings for each in timing.api_ms]
    figures: dict[str, results.Cell] = {
        "p50_ms": rounded(median(everything)),
        "p95_ms": rounded(percentile(everything, 95)),
        "sql_ratio": rounded(median(timing.ratio for timing in timings)),
    }
    return figures | {f"rps_{each.clients}": rounded(each.requests_per_s) for each in loads}


def _row(measured: Load) -> dict[str, results.Cell]:
    return {
        "route": f"GET {_LOADED}, {measured.clients} clients",
        "p50_ms": rounded(measured.p50_ms),
        "p95_ms": rounded(measured.p95_ms),
        "requests_per_s": rounded(measured.requests_per_s),
        "failures": sum(measured.failures.values()),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.api", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=100, help="requests of each route (default 100)")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 16, 64], help="loads to try (default 1 16 64)")
    parser.add_argument("--seconds", type=float, default=4, help="how long each load lasts (default 4)")
    parser.add_argument("--url", help="front door to load; default: that of RUNYARD_HOME, or of a home of its own")
    parser.add_argument("--key", help="API key for --url")
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
