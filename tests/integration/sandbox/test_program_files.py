"""The workspace's files through the real program, as the platform reaches them and as hostile commands prepare them."""

import http.client
import json
import secrets
import threading
from urllib.parse import quote

import pytest

from tests.integration.sandbox.machine import MIB, RunningSandbox


def test_a_file_is_written_read_listed_and_removed(sandbox: RunningSandbox) -> None:
    written = sandbox.client.put("/files/notes/a.txt", content=b"hello")
    assert written.json() == {"path": "/workspace/notes/a.txt", "size_bytes": 5}
    assert sandbox.client.get("/files/notes/a.txt").content == b"hello"
    (listed,) = sandbox.client.get("/files", params={"path": "/workspace/notes"}).json()["data"]
    assert (listed["path"], listed["type"], listed["size_bytes"]) == ("/workspace/notes/a.txt", "file", 5)
    assert listed["modified_at"].endswith("Z")
    assert sandbox.client.delete("/files/notes").status_code == 204
    assert sandbox.client.get("/files/notes/a.txt").status_code == 404


@pytest.mark.parametrize("url", ["/files/same.txt", "/files/workspace/same.txt", "/files//workspace/same.txt"])
def test_a_path_may_be_relative_or_absolute(sandbox: RunningSandbox, url: str) -> None:
    content = secrets.token_bytes(8)
    assert sandbox.client.put(url, content=content).json()["path"] == "/workspace/same.txt"
    assert sandbox.client.get("/files/same.txt").content == content


def test_what_the_platform_writes_a_command_can_execute(sandbox: RunningSandbox) -> None:
    sandbox.client.put("/files/program.py", content=b"print(6 * 7)")
    assert sandbox.run(id="program", argv=["python", "program.py"])["stdout"] == "42\n"


def test_replacing_a_script_keeps_it_executable(sandbox: RunningSandbox) -> None:
    sandbox.shell("printf '#!/bin/sh\\necho old' > script; chmod 755 script")
    sandbox.client.put("/files/script", content=b"#!/bin/sh\necho new\n")
    assert sandbox.shell("./script") == "new\n"


def test_a_reader_sees_the_old_file_or_the_new_one(sandbox: RunningSandbox) -> None:
    old, new = b"a" * MIB, b"b" * MIB
    sandbox.client.put("/files/swapped", content=old)
    seen: set[bytes] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(sandbox.client.get("/files/swapped").content)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        sandbox.client.put("/files/swapped", content=new)
        sandbox.client.put("/files/swapped", content=old)
    stop.set()
    reader.join()
    assert seen <= {old, new}


