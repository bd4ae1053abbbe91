"""Pin the layers: `python -m layers.pin` writes each `requirements.txt` from its `requirements.in` and `uv.lock`."""

import subprocess
import tempfile
from pathlib import Path

from layers.build import uv_command
from layers.catalogue import LAYERS, REPOSITORY, Layer


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        locked = Path(folder) / "locked.txt"
        _uv("export", "--frozen", "--all-groups", "--no-hashes", "--no-emit-project", "-o", str(locked))
        for layer in LAYERS.values():
            _pin(layer, locked)


def _pin(layer: Layer, locked: Path) -> None:
    """Pin to the versions the tests run with (`locked`), leaving out what lower layers hold."""
    held_below = [name for lower in layer.extends for name in pinned_versions(LAYERS[lower])]
    _uv(
        *("pip", "compile", str(layer.wanted.relative_to(REPOSITORY)), "-o", str(layer.pinned), "--upgrade"),
        *("--constraint", str(locked), "--generate-hashes", "--universal", "--python-version", "3.13"),
        *("--no-header", "--no-annotate"),
        *(f"--no-emit-package={name}" for name in held_below),
    )


def pinned_versions(layer: Layer) -> dict[str, str]:
    """Return package -> version as written in the layer's `requirements.txt`."""
    requirements = (line.split()[0] for line in layer.pinned.read_text().splitlines() if "==" in line.split(";")[0])
    return dict(requirement.split("==", 1) for requirement in requirements)


def _uv(*arguments: str) -> None:
    subprocess.run([*uv_command(), *arguments], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
