"""Which layers there are, which one builds on which, and where a built one lies."""

import hashlib
import sysconfig
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parent
DEFAULT_CACHE = REPOSITORY / ".runyard" / "layers"

# Lambda's limit for a function's code and all its layers, unzipped.
LAMBDA_UNZIPPED_LIMIT_BYTES = 250 * 1024 * 1024


class Platform(StrEnum):
    """For which machine a layer is built: compiled wheels differ."""

    LOCAL = "local"
    AWS = "aws"

    @property
    def tag(self) -> str:
        """Return what tells two machines' builds apart in the cache."""
        return "aarch64-manylinux_2_28" if self is Platform.AWS else sysconfig.get_platform()


@dataclass(frozen=True, slots=True)
class Layer:
    """A folder with `requirements.in` (what is wanted) and `requirements.txt` (pinned, hashed, complete).

    A layer leaves out whatever the layers in `extends` already hold, so that nothing is shipped twice.
    """

    name: str
    extends: tuple[str, ...] = ()

    @property
    def wanted(self) -> Path:
        return FOLDER / self.name / "requirements.in"

    @property
    def pinned(self) -> Path:
        return FOLDER / self.name / "requirements.txt"

    def content_hash(self, platform: Platform) -> str:
        """Return a hash of all that decides what is built: the pins, the machine and the recipe."""
        digest = hashlib.sha256(platform.tag.encode())
        for source in (FOLDER / "build.py", *sorted((FOLDER / self.name).glob("*.txt"))):
            digest.update(source.read_bytes())
        return digest.hexdigest()

    def built_at(self, platform: Platform, *, cache: Path = DEFAULT_CACHE) -> Path:
        """Return the zip file that is (or will be) the built layer; its content never changes."""
        return cache / platform / f"{self.name}-{self.content_hash(platform)[:16]}.zip"


LAYERS = {
    layer.name: layer
    for layer in (
        Layer("core"),
        Layer("web", extends=("core",)),
        Layer("tokens", extends=("core",)),
        Layer("identity", extends=("core", "tokens")),
        # Not above web: the steps think without it.
        Layer("inference", extends=("core",)),
        # Five layers are all that a function can have: this one holds what `tokens` holds too.
        Layer("gateway", extends=("core", "web", "inference")),
        Layer("migrations", extends=("core",)),
    )
}
