"""What stands before every request: the authorizer's handler in process, on real PostgreSQL, with its floors.

Keys and tokens are measured in turn with a bare GET of Redis and a bare SELECT by an index, each over one connection
that is open already, so that whatever else the machine does meets all of them alike. `cold` has forgotten the public
keys and reads them again; the connections, and joserfc, stay. Hostile tokens are those that get furthest.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, LiteralString

import psycopg
from aws_lambda_powertools.utilities.typing import LambdaContext
from redis import Redis

from bench import imports, results
from bench.in_process import Platform, platform
from bench.results import Cell, Result, percentile, rounded
from functions import authorizer
from shared.identity import service as identity
from shared.identity.model import KeySecret
from shared.kernel import clock, db, ids, settings
from shared.tokens import jwt
from shared.tokens import service as tokens
from shared.tokens import store as signing_keys
from shared.tokens.model import SigningKey, claims_for
from tests.signed_in import Person, sign_in

# So many that an index is worth its while, as in earnest.
_KEYS: LiteralString = """
    INSERT INTO api_keys (id, org_id, name, hint, secret_sha256, role, scopes)
    SELECT gen_random_uuid(), %(org_id)s, 'Bench', '', sha256(('bench' || n)::bytea), 'api', '{}'
      FROM generate_series(1, 20000) n
"""
_SESSIONS: LiteralString = """
    INSERT INTO sessions (id, user_id, org_id, method, ip, user_agent, expires_at)
    SELECT gen_random_uuid(), %(user_id)s, %(org_id)s, 'password', '', '', now() + interval '1 day'
      FROM generate_series(1, 20000)
"""
_TENANT: LiteralString = "SELECT set_config('app.current_org_id', %s, false)"
_SELECT: LiteralString = "SELECT id FROM api_keys WHERE secret_sha256 = %s"
_WARM_UP = 20


def main(arguments: Sequence[str]) -> None:
    options = _parser().parse_args(arguments)
    with platform() as running, _cases(running) as cases:
        times = _measure(cases, options.iterations)
    imported = imports.row("functions.authorizer", options.repetitions)
    rows: list[dict[str, Cell]] = [
        {"case": name, "p50_ms": rounded(median(each)), "p95_ms": rounded(percentile(each, 95)), "asked": len(each)}
        for name, each in times.items()
    ]
    p50 = {str(row["case"]): row["p50_ms"] for row in rows}
    p95 = {str(row["case"]): row["p95_ms"] for row in rows}
    hostile = [float(value or 0) for name, value in p50.items() if name.startswith("hostile")]
    headline: dict[str, Cell] = {
        **{f"{name}_p50_ms": p50[name] for name in ("key", "token_warm", "token_cold", "redis_get", "select")},
        "import_ms": imported["import_ms"],
    }
    figures = headline | {f"{name}_p95_ms": p95[name] for name in ("key", "token_warm", "token_cold")}
    figures |= {"hostile_p50_ms": rounded(max(hostile)), "import_modules": imported["modules"]}
    command = results.command_line("authorizer", arguments)
    Result(bench="authorizer", figures=figures, rows=rows, command=command).save(options.results)
    for row in rows:
        print(f"{row['case']:<28} p50 {row['p50_ms']:>7} ms   p95 {row['p95_ms']:>7} ms")
    print("authorizer: " + " ".join(f"{name}={value}" for name, value in headline.items()))


def _measure(cases: dict[str, Callable[[], object]], iterations: int) -> dict[str, list[float]]:
    """Return the milliseconds of each case, all of them asked in turn."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(_WARM_UP + iterations):
        for name, case in cases.items():
            if name == "token_cold":
                tokens.forget()
            began = time.perf_counter()
            case()
            if number >= _WARM_UP:
                times[name].append((time.perf_counter() - began) * 1000)
    return times


