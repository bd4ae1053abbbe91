"""Where a client's path leads."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.errors import SandboxError
from sandbox.paths import open_place, relative_parts

ROOT = Path("/workspace")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("a/b", ["a", "b"]),
        ("/workspace/a", ["a"]),
        ("workspace/a", ["a"]),
        ("workspace/workspace/a", ["workspace", "a"]),
        ("./a//b/./", ["a", "b"]),
        ("a/../b", ["b"]),
        ("", []),
        ("/workspace", []),
    ],
)
def test_a_path_is_relative_or_below_the_workspace(path: str, names: list[str]) -> None:
    assert relative_parts(ROOT, path) == names


@pytest.mark.parametrize("path", ["/", "/etc/passwd", "..", "a/../..", "/workspace/..", "/workspacex/a", "/work"])
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(SandboxError) as caught:
        relative_parts(ROOT, path)
    assert (caught.value.status, caught.value.code) == (403, "path_outside_workspace")


_NAMES = st.sampled_from(["a", "b", "..", ".", "", "/", "/etc", "link", "up", "out", "abs", "workspace"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(names=st.lists(_NAMES, max_size=8), create=st.booleans())
def test_no_path_and_no_links_lead_out(tmp_path: Path, names: list[str], create: bool) -> None:
    root = tmp_path / "workspace"
    if not root.exists():
        (root / "a" / "b").mkdir(parents=True)
        (root / "link").symlink_to("a/b")
        (root / "a" / "up").symlink_to("../..")
        (root / "a" / "out").symlink_to("/etc")
        (root / "abs").symlink_to(root / "a")
    try:
        with open_place(root, "/".join(names), create_folders=create) as place:
            reached = Path(f"/proc/self/fd/{place.folder}").readlink()
            assert reached.is_relative_to(root)
            assert "/" not in place.name
            assert place.name != ".."
    except (SandboxError, OSError):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["workspace"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "out").symlink_to("/etc")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("a/b", "out/passwd", "missing/file", "a"):
        try:
            with open_place(tmp_path, path):
                pass
        except (SandboxError, OSError):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
