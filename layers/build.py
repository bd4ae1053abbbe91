"""Build the layers: `python -m layers.build --platform local|aws`. Nothing is done for one already built."""

import argparse
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from layers.catalogue import DEFAULT_CACHE, FOLDER, LAMBDA_UNZIPPED_LIMIT_BYTES, LAYERS, Layer, Platform

# Files botocore needs beside the descriptions of the services.
_BOTOCORE_SHARED_DATA = frozenset(
    {"endpoints.json", "partitions.json", "_retry.json", "sdk-default-configuration.json"}
)
_UNUSED_FOLDERS = frozenset({"tests", "__pycache__", "examples"})
_UNUSED_FILES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "py.typed"})
_UNUSED_SUFFIXES = frozenset({".pyi", ".pyx", ".pxd", ".c", ".h"})


class LayerBuildError(Exception):
    """A layer can't be built; the message says what to do."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m layers.build", description=__doc__)
    parser.add_argument("--platform", type=Platform, choices=list(Platform), default=Platform.LOCAL)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where built layers are kept")
    arguments = parser.parse_args()
    try:
        build_all(arguments.platform, cache=arguments.cache)
    except LayerBuildError as error:
        sys.exit(f"layers: {error}")


def build_all(platform: Platform, *, cache: Path = DEFAULT_CACHE) -> None:
    """Build every layer that is missing from the cache and check that any mix of them fits into a function."""
    unzipped_bytes = 0
    for layer in LAYERS.values():
        target = layer.built_at(platform, cache=cache)
        reused = target.is_file()
        if not reused:
            _build(layer, platform, target)
        with zipfile.ZipFile(target) as archive:
            size_bytes = sum(entry.file_size for entry in archive.infolist())
        unzipped_bytes += size_bytes
        how = "cached" if reused else "built"
        print(f"layer {layer.name:<11}{size_bytes / 2**20:6.1f} MB  {how} for {platform}")
    if unzipped_bytes > LAMBDA_UNZIPPED_LIMIT_BYTES:
        raise LayerBuildError(
            f"together the layers hold {unzipped_bytes / 2**20:.0f} MB, Lambda takes 250 MB: drop a requirement"
        )


def uv_command() -> list[str]:
    """Return how `uv` is called here (`make` says where its own one is); raise `LayerBuildError` when it is nowhere."""
    if uv := os.environ.get("UV") or shutil.which("uv"):
        return [uv]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise LayerBuildError("`uv` is missing; install it with `pip install uv` or see https://docs.astral.sh/uv/")


def _build(layer: Layer, platform: Platform, target: Path) -> None:
    if sys.version_info[:2] != (3, 13):
        raise LayerBuildError("layers are compiled by Python 3.13, the functions' runtime; run this with Python 3.13")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{layer.name}-") as folder:
        packages = Path(folder) / "python"
        _install(layer, platform, packages)
        _trim(packages)
        _compile(packages)
        zipped = Path(folder) / "layer.zip"
        _zip(packages, zipped)
        zipped.rename(target)  # whole or not at all, also when two builds run at once


def _install(layer: Layer, platform: Platform, packages: Path) -> None:
    # `requirements.txt` and those of the layers below are complete together, hence no dependencies here.
    command = [
        *(*uv_command(), "pip", "install", "--quiet", "--target", str(packages), "-r", str(layer.pinned)),
        *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy"),
        *("--python-version", "3.13", "--python", sys.executable),
    ]
    if platform is Platform.AWS:
        command += ["--python-platform", platform.tag]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise LayerBuildError(f"could not install layer {layer.name}:\n{finished.stderr.strip()}")


def _trim(packages: Path) -> None:
    """Remove what no function ever opens: console scripts, tests, type stubs, unused AWS service descriptions."""
    shutil.rmtree(packages / "bin", ignore_errors=True)
    (packages / ".lock").unlink(missing_ok=True)
    for folder in [path for path in packages.rglob("*") if path.is_dir() and path.name in _UNUSED_FOLDERS]:
        shutil.rmtree(folder, ignore_errors=True)
    for file in [path for path in packages.rglob("*") if path.is_file()]:
        if file.name in _UNUSED_FILES or file.suffix in _UNUSED_SUFFIXES:
            file.unlink()
    descriptions = packages / "botocore" / "data"
    if descriptions.is_dir():
        kept = _BOTOCORE_SHARED_DATA | called_aws_services()
        for entry in descriptions.iterdir():
            if entry.is_dir() and entry.name not in kept:
                shutil.rmtree(entry)


def called_aws_services() -> frozenset[str]:
    """Return the AWS services (botocore's names) whose descriptions the core layer keeps."""
    lines = (FOLDER / "core" / "aws_services.txt").read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _compile(packages: Path) -> None:
    """Replace each source file by bytecode that is valid wherever and whenever the layer is unpacked.

    Bytecode alone halves the files a cold start unpacks. It is hash-based and unchecked, because zip files don't keep
    modification times; `/opt` is where Lambda puts layers; the fixed hash seed makes two builds equal.
    """
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "compileall", "-b", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"),
            *("-s", str(packages.parent), "-p", "/opt", str(packages)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise LayerBuildError(f"could not compile {packages}:\n{finished.stdout}{finished.stderr}")
    for source in packages.rglob("*.py"):
        source.unlink()


def _zip(packages: Path, target: Path) -> None:
    """Zip so that equal content makes an equal file: sorted, without times."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in packages.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(packages.parent).as_posix())
            entry.external_attr = (stat.S_IFREG | 0o755 if os.access(file, os.X_OK) else stat.S_IFREG | 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())


if __name__ == "__main__":
    main()
