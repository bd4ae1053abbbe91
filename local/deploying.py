"""Deploys the CDK app to the home's emulator with the same CLI and the same commands as to AWS."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local import aws
from local.errors import HomeError
from local.parts.part import source_files
from local.parts.postgres import database_url, migration_database_url
from local.parts.redis import redis_url
from local.passwords import read_passwords
from local.processes import last_lines, write_atomically
from local.settings import ACCOUNT, MAIL_FROM, REGION, REPOSITORY, Home
from local.terminal import Terminal

CDK: Final = REPOSITORY / "node_modules" / ".bin" / "cdk"
# Everything that can change what is deployed. Layers count by what they are built from, not by what was built.
_SOURCES: Final = (
    "app.py", "cdk.json", "events/schemas", "functions", "infra_cdk", "layers", "migrations", "shared",
    "package-lock.json", "uv.lock",
)  # fmt: skip
# The log is for reading: no colours, and no advice about Node versions between a user and the error they look for.
_CLI_SETTINGS: Final = {
    "NO_COLOR": "1",
    "NODE_OPTIONS": f'--require "{REPOSITORY / "local" / "cdk_polling.cjs"}"',
    "CDK_DISABLE_CLI_TELEMETRY": "true",
    "AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED": "true",
    "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20",
    # `make synth` validates the templates; at home that would only cost time.
    "CDK_VALIDATION": "false",
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the app is and what is in it; tests deploy a small one of their own."""

    app_folder: Path
    sources: tuple[Path, ...]
    has_layers: bool = True


RUNYARD: Final = Deployment(REPOSITORY, tuple(REPOSITORY / place for place in _SOURCES))


def write_endpoints(home: Home) -> None:
    """Write down what the functions have to know of this home; the CDK app hands it to them."""
    endpoints = {
        "database_url": database_url(home),
        "migration_database_url": migration_database_url(home),
        "redis_url": redis_url(home),
        "public_url": home.public_url,
        "model_base_url": home.provider.base_url,
        "model": home.provider.chat_model,
        "embedding_model": home.provider.embedding_model,
        "mail_from": MAIL_FROM,
        "edge_secret": read_passwords(home).edge,
    }
    text = json.dumps(endpoints, indent=1) + "\n"
    if not home.endpoints_file.exists() or home.endpoints_file.read_text() != text:
        write_atomically(home.endpoints_file, text)


def source_digest(home: Home, deployment: Deployment = RUNYARD) -> str:
    """Return a digest of everything that goes into a deploy."""
    digest = hashlib.sha256(home.endpoints_file.read_bytes())
    for file in source_files(deployment.sources):
        digest.update(f"\0{file.relative_to(deployment.app_folder)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def is_up_to_date(home: Home, deployment: Deployment = RUNYARD) -> bool:
    """Tell whether the emulator runs what the sources say. The emulator has to be up."""
    return home.outputs_file.exists() and aws.deployed_digest(home) == source_digest(home, deployment)


def deploy(home: Home, terminal: Terminal, deployment: Deployment = RUNYARD) -> bool:
    """Build the layers, bootstrap the emulator and deploy every stack; return whether nothing was deployed before.

    Raises `HomeError` with the CLI's last words.
    """
    digest = source_digest(home, deployment)
    is_first = aws.deployed_digest(home) is None
    aws.forget_digest(home)
    if deployment.has_layers:
        layers = [sys.executable, "-m", "layers.build", "--platform", "local"]
        _run(home, terminal, layers, "building the layers", folder=REPOSITORY)
    if not aws.is_bootstrapped(home):
        aws.delete_orphaned_assets(home)
        # From a folder without a cdk.json, so that the CLI doesn't synthesise the app for nothing.
        bootstrap = [str(CDK), "bootstrap", f"aws://{ACCOUNT}/{REGION}", "--no-notices"]
        _run(home, terminal, bootstrap, "bootstrapping the emulator", folder=home.run)
    _run(home, terminal, _deploy_command(home), "deploying the stacks", folder=deployment.app_folder)
    write_outputs(home)
    aws.remember_digest(home, digest)
    return is_first


def write_outputs(home: Home) -> None:
    """Write down the stacks' outputs; the front door notices the new file by itself."""
    write_atomically(home.outputs_file, json.dumps(aws.stack_outputs(home), indent=1) + "\n")


def _deploy_command(home: Home) -> list[str]:
    options = {
        # With the interpreter that runs this, whatever environment it is in.
        "--app": f"{shlex.quote(sys.executable)} app.py",
        "--output": str(home.folder / "cdk.out"),
        "--require-approval": "never",
        "--method": "direct",
        "--concurrency": "4",
        "--progress": "events",
    }
    flags = ["--all", "--ci", "--no-notices", "--no-version-reporting"]
    context = ["--context", "stage=local", "--context", f"endpoints={home.endpoints_file}"]
    return [str(CDK), "deploy", *flags, *(word for option in options.items() for word in option), *context]


def _run(home: Home, terminal: Terminal, command: list[str], doing: str, *, folder: Path) -> None:
    """Run a step of the deploy, its output going to `deploy.log`; what went wrong is shown."""
    log_file = home.logs / "deploy.log"
    with terminal.step(doing, done=doing), log_file.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        began_at = log.tell()
        done = subprocess.run(
            command, cwd=folder, env=_environment(home), stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
    if done.returncode != 0:
        # jsii may print a banner about the Node version, which would stand between the reader and the error.
        lines = [line for line in last_lines(log_file, 40, after_byte=began_at) if not line.startswith("b'!!")]
        shown = "\n".join(f"    {line}" for line in lines[-15:])
        raise HomeError(
            f"{doing[0].upper()}{doing[1:]} failed. The last lines of {log_file}:\n{shown}",
            hint="The parts go on running, and `make deploy` tries again. `make logs part=emulator` may tell more.",
        )


def _environment(home: Home) -> dict[str, str]:
    """Return an environment in which the CLI reaches the emulator only, whatever AWS accounts the user works with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_", "OPENAI_"))}
    # With it the CDK libraries would be compiled anew each time.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return kept | home.aws_environment() | _CLI_SETTINGS | {"PATH": path}