@contextmanager
def _cases(running: Platform) -> Iterator[dict[str, Callable[[], object]]]:
    with db.tenant(running.tenant) as tx:
        key = identity.create_key(tx, running.tenant, name="Bench", scopes=None, expires_at=None, metadata={})[1]
        tx.execute(_KEYS, {"org_id": running.tenant.org_id})
    person = sign_in(running.tenant)
    with db.person(person.user_id) as tx:
        tx.execute(_SESSIONS, {"user_id": person.user_id, "org_id": person.org_id})
    _analyze()
    pair = _signing_key()
    token = _token(person, pair)
    with (
        psycopg.connect(running.database_url, autocommit=True) as bare,
        Redis.from_url(settings.redis_url()) as cache,
    ):
        bare.execute(_TENANT, (str(running.tenant.org_id),))
        cache.set("bench", b"x" * 200)
        yield {
            "redis_get": lambda: cache.get("bench"),
            "select": _bare_select(bare, key),
            "key": lambda: _admit(f"Bearer {key.text}"),
            "token_warm": lambda: _admit(f"Bearer {token}"),
            "token_cold": lambda: _admit(f"Bearer {token}"),
            **{f"hostile: {name}": _refused(header) for name, header in _hostile(token, person, pair).items()},
        }


def _analyze() -> None:
    """Collect the statistics that autovacuum would have collected a minute from now."""
    with psycopg.connect(settings.schema_owner().url, autocommit=True) as owner:
        owner.execute("ANALYZE api_keys, sessions")


def _signing_key() -> jwt.Key:
    """Return a key that the database knows; its private half needs no KMS to be used here."""
    pair = jwt.generate()
    key = SigningKey.starting(clock.now(), kid=jwt.kid(pair), public_jwk=jwt.public_jwk(pair))
    with db.anonymous() as tx:
        signing_keys.insert_key(tx, key, private_wrapped=b"")
    return pair


def _token(person: Person, pair: jwt.Key) -> str:
    claims = claims_for(
        issuer=settings.public_url(),
        user_id=person.user_id,
        session_id=person.session_id,
        org_id=person.org_id,
        now=clock.now(),
        token_id=ids.new(),
    )
    return jwt.sign(claims, pair)


def _hostile(token: str, person: Person, pair: jwt.Key) -> dict[str, str]:
    """Return headers by what is wrong with them: from the cheapest to refuse to the dearest."""
    signed, _, signature = token.rpartition(".")
    return {
        "a megabyte": "Bearer " + "x" * 1_000_000,
        "4 KB of dots": "Bearer " + "." * 4000,
        "no header": f"Bearer {'A' * 500}.{'A' * 3000}.AAAA",
        "another's signature": f"Bearer {signed}.{signature[::-1]}",
        "good signature, no session": f"Bearer {_token(Person(ids.new(), ids.new(), person.org_id), pair)}",
    }


def _bare_select(bare: psycopg.Connection[Any], key: KeySecret) -> Callable[[], object]:
    plan = bare.execute("EXPLAIN " + _SELECT, (key.sha256,)).fetchall()
    if not any("secret_sha256" in line and "Index Cond" in line for (line,) in plan):
        raise SystemExit(f"the floor is no look-up by the hash: {plan}")

    def select() -> None:
        if bare.execute(_SELECT, (key.sha256,)).fetchone() is None:
            raise SystemExit("the floor finds nothing")

    return select


def _admit(header: str) -> None:
    if "org_id" not in _asked(header):
        raise SystemExit("the authorizer refuses what is good")


def _refused(header: str) -> Callable[[], object]:
    def refused() -> None:
        if "org_id" in _asked(header):
            raise SystemExit("the authorizer admits what is hostile")

    return refused


def _asked(header: str) -> dict[str, str]:
    context: dict[str, str] = authorizer.handler({"headers": {"authorization": header}}, LambdaContext())["context"]
    return context


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.authorizer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=1000, help="times that each case is asked (default 1000)")
    parser.add_argument("--repetitions", type=int, default=9, help="fresh interpreters for the import (default 9)")
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
