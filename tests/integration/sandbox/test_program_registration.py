"""How the program makes itself known, and when it gives up."""

from tests.integration.sandbox.machine import Machine


def test_a_sandbox_registers_with_its_own_address_and_a_token_of_its_making(machine: Machine) -> None:
    with machine.sandbox() as first, machine.sandbox() as second:
        registrations = [machine.front.registration(str(s.task.sandbox_id)) for s in (first, second)]
    assert all(r["address"].startswith("http://127.") and r["address"].endswith(":7100") for r in registrations)
    assert len({r["address"] for r in registrations}) == 2
    assert len({r["access_token"] for r in registrations}) == 2
    assert all(len(r["access_token"]) >= 43 for r in registrations)


def test_registration_is_tried_again_while_the_platform_fails(machine: Machine) -> None:
    machine.front.answers.extend([503, 500, 429])
    with machine.sandbox() as sandbox:
        attempts = [a["status"] for a in machine.front.attempts if a["sandbox_id"] == sandbox.task.sandbox_id]
    assert attempts == [503, 500, 429, 200]


def test_a_refused_sandbox_ends_at_once(machine: Machine) -> None:
    machine.front.answers.append(401)
    task = machine.task()
    with machine.container(task) as container:
        assert machine.wait(container.wait()).exit_code == 1
    assert [a["status"] for a in machine.front.attempts if a["sandbox_id"] == task.sandbox_id] == [401]
