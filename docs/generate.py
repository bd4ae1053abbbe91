"""Generates what documents the code from the code: the OpenAPI document, the list of errors, the permissions.

`python -m docs.generate` writes them, `python -m docs.generate --check` fails when what is committed differs.
"""

import argparse
import html
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi

import functions.api
import shared
from local.front.errors import ERRORS
from shared.identity.policy import OPERATOR_RULES, POLICY, Reach, Role
from shared.kernel.errors import RunyardError
from shared.kernel.http import STATUS_OF_KIND, create_app

ROOT = Path(__file__).resolve().parents[1]
DESCRIPTION = """Offer AI agents as a service: agents, durable runs, sandboxes, memory, models, credits.

Authenticate with `Authorization: Bearer`, an API key (`ry_live_…`) or the access token of a person who signed in at
`/v1/auth`. Every POST outside `/v1/auth` takes an `Idempotency-Key`. Lists take `limit` and
`cursor`. Errors come as `{"error": {"type", "code", "message", …}}`; `code` is stable."""


def routers() -> dict[str, APIRouter]:
    """Return every API function's router by the function's name."""
    names = [module.name for module in pkgutil.iter_modules(functions.api.__path__)]
    return {name: importlib.import_module(f"functions.api.{name}").router for name in sorted(names)}


def openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the whole API."""
    app = create_app(*routers().values())
    document = get_openapi(
        title="Runyard API", version="1", openapi_version="3.1.0", description=DESCRIPTION, routes=app.routes
    )
    # Malformed requests are answered with 400 in our envelope; FastAPI would document its own 422.
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for schema in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(schema, None)
    document["paths"] = dict(sorted(document["paths"].items()))
    return document


def errors() -> list[type[RunyardError]]:
    """Return every error there is, sorted by code."""
    for module in pkgutil.walk_packages(shared.__path__, "shared."):
        importlib.import_module(module.name)
    found: dict[str, type[RunyardError]] = {}
    pending = RunyardError.__subclasses__()
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        # The most general error with a code describes it.
        found.setdefault(kind.code, kind)
    return [found[code] for code in sorted(found)]


def errors_page() -> str:
    """Return the page that `doc_url` in an error points to, with one anchor for each code."""
    told = {
        error.code: (STATUS_OF_KIND[error.kind], error.kind.value, error.retryable, _first_paragraph(error))
        for error in errors()
    }
    # The front door of a home has two of its own, for when nothing stands behind it.
    for code, (status, kind, message, retryable) in ERRORS.items():
        told.setdefault(code, (status, kind, retryable, message))
    rows = "\n".join(
        f'<tr id="{code}"><td><code>{code}</code></td><td>{status}</td><td><code>{kind}</code></td>'
        f"<td>{'yes' if retryable else 'no'}</td><td>{html.escape(meaning)}</td></tr>"
        for code, (status, kind, retryable, meaning) in sorted(told.items())
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Runyard: errors</title>
<link rel="icon" href="/mark.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
<h1>Errors</h1>
<p>Every error is
<code>{{"error": {{"type", "code", "message", "param", "request_id", "retryable", "doc_url"}}}}</code>.
Programs may rely on <code>code</code>; <code>message</code> is for people.</p>
<table>
<thead><tr><th>code</th><th>status</th><th>type</th><th>retry as it is</th><th>meaning</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</main>
</body>
</html>
"""


def permissions_page() -> str:
    """Return the page of roles, scopes and what they reach, as `shared/identity/policy.py` has them."""
    header = ("scope", *(role.value for role in Role), "API keys", "what it is")
    rows = [
        (f"`{rule.scope}`", *(_REACH[rule.reach(role)] for role in Role), "yes" if rule.keys else "", rule.meaning)
        for rule in POLICY
    ]
    operator = [(f"`{scope}`", meaning) for scope, meaning in OPERATOR_RULES.items()]
    return f"""# Permissions

Who may do what. A scope is `resource:action`; a person's follow from their role in the org, an API key has those it was
given, at most the ones marked. **all**: everything of that kind in the org. **own**: what the person made, what runs on
it, and what was [shared](security.md) with them or a team of theirs. Empty: nothing, and the answer is
`403 insufficient_scope`; what lies beyond **own** does not exist, and the answer is `404 not_found`.

Made from `shared/identity/policy.py` by `make openapi`; `tests/unit/identity/test_policy.py` states it a second time,
and `tests/security` tries every role on every route.

{_table(header, rows)}

Only an owner makes or unmakes an owner; nobody gives a role, or a key a scope, beyond what they may do themselves; an
org keeps at least one owner.

## The operator

The platform's own key has every scope that a key can have, in an org of its own, and these, which reach across tenants:

{_table(("scope", "what it is"), operator)}
"""


_REACH = {Reach.ALL: "all", Reach.OWN: "own", Reach.NONE: ""}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _first_paragraph(error: type[RunyardError]) -> str:
    return inspect.cleandoc(error.__doc__ or "").split("\n\n")[0]


def generated() -> dict[Path, str]:
    """Return every generated file with its content."""
    return {
        ROOT / "docs" / "openapi.json": json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n",
        ROOT / "console" / "errors.html": errors_page(),
        ROOT / "docs" / "permissions.md": permissions_page(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file is out of date")
    check = parser.parse_args().check
    stale = [path for path, content in generated().items() if not path.exists() or path.read_text() != content]
    for path in stale:
        if check:
            sys.stderr.write(f"{path.relative_to(ROOT)} is out of date: run `make openapi` and commit it.\n")
        else:
            path.write_text(generated()[path])
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