def test_a_file_that_is_too_large_leaves_nothing_behind(sandbox: RunningSandbox) -> None:
    answer = sandbox.client.put("/files/large/file", content=b"x" * (10 * MIB + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
    assert sandbox.shell("ls -A large") == ""
    assert sandbox.client.put("/files/large/file", content=b"x" * (10 * MIB)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "../etc/passwd",
        "%2e%2e/etc/passwd",
        "a/../../etc/passwd",
        "/etc/passwd",
        "workspace/../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_path_leads_out_of_the_workspace(sandbox: RunningSandbox, method: str, path: str) -> None:
    assert _raw(sandbox, method, f"/files/{path}") == (403, "path_outside_workspace")


def test_no_listing_leads_out_of_the_workspace(sandbox: RunningSandbox) -> None:
    for path in ("/", "/etc", "..", "/workspace/..", "/workspacex"):
        answer = sandbox.client.get("/files", params={"path": path})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_outside_workspace"), path


def test_links_that_lead_out_are_refused(sandbox: RunningSandbox) -> None:
    sandbox.shell("ln -sfn /etc out; ln -sfn ../etc up; ln -sfn /proc/self/environ file; ln -sfn out twice")
    for path in ("out/passwd", "up/passwd", "file", "twice/passwd"):
        for method in ("GET", "PUT"):
            answer = sandbox.client.request(method, f"/files/{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_outside_workspace"), path
    listing = sandbox.client.get("/files", params={"path": "out"})
    assert listing.json()["error"]["code"] == "path_outside_workspace"


def test_links_within_the_workspace_work(sandbox: RunningSandbox) -> None:
    sandbox.shell(
        "mkdir -p real/deep; ln -sfn real/deep near; ln -sfn /workspace/real far; ln -sfn ../deep real/deep/me"
    )
    assert sandbox.client.put("/files/near/f", content=b"1").json()["path"] == "/workspace/real/deep/f"
    assert sandbox.client.get("/files/far/deep/me/f").content == b"1"


def test_a_link_that_points_at_itself_is_refused(sandbox: RunningSandbox) -> None:
    sandbox.shell("ln -sfn loop loop")
    assert sandbox.client.get("/files/loop").status_code == 403


def test_removing_a_link_keeps_what_it_points_to(sandbox: RunningSandbox) -> None:
    sandbox.shell("mkdir -p kept; touch kept/file; ln -sfn kept link; ln -sfn /etc outlink")
    assert sandbox.client.delete("/files/link").status_code == 204
    assert sandbox.client.delete("/files/outlink").status_code == 204
    assert sandbox.shell("ls kept; ls -d link outlink 2>/dev/null || true") == "file\n"


def test_a_folder_that_is_a_link_every_other_moment_never_leads_out(sandbox: RunningSandbox) -> None:
    """A command exchanges a folder for a link to /tmp as fast as it can; no upload may ever land there."""
    sandbox.shell("mkdir -p /tmp/outside")
    racing = """
import ctypes, os
libc = ctypes.CDLL(None)
os.makedirs("race", exist_ok=True)
os.symlink("/tmp/outside", "evil")
while not os.path.exists("/workspace/race-over"):
    libc.renameat2(-100, b"race", -100, b"evil", 2)
"""
    sandbox.run(id="racing", argv=["python", "-c", racing], wait_s=0)
    statuses = [sandbox.client.put(f"/files/race/{n}", content=b"x").status_code for n in range(300)]
    sandbox.shell("touch race-over")
    assert sandbox.shell("ls /tmp/outside") == ""
    assert {200, 403} <= set(statuses) <= {200, 403, 409}


def test_a_named_pipe_does_not_hang_the_program(sandbox: RunningSandbox) -> None:
    sandbox.shell("mkfifo pipe")
    answer = sandbox.client.get("/files/pipe")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_a_regular_file")


def test_nul_characters_and_endless_names_are_refused(sandbox: RunningSandbox) -> None:
    for path in ("a%00b", quote("n" * 300)):
        answer = sandbox.client.get(f"/files/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_path")


def test_names_that_are_no_text_are_listed_all_the_same(sandbox: RunningSandbox) -> None:
    sandbox.shell("mkdir odd; touch odd/$'\\xff'")
    (listed,) = sandbox.client.get("/files", params={"path": "odd"}).json()["data"]
    assert listed["path"] == "/workspace/odd/\ufffd"


def test_the_workspace_itself_is_neither_written_nor_removed(sandbox: RunningSandbox) -> None:
    assert sandbox.client.delete("/files/workspace").json()["error"]["code"] == "workspace_not_removable"
    assert sandbox.client.put("/files/workspace", content=b"").json()["error"]["code"] == "is_a_directory"


def _raw(sandbox: RunningSandbox, method: str, path: str) -> tuple[int, str]:
    """Send a path as it is, which httpx would tidy, and return the status and the error's code."""
    url = sandbox.client.base_url
    connection = http.client.HTTPConnection(url.host, url.port or 80, timeout=10)
    connection.request(method, path, headers={"Authorization": sandbox.client.headers["Authorization"]})
    answer = connection.getresponse()
    code = json.loads(answer.read())["error"]["code"]
    connection.close()
    return answer.status, code
