"""Finds a file below the workspace without ever leaving it, whatever symbolic links commands make meanwhile.

A path is walked one name at a time from a descriptor of the workspace, and no name is opened through a link.
Links are read and followed by hand, so that one that points within the workspace works and one that leads out is
refused. Since every step starts from an open descriptor, exchanging a folder for a link between two steps gains
nothing.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

_LONGEST_LINK_CHAIN = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Place:
    """A name in an open folder; `name` is "." for the workspace itself. `path` is for people."""

    folder: int
    name: str
    path: str


def outside(path: str) -> SandboxError:
    """Return the error for a path that leads out of the workspace."""
    return SandboxError(403, "path_outside_workspace", f"{path!r} is not below the workspace.")


def relative_parts(root: Path, path: str) -> list[str]:
    """Split a client's path, absolute or relative to the workspace, into names. Raises `SandboxError`.

    `workspace/a` means `/workspace/a` too: a leading slash is easily lost in a URL.
    """
    if "\0" in path:
        raise SandboxError(400, "invalid_path", "A path contains no NUL character.")
    names = [name for name in path.split("/") if name not in {"", "."}]
    prefix = list(root.parts[1:])
    if names[: len(prefix)] == prefix:
        names = names[len(prefix) :]
    elif path.startswith("/"):
        raise outside(path)
    return _without_parents([], names, path)


@contextlib.contextmanager
def open_place(root: Path, path: str, *, create_folders: bool = False, follow_last: bool = True) -> Iterator[Place]:
    """Yield the place a path leads to; its last name need not exist. Raises `SandboxError` and `OSError`."""
    names = relative_parts(root, path)
    for _ in range(_LONGEST_LINK_CHAIN):
        walked = _walk(root, names, path, create_folders=create_folders, follow_last=follow_last)
        if isinstance(walked, Place):
            try:
                yield walked
            finally:
                os.close(walked.folder)
            return
        names = walked
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _walk(root: Path, names: list[str], path: str, *, create_folders: bool, follow_last: bool) -> Place | list[str]:
    """Walk to the last name. Return its place, or the names to start again with when a link was met."""
    folder = os.open(root, _FOLDER)
    try:
        for index, name in enumerate(names):
            is_last = index == len(names) - 1
            if follow_last or not is_last:
                target = _link_target(folder, name)
                if target is not None:
                    os.close(folder)
                    return _through_link(root, names[:index], target, names[index + 1 :], path)
            if is_last:
                return Place(folder, name, str(root.joinpath(*names)))
            if create_folders:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=folder)
            inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(folder)
        raise
    return Place(folder, ".", str(root))


def _link_target(folder: int, name: str) -> str | None:
    """Return what a link points to, or None for anything else. One call: between two it could become something else."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOENT}:
            return None
        raise


def _through_link(root: Path, before: list[str], target: str, after: list[str], path: str) -> list[str]:
    if not target.startswith("/"):
        return _without_parents(before, [*target.split("/"), *after], path)
    inside = str(root) + "/"
    if not (target + "/").startswith(inside):
        raise outside(path)
    return _without_parents([], [*target[len(inside) :].split("/"), *after], path)


def _without_parents(before: list[str], names: list[str], path: str) -> list[str]:
    """Resolve `..` by name, which is safe as links are never passed through. Raises at the root."""
    result = list(before)
    for name in names:
        if name == "..":
            if not result:
                raise outside(path)
            result.pop()
        elif name not in {"", "."}:
            result.append(name)
    return result
