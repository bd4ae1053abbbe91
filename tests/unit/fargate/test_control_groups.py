"""Which control group is used; a folder stands for the kernel's."""

from pathlib import Path

import pytest

from local.fargate.control_groups import find_parent, make_control_group


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A hierarchy whose `user` group gives memory and process limits to its children."""
    for folder, offered in (("", "cpu memory pids"), ("user", "memory pids"), ("user/session", "cpu")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "cgroup.subtree_control").write_text(f"{offered}\n")
        (tmp_path / folder / "cgroup.procs").touch()
    return tmp_path


def _member_of(tmp_path_factory: pytest.TempPathFactory, *lines: str) -> Path:
    file = tmp_path_factory.mktemp("proc") / "cgroup"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_the_nearest_group_above_that_gives_limits_is_used(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    membership = _member_of(tmp_path_factory, "4:memory:/x", "0::/user/session/shell")
    assert find_parent(root, membership) == root / "user"


def test_there_is_none_without_version_two(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert find_parent(root, _member_of(tmp_path_factory, "4:memory:/user")) is None
    assert find_parent(root, root / "missing") is None


def test_a_group_is_made_with_its_limits(root: Path) -> None:
    group = make_control_group(root, memory_bytes=1024, processes=7)
    assert group is not None
    assert (group.folder / "memory.max").read_text() == "1024"
    assert (group.folder / "pids.max").read_text() == "7"
    assert group.members == group.folder / "cgroup.procs"


def test_where_none_can_be_made_there_is_none(root: Path) -> None:
    assert make_control_group(root / "missing", memory_bytes=1, processes=1) is None
    assert make_control_group(None, memory_bytes=1, processes=1) is None
