"""Says which of the tools the home needs are missing on this machine, and how to get them."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Final

from local.deploying import CDK

_OLDEST_NODE: Final = 20


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as found: `problem` is empty when it will do, and `remedy` says how to get a better one."""

    name: str
    found: str
    problem: str = ""
    remedy: str = ""


def inspect() -> list[Tool]:
    """Return every tool the home needs, found or missing."""
    return [_python(), _uv(), _node(), _npm(), _cdk()]


def _python() -> Tool:
    version = platform.python_version()
    if version.startswith("3.13."):
        return Tool("python", version)
    return Tool("python", version, "Python 3.13 is needed", "Run the home through make, or with `uv run`.")


def _uv() -> Tool:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        return Tool("uv", "", "uv is missing", "Run `make install`, or see https://docs.astral.sh/uv/#installation.")
    return Tool("uv", _version(uv))


def _node() -> Tool:
    remedy = "Get Node.js 20 or later from https://nodejs.org or your package manager."
    if shutil.which("node") is None:
        return Tool("node", "", "Node.js is missing", remedy)
    version = _version("node")
    major = re.match(r"v(\d+)", version)
    if major is None or int(major[1]) < _OLDEST_NODE:
        return Tool("node", version, f"Node.js {_OLDEST_NODE} or later is needed", remedy)
    return Tool("node", version)


def _npm() -> Tool:
    if shutil.which("npm") is None:
        return Tool("npm", "", "npm is missing", "It comes with Node.js from https://nodejs.org.")
    return Tool("npm", _version("npm"))


def _cdk() -> Tool:
    if not CDK.exists():
        return Tool("cdk", "", "the CDK CLI is not installed", "Run `make install`.")
    return Tool("cdk", _version(str(CDK)))


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.strip().splitlines() or ["unknown"])[0]
