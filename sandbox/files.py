"""The workspace's files for the platform: write, read, list, remove."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from sandbox.config import Limits
from sandbox.errors import SandboxError
from sandbox.paths import Place, open_place

type FileType = Literal["file", "directory", "symlink", "other"]

_PART = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: opening a named pipe would wait for a writer that never comes.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK_BYTES = 256 * 1024


class FileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a listing. `path` is absolute; a symbolic link is described, not followed."""

    path: str
    type: FileType
    size_bytes: int
    modified_at: datetime


class WrittenFile(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an upload."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file opened for reading: `size_bytes` of it are read, however it grows meanwhile."""

    file: BinaryIO
    size_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the content, then close the file."""
        left = self.size_bytes
        with self.file:
            while left and (chunk := self.file.read(min(_CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk


class Upload:
    """A file in the making under a hidden name: nobody ever sees half of it."""

    def __init__(self, place: Place, limit_bytes: int) -> None:
        self._place = place
        self._limit = limit_bytes
        self._part = f".{secrets.token_hex(8)}.part"
        self._file = os.fdopen(os.open(self._part, _PART, _mode(place), dir_fd=place.folder), "wb")
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append. Raises `SandboxError` 413 `file_too_large`."""
        self.size_bytes += len(chunk)
        if self.size_bytes > self._limit:
            raise SandboxError(413, "file_too_large", f"A file may have {self._limit} bytes at most.")
        self._file.write(chunk)

    def commit(self) -> WrittenFile:
        """Put the file in its place, replacing what was there."""
        self._file.close()
        folder = self._place.folder
        os.rename(self._part, self._place.name, src_dir_fd=folder, dst_dir_fd=folder)
        return WrittenFile(path=self._place.path, size_bytes=self.size_bytes)

    def discard(self) -> None:
        """Leave nothing behind. Harmless after `commit`."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._part, dir_fd=self._place.folder)


class Workspace:
    """The folder that a sandbox works in. Every method blocks and raises `SandboxError` only."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root = root
        self._limits = limits

    @contextlib.contextmanager
    def upload(self, path: str) -> Iterator[Upload]:
        """Yield an upload to `path`, making the folders on the way. Gone unless committed."""
        with _explained(path), open_place(self._root, path, create_folders=True) as place:
            if _is_folder(place):
                raise SandboxError(409, "is_a_directory", f"{place.path} is a directory.")
            upload = Upload(place, self._limits.file_bytes)
            try:
                yield upload
            finally:
                upload.discard()

    def open(self, path: str) -> OpenFile:
        """Open a regular file."""
        with _explained(path), open_place(self._root, path) as place:
            file = os.fdopen(os.open(place.name, _READ, dir_fd=place.folder), "rb", closefd=True)
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                file.close()
                raise SandboxError(409, "not_a_regular_file", f"{place.path} is not a regular file.")
            return OpenFile(file, status.st_size)

    def list(self, path: str) -> list[FileInfo]:
        """Describe what a directory contains, by name; the first entries of a very large one."""
        with _explained(path), open_place(self._root, path) as place:
            folder = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place.folder)
            try:
                with os.scandir(folder) as entries:
                    names = [entry.name for entry, _ in zip(entries, range(self._limits.listed_files), strict=False)]
                found = (_describe(folder, name, place.path) for name in sorted(names))
                return [info for info in found if info is not None]
            finally:
                os.close(folder)

    def remove(self, path: str) -> None:
        """Remove a file, a link (not what it points to) or a directory with all it contains."""
        with _explained(path), open_place(self._root, path, follow_last=False) as place:
            if place.name == ".":
                raise SandboxError(409, "workspace_not_removable", "The workspace itself cannot be removed.")
            if _is_folder(place):
                shutil.rmtree(place.name, dir_fd=place.folder)
            else:
                os.unlink(place.name, dir_fd=place.folder)


def _is_folder(place: Place) -> bool:
    try:
        return stat.S_ISDIR(os.stat(place.name, dir_fd=place.folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _mode(place: Place) -> int:
    """Return the permissions of the file that is replaced, so that a script stays executable."""
    try:
        return stat.S_IMODE(os.stat(place.name, dir_fd=place.folder, follow_symlinks=False).st_mode) & 0o777
    except FileNotFoundError:
        return 0o644


def _describe(folder: int, name: str, parent: str) -> FileInfo | None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None  # removed since it was listed
    # A name that is no UTF-8 is shown, not refused.
    shown = os.fsencode(f"{parent}/{name}").decode(errors="replace")
    modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
    return FileInfo(path=shown, type=_type(status.st_mode), size_bytes=status.st_size, modified_at=modified_at)


def _type(mode: int) -> FileType:
    tests: dict[FileType, Callable[[int], bool]] = {
        "file": stat.S_ISREG,
        "directory": stat.S_ISDIR,
        "symlink": stat.S_ISLNK,
    }
    return next((name for name, test in tests.items() if test(mode)), "other")


_MEANINGS: dict[int, tuple[int, str]] = {
    errno.ENOENT: (404, "file_not_found"),
    errno.ENOTDIR: (409, "not_a_directory"),
    errno.EISDIR: (409, "is_a_directory"),
    errno.EACCES: (403, "permission_denied"),
    errno.EPERM: (403, "permission_denied"),
    errno.ENOSPC: (507, "no_space_left"),
    errno.EDQUOT: (507, "no_space_left"),
    errno.ENAMETOOLONG: (400, "invalid_path"),
    errno.ENXIO: (409, "not_a_regular_file"),
}


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn what the system says into what a client can act on."""
    try:
        yield
    except OSError as error:
        # A folder that became a link while it was walked is an attempt to get out.
        meaning = (403, "path_outside_workspace") if error.errno == errno.ELOOP else _MEANINGS.get(error.errno or 0)
        if meaning is None:
            raise
        status, code = meaning
        raise SandboxError(status, code, f"{path}: {error.strerror}") from error
