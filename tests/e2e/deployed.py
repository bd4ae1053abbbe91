"""A deployed home under test: made as a user makes it, spoken to over HTTP, its parts killed and started again."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import httpx
import psutil
import psycopg
from psycopg.rows import dict_row

from local import aws, mail, processes, supervising
from local.parts import EMULATOR, FARGATE
from local.parts.part import Part
from local.parts.postgres import database_url, superuser_url
from local.settings import REGION, REPOSITORY, Home
from shared.billing import service as billing
from shared.billing.model import Violation
from shared.kernel import db, ids, settings
from shared.kernel.caller import Caller
from tests.e2e.tenant import ENDS, Tenant
from tests.integration.local.homes import Screen
from tests.waiting import until


@dataclass(slots=True)
class Deployed:
    """The home and what is needed to look behind its front door. `first_demo` is the command that made it."""

    home: Home
    first_demo: "subprocess.CompletedProcess[str]"
    _clients: list[httpx.Client] = field(default_factory=list)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `python -m local …` for this home, as make does."""
        return local_command(self.home, *arguments)

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client of the API; it is closed with the home."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = httpx.Client(base_url=self.home.public_url, headers=headers, timeout=40, trust_env=False)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def tenant(self, name: str = "Acme") -> Tenant:
        """Create an org over the API, as the operator, and return it."""
        operator = self.client(aws.operator_key(self.home))
        answer = operator.post("/v1/orgs", json={"name": name, "slug": f"org-{uuid4().hex[:12]}"})
        assert answer.status_code == 201, answer.text
        # What these tests do in minutes, the smallest plan allows in hours.
        raised = operator.put(f"/v1/orgs/{answer.json()['org']['id']}/subscription", json={"plan": "enterprise"})
        assert raised.status_code == 200, raised.text
        secret = answer.json()["api_key"]["secret"]
        return Tenant(answer.json()["org"]["id"], secret, self.client(secret))

    def letters(self) -> list[dict[str, Any]]:
        """Return the letters sent so far, oldest first, as the emulator's SES recorded them."""
        return mail.sent(self.home)

    # --- parts ------------------------------------------------------------------------------------------------------

    def process(self, part: Part) -> psutil.Process:
        record = processes.read_record(part.record_file(self.home))
        process = record.process() if record else None
        assert process is not None, f"{part.name} does not run"
        return process

    def kill(self, part: Part) -> None:
        """End a part at once with everything it started, as a crash of the machine would."""
        process = self.process(part)
        process.kill()
        processes.kill_leftovers(part.marker(self.home))
        until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, f"{part.name} is dead")

    def stop(self, part: Part) -> None:
        with supervising.locked(self.home):
            supervising.stop(self.home, part)

    def start_missing(self) -> None:
        """Start every part that does not run, as `make up` does."""
        with supervising.locked(self.home):
            supervising.start_missing(self.home, Screen().terminal)

    def kill_workers(self, function: str) -> int:
        """Kill the processes in which the emulator runs a function, e.g. `steps-act`; return how many there were."""
        name = f"runyard-local-{function}"
        found = 0
        for process in self._descendants_of_the_emulator():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.environ().get("AWS_LAMBDA_FUNCTION_NAME") == name:
                    process.kill()
                    found += 1
        return found

    def _descendants_of_the_emulator(self) -> Iterator[psutil.Process]:
        yield from self.process(EMULATOR).children(recursive=True)

    # --- sandboxes --------------------------------------------------------------------------------------------------

    def workspace(self, sandbox_id: str) -> Path:
        """Return where this machine keeps the sandbox's /workspace."""
        return self.home.state / "workspaces" / sandbox_id

    def wait_for_file(self, tenant: Tenant, run_id: str, name: str, *, within_s: float = 40) -> Path:
        """Return a file once a command of the run has made it: its effect has happened then."""
        sandbox = until(lambda: tenant.sandbox_of(run_id), f"a sandbox of {run_id}", within_s=within_s)
        file = self.workspace(sandbox["id"]) / name
        until(lambda: file.exists() and file.stat().st_size > 0, f"{name} in {sandbox['id']}", within_s=within_s)
        return file

    def jail_with(self, marker: str) -> psutil.Process | None:
        """Return the jail that has `marker`, e.g. its sandbox's id, in a command line of its own or inside."""
        for jail in self.process(FARGATE).children():
            # One that ends while we look is none.
            with contextlib.suppress(psutil.NoSuchProcess):
                family = (jail, *jail.children(recursive=True))
                if any(marker in word for process in family for word in process.cmdline()):
                    return jail
        return None

    # --- behind the door --------------------------------------------------------------------------------------------

    def aws(self, service: str) -> Any:
        """Return a client of the emulator."""
        make: Any = boto3.client
        return make(
            service,
            endpoint_url=self.home.emulator_url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Ask the database past row-level security."""
        with psycopg.connect(superuser_url(self.home), row_factory=dict_row) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def violations(self, org_id: str) -> list[Violation]:
        """Return what is wrong with the org's ledger."""
        with functions_environment(self.home), db.tenant(Caller.system(ids.read("org", org_id))) as tx:
            return billing.check(tx)

    def assert_ended_once(self, tenant: Tenant, run_id: str) -> None:
        """Check what holds for every run, whatever happened to it: it has one end, and the books are right."""
        run = tenant.run(run_id)
        assert run["ended_at"] is not None
        told = self.rows("SELECT seq, type FROM run_events WHERE run_id = %s ORDER BY seq", uuid_of(run_id))
        assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
        assert [event["type"] for event in told if event["type"] in ENDS] == [f"run.{run['status']}"]
        assert told[-1]["type"] == f"run.{run['status']}"
        published = self.rows("SELECT type FROM outbox WHERE subject = %s", run_id)
        assert sorted(event["type"] for event in published) == sorted(["run.requested", f"run.{run['status']}"])
        self.assert_books_balance(tenant)

    def assert_books_balance(self, tenant: Tenant) -> None:
        """Check the ledger entry by entry, and against what the org's runs and sandboxes say they cost."""
        assert self.violations(tenant.org_id) == []
        balance = tenant.balance()
        assert balance["held_microusd"] == 0
        runs = tenant.get("/v1/runs", limit=100)["data"]
        assert balance["settled_microusd"] == sum(run["cost_microusd"] for run in runs)
        assert balance["available_microusd"] == balance["granted_microusd"] - balance["settled_microusd"]


def execution_arn(home: Deployed, run_id: str) -> str:
    """Return the ARN of the execution that coordinates a run."""
    machines = home.aws("stepfunctions").list_state_machines()["stateMachines"]
    (machine,) = (each for each in machines if each["name"].endswith("-agent-run"))
    return str(machine["stateMachineArn"]).replace(":stateMachine:", ":execution:") + f":{uuid_of(run_id)}"


def uuid_of(shown_id: str) -> UUID:
    return ids.read(shown_id.partition("_")[0], shown_id)


def local_command(home: Home, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m local …` with nothing of the user's own settings but where their tools are."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "RUNYARD_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", "local", *arguments],
        cwd=REPOSITORY,
        env=kept | home.part_environment(),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@contextmanager
def functions_environment(home: Home) -> Iterator[None]:
    """Give the product's own code, called from here, the home's database and model for the length of the block."""
    before = dict(os.environ)
    os.environ |= {"RUNYARD_DATABASE_URL": database_url(home), "RUNYARD_DATABASE_IAM_AUTH": "0"}
    provider = home.provider
    os.environ |= {"RUNYARD_MODEL": provider.chat_model, "RUNYARD_EMBEDDING_MODEL": provider.embedding_model}
    settings.forget()
    try:
        yield
    finally:
        db.close()
        os.environ.clear()
        os.environ |= before
        settings.forget()
