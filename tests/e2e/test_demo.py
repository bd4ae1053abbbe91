"""The main job as a newcomer sees it: two commands, each line of which means what it says."""

import json
import re
import subprocess

from tests.e2e.deployed import Deployed

LAST_LINE = re.compile(r"demo: succeeded in \d+\.\d s, cost \d+ microusd, \d+ events")


def next_steps(output: str) -> list[str]:
    """Return the lines under "what to try next" that are meant to be pasted."""
    _, _, rest = output.partition("what to try next\n")
    return [line for line in rest.splitlines() if line.startswith(("export ", "curl "))]


def test_the_demo_makes_the_home_and_does_the_main_job(home: Deployed) -> None:
    demo = home.first_demo
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert LAST_LINE.fullmatch(demo.stdout.splitlines()[-1])
    for shown in ("scripted stand-in", "sandbox.exec succeeded", "sum: 639", "run.succeeded", "mem_"):
        assert shown in demo.stdout


def test_the_lines_the_demo_ends_with_work_when_they_are_pasted(home: Deployed) -> None:
    lines = next_steps(home.first_demo.stdout)
    commands = [line for line in lines if line.startswith("curl ")]
    pasted = subprocess.run(["sh"], input="\n".join(lines), capture_output=True, text=True, timeout=60, check=False)
    assert pasted.stderr == ""
    answers = [json.loads(line) for line in pasted.stdout.splitlines()]
    assert len(answers) == len(commands) > 0
    assert {answer["object"] for answer in answers} == {"run", "list"}
    assert answers[0]["status"] == "succeeded"
    # The last one starts a run of its own and waits for it.
    assert answers[-1]["status"] == "succeeded", answers[-1]


def test_a_second_demo_takes_the_home_as_it_is(home: Deployed) -> None:
    demo = home.command("demo")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert LAST_LINE.fullmatch(demo.stdout.splitlines()[-1])
    assert "starting" not in demo.stdout
    assert "deploying" not in demo.stdout


def test_a_task_of_the_users_own_is_what_the_agent_is_asked(home: Deployed) -> None:
    demo = home.command("demo", "--task", "offline: exec echo $((6 * 7)) is the answer")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "42 is the answer" in demo.stdout


def test_status_shows_every_part_running(home: Deployed) -> None:
    status = home.command("status")
    assert status.returncode == 0, status.stdout
    for part in ("postgres", "redis", "emulator", "model", "fargate", "front"):
        assert re.search(rf"^{part}\s+running\s", status.stdout, re.MULTILINE)
