"""The model gateway, which streams as the emulator's functions can't: the product's own program, started as in AWS.

It runs with the variables and the layers of the deployed function that answers the same paths behind the API, and with
nothing else of this environment: a package missing from a layer fails here as it would in AWS.
"""

import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import httpx

from layers.catalogue import LAYERS, Platform
from local import aws
from local.errors import HomeError
from local.parts.part import Part
from local.processes import Command, write_atomically
from local.settings import LOOPBACK, REPOSITORY, Home

_SCRIPT: Final = REPOSITORY / "functions" / "api" / "run.sh"
# Behind the API, of which the gateway is the streaming half.
_FUNCTION: Final = "api-inference"


def write_settings(home: Home) -> None:
    """Write down with what the gateway is to run, after a deploy. The emulator has to be up."""
    text = json.dumps(aws.function_settings(home, _FUNCTION), indent=1) + "\n"
    if not home.gateway_file.exists() or home.gateway_file.read_text() != text:
        write_atomically(home.gateway_file, text)


def _settings(home: Home) -> dict[str, Any]:
    if not home.gateway_file.exists():
        return {"layers": [], "variables": {}}
    found: dict[str, Any] = json.loads(home.gateway_file.read_text())
    return found


def _command(home: Home) -> Command:
    settings = _settings(home)
    environment = {
        # The interpreter that ours was made from: without our environment's packages.
        "PATH": f"{sys.base_prefix}/bin{os.pathsep}{os.defpath}",
        "PYTHONPATH": os.pathsep.join(str(_unpacked(layer) / "python") for layer in settings["layers"]),
        # Whatever the user keeps below theirs is no business of a function.
        "PYTHONNOUSERSITE": "1",
        "HOME": str(home.run),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "AWS_LWA_PORT": str(home.ports.gateway),
    }
    own = {"POWERTOOLS_SERVICE_NAME": "gateway"}
    return Command((str(_SCRIPT),), environment | settings["variables"] | home.aws_environment() | own, REPOSITORY)


def _unpacked(layer: str) -> Path:
    """Return the folder of a layer's content, beside the layer itself: homes share it, and it never changes."""
    return LAYERS[layer].built_at(Platform.LOCAL).with_suffix("")


def _prepare(home: Home) -> None:
    """Unpack the layers that no home has used yet."""
    for layer in _settings(home)["layers"]:
        target, archive = _unpacked(layer), LAYERS[layer].built_at(Platform.LOCAL)
        if target.is_dir():
            continue
        if not archive.is_file():
            raise HomeError(f"The layer {layer} is not built.", hint="Run `make layers`.")
        unpacking = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        zipfile.ZipFile(archive).extractall(unpacking)
        try:
            unpacking.rename(target)  # whole or not at all, also when two homes do it at once
        except OSError:
            shutil.rmtree(unpacking)
            if not target.is_dir():
                raise


def _is_ready(home: Home) -> bool:
    """Tell whether it answers: an address that nobody has is answered as well."""
    try:
        url = f"http://{LOOPBACK}:{home.ports.gateway}/healthz"
        return httpx.get(url, timeout=5, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


GATEWAY = Part(
    name="gateway",
    port=lambda home: home.ports.gateway,
    prepare=_prepare,
    command=_command,
    is_ready=_is_ready,
    is_due=lambda home: home.gateway_file.exists(),
    sources=(_SCRIPT, REPOSITORY / "functions", REPOSITORY / "shared"),
)
