"""Gives jails a user of their own when the stand-in runs as root.

Root's processes are exempt from the kernel's limit on processes, and what root may read a jail could read. So root maps
the jail's user to an id that owns nothing on this machine. Anybody else cannot map foreign ids, and need not: the
jail's user is then that person, who is bound by limits.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Below 2^31, above the ranges that systems hand out for containers.
OUTSIDE_USER_ID = 2_000_007_100
# Root is mapped as well, since it is root who mounts; process 1 leaves it behind.
_MAP = "0 0 1\n{inside} {outside} 1\n"
# Steps in a fresh namespace, in turn with the parent, which alone may write the maps.
_HOLDER = """
import os, sys
os.unshare(os.CLONE_NEWUSER)
print("made", flush=True)
sys.stdin.readline()
with open("/proc/sys/user/max_user_namespaces", "w") as limit:
    limit.write("0")
print("closed", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def mapped_user_namespace(inside_user_id: int) -> Iterator[int]:
    """Yield a descriptor of a new user namespace, in which no further ones can be made. Raises `OSError`."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as holder:
        assert holder.stdin is not None  # noqa: S101 - for the type checker: they were asked for
        assert holder.stdout is not None  # noqa: S101
        process = Path(f"/proc/{holder.pid}")
        if not holder.stdout.readline():
            raise PermissionError("a user namespace cannot be made")
        for kind in ("uid_map", "gid_map"):
            (process / kind).write_text(_MAP.format(inside=inside_user_id, outside=OUTSIDE_USER_ID))
        holder.stdin.write("mapped\n")
        holder.stdin.flush()
        if not holder.stdout.readline():
            raise PermissionError("a user namespace cannot be limited")
        descriptor = os.open(process / "ns" / "user", os.O_RDONLY | os.O_CLOEXEC)
        # The descriptor keeps the namespace; its first process may go.
        holder.stdin.close()
    try:
        yield descriptor
    finally:
        os.close(descriptor)
