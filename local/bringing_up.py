"""The whole way up: parts started, stacks deployed when something changed, keys handed over, an answer at the door."""

import time

import httpx

from local import aws, deploying, supervising
from local.deploying import RUNYARD, Deployment
from local.errors import HomeError
from local.parts import EMULATOR, GATEWAY
from local.parts.gateway import write_settings
from local.settings import Home
from local.terminal import Terminal

_HEALTH_WITHIN_S = 30


def bring_up(home: Home, terminal: Terminal, *, deploy_anyway: bool = False, deployment: Deployment = RUNYARD) -> None:
    """Make the home ready for requests; quick when it already is. Raises `HomeError` saying what stands in the way."""
    with supervising.locked(home):
        if deployment.has_layers and not deploying.CDK.exists():
            raise HomeError("The CDK CLI is not installed.", hint="Run `make install`.")
        # The gateway runs what is deployed: it comes, or is started again, after the schema it needs.
        supervising.start_missing(home, terminal, leaving=(GATEWAY,))
        deploying.write_endpoints(home)
        if deploy_anyway or not deploying.is_up_to_date(home, deployment):
            is_first = deploying.deploy(home, terminal, deployment)
            if is_first:
                # It writes its state down when it stops: from now on a crash costs no more than what came later.
                with terminal.step("keeping the emulator's state", done="the emulator's state kept"):
                    supervising.restart(home, EMULATOR)
        if deployment is RUNYARD:
            aws.put_model_key(home, home.provider.api_key)
            write_settings(home)
            supervising.start_missing(home, terminal)
            _await_health(home, terminal)


def _await_health(home: Home, terminal: Terminal) -> None:
    """Wait until a request gets all the way through: front door, API, function."""
    deadline = time.monotonic() + _HEALTH_WITHIN_S
    url = f"{home.public_url}/v1/health"
    with terminal.step("waiting for the API to answer"), httpx.Client(timeout=10, trust_env=False) as client:
        while True:
            try:
                answer = client.get(url)
                if answer.status_code == 200:
                    return
                last = f"{answer.status_code} {answer.text[:300]}"
            except httpx.HTTPError as error:
                last = str(error)
            if time.monotonic() > deadline:
                raise HomeError(f"{url} does not answer: {last}", hint="`make logs part=emulator` tells more.")
            time.sleep(0.1)
