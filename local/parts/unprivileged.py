"""Executes a program that refuses to run as root, when root is who we are: `python unprivileged.py <program> <args>`.

In a user namespace of its own the process is `nobody`, while the host goes on seeing root: no system user has to be
made, no file to change hands, and no folder above the home to be opened to others.
"""

import os
import pwd
import sys
from pathlib import Path


def become_nobody() -> None:
    """Go on as `nobody` inside a new user namespace; exit with a message where the system forbids those."""
    nobody = pwd.getpwnam("nobody")
    try:
        os.unshare(os.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} 0 1")
        Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} 0 1")
    except (OSError, AttributeError) as error:
        sys.exit(
            f"PostgreSQL does not run as root, and this system lets root make no user namespace ({error}). Run the "
            "home as an ordinary user, or allow user namespaces (in Docker: --security-opt seccomp=unconfined)."
        )


if __name__ == "__main__":
    if os.geteuid() == 0:
        become_nobody()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the launcher's whole purpose
