"""Our own gateway before the stub: the product's app under uvicorn, one worker, started as its run.sh starts it.

Everything is on that is on for a customer: the key is looked up, requests are limited and counted, budgets looked for,
credits held and settled, each call recorded and its tokens metered, all of it in Postgres, which waits for the disk.
Postgres and Redis are counted as the gateway's own processors. Only the answers' cache is off, as LiteLLM's is.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx

from bench.gateway import stub
from bench.gateway.measuring import Target
from bench.in_process import variables
from bench.results import REPOSITORY
from local.terminal import Terminal
from shared.billing import service as billing
from shared.identity import service as identity
from shared.inference import org_settings
from shared.inference.config import Settings
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.rates import RateKind
from shared.orgs import service as orgs
from shared.quotas import service as quotas
from tests.http_server import listening
from tests.model_provider import secrets_manager
from tests.services import running

_SECRET: Final = "arn:aws:secretsmanager:us-east-1:000000000000:secret:bench"
_SCRIPT: Final = REPOSITORY / "functions" / "api" / "run.sh"
_UNLIMITED: Final = 10**9
_STARTS_WITHIN_S: Final = 30.0


@contextmanager
def ours(provider_url: str, terminal: Terminal) -> Iterator[Target]:
    """Yield the gateway, ready, with a tenant who has credits; raise `SystemExit` when it doesn't come up."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="runyard-bench-gateway-")))
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own where root started it
        services = cleanup.enter_context(running(folder / "services", durable=True))
        secrets_url = cleanup.enter_context(listening(secrets_manager({_SECRET: stub.KEY})))
        environment = services.environment("runyard") | _variables(provider_url, secrets_url)
        cleanup.enter_context(variables(environment))
        key = _customer()
        port = _free_port()
        log = cleanup.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(
            [str(_SCRIPT)],
            cwd=REPOSITORY,
            # The script takes the first Python there is: ours, which has all that the layers hold.
            env=os.environ
            | environment
            | {"AWS_LWA_PORT": str(port), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        cleanup.callback(_stop, process)
        url = f"http://{stub.LOOPBACK}:{port}"
        _wait_for(url, process, folder / "log")
        terminal.say(f"ours: ready, with Postgres and Redis of its own (process {process.pid})")
        pids = (process.pid, services.postgres.process().pid, services.redis.process().pid)
        yield Target(name="ours", url=url, key=key, model=stub.MODEL, pids=pids)


def _variables(provider_url: str, secrets_url: str) -> dict[str, str]:
    return {
        "RUNYARD_STAGE": "bench",
        "RUNYARD_PUBLIC_URL": "http://127.0.0.1",
        "RUNYARD_MODEL_BASE_URL": f"{provider_url}/v1",
        "RUNYARD_MODEL_SECRET_ARN": _SECRET,
        "RUNYARD_MODEL": stub.MODEL,
        "RUNYARD_EMBEDDING_MODEL": stub.MODEL,
        "RUNYARD_PRIVATE_PROVIDERS": "1",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_EC2_METADATA_DISABLED": "true",
        "POWERTOOLS_SERVICE_NAME": "gateway",
        "POWERTOOLS_METRICS_NAMESPACE": "Runyard",
        "POWERTOOLS_TRACE_DISABLED": "1",
    }


def _customer() -> str:
    """Make a tenant whose limits don't get in the way, and return its key."""
    org_id = ids.new()
    caller = Caller.system(org_id, request_id="bench")
    with db.tenant(caller) as tx:
        orgs.create_org(tx, caller, org_id=org_id, name="Bench")
        quotas.set_plan(tx, caller, org_id, "enterprise")
        quotas.set_limits(tx, caller, org_id, rates=dict.fromkeys(RateKind, _UNLIMITED))
        billing.grant(tx, caller, amount_microusd=10**14, source_id="bench", reason="to measure with")
        org_settings.set_settings(tx, caller, Settings(cache_ttl_s=0))
        _, secret = identity.create_first_key(tx, caller, org_id=org_id)
    db.close()
    return secret.text


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((stub.LOOPBACK, 0))
        return int(found.getsockname()[1])


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/healthz", timeout=2, trust_env=False)
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"our gateway did not start:\n{log.read_text()[-4_000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
