"""Sandboxes over HTTP through the front door: real commands in a real jail, for their owner alone."""

import pytest

from tests.e2e.deployed import Deployed
from tests.e2e.tenant import Tenant
from tests.waiting import until


@pytest.fixture(scope="module")
def owner(home: Deployed) -> Tenant:
    return home.tenant("Owner")


@pytest.fixture(scope="module")
def sandbox(owner: Tenant) -> str:
    """A ready sandbox; the tests of this module share it, and the last one stops it."""
    created = owner.post("/v1/sandboxes", {"ttl_s": 300})
    assert created["status"] == "starting"
    sandbox_id = str(created["id"])
    until(lambda: owner.get(f"/v1/sandboxes/{sandbox_id}")["status"] == "ready", f"{sandbox_id} ready")
    return sandbox_id


def test_a_command_is_executed_and_its_result_returned(owner: Tenant, sandbox: str) -> None:
    result = owner.post(f"/v1/sandboxes/{sandbox}/commands", {"shell": "id -u; pwd; echo oh >&2; exit 3"})
    assert (result["status"], result["exit_code"]) == ("exited", 3)
    assert (result["stdout"], result["stderr"]) == ("1000\n/workspace\n", "oh\n")
    assert owner.get(f"/v1/sandboxes/{sandbox}/commands/{result['id']}") == result


def test_a_command_sent_twice_with_one_idempotency_key_is_executed_once(owner: Tenant, sandbox: str) -> None:
    body = {"shell": "echo once >> effects; wc -l < effects"}
    first = owner.post(f"/v1/sandboxes/{sandbox}/commands", body, idempotency_key="the same")
    again = owner.post(f"/v1/sandboxes/{sandbox}/commands", body, idempotency_key="the same")
    assert first == again
    assert first["stdout"] == "1\n"


def test_files_are_written_listed_and_read_back_byte_by_byte(owner: Tenant, sandbox: str) -> None:
    content = bytes(range(256)) * 1024
    written = owner.http.put(f"/v1/sandboxes/{sandbox}/files/data/all.bin", content=content)
    assert written.status_code == 200, written.text
    assert written.json()["size_bytes"] == len(content)
    assert owner.http.get(f"/v1/sandboxes/{sandbox}/files/data/all.bin").content == content
    listed = owner.get(f"/v1/sandboxes/{sandbox}/files", path="/workspace/data")["data"]
    assert [(file["path"], file["size_bytes"]) for file in listed] == [("/workspace/data/all.bin", len(content))]


def test_a_command_reaches_neither_the_internet_nor_the_platform(home: Deployed, owner: Tenant, sandbox: str) -> None:
    for host, port in (("127.0.0.1", home.home.ports.front), ("127.0.0.1", home.home.ports.postgres), ("1.1.1.1", 53)):
        script = f"import socket; socket.create_connection(({host!r}, {port}), 2)"
        result = owner.post(f"/v1/sandboxes/{sandbox}/commands", {"argv": ["python3", "-c", script]})
        assert result["exit_code"] == 1, (host, port)
        assert "Error" in result["stderr"]


def test_for_another_org_the_sandbox_does_not_exist(owner: Tenant, sandbox: str, tenant: Tenant) -> None:
    answers = [
        tenant.http.get(f"/v1/sandboxes/{sandbox}"),
        tenant.http.post(f"/v1/sandboxes/{sandbox}/commands", json={"shell": "true"}),
        tenant.http.get(f"/v1/sandboxes/{sandbox}/files/effects"),
        tenant.http.put(f"/v1/sandboxes/{sandbox}/files/effects", content=b"mine"),
        tenant.http.post(f"/v1/sandboxes/{sandbox}/stop"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 5
    assert [answer.json()["error"]["code"] for answer in answers] == ["not_found"] * 5
    assert owner.get(f"/v1/sandboxes/{sandbox}")["status"] == "ready"


def test_a_stopped_sandbox_is_gone_and_paid_for(home: Deployed, owner: Tenant, sandbox: str) -> None:
    stopped = owner.post(f"/v1/sandboxes/{sandbox}/stop")
    assert (stopped["status"], stopped["reason"]) == ("stopped", "requested")
    until(lambda: home.jail_with(sandbox) is None, "the end of its jail")
    refused = owner.http.post(f"/v1/sandboxes/{sandbox}/commands", json={"shell": "true"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "sandbox_not_ready")
    assert owner.balance()["settled_microusd"] == stopped["cost_microusd"] > 0
    assert owner.balance()["held_microusd"] == 0
    assert home.violations(owner.org_id) == []
