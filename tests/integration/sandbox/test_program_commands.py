"""Commands in the real program, in a real jail."""

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.integration.sandbox.machine import MIB, RunningSandbox


def test_a_command_returns_what_it_printed_and_its_exit_code(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="both", shell="echo out; echo err >&2; exit 3")
    assert (result["status"], result["exit_code"]) == ("exited", 3)
    assert (result["stdout"], result["stderr"]) == ("out\n", "err\n")
    assert result["max_rss_bytes"] > MIB


def test_arguments_are_passed_as_they_are(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="argv", argv=["printf", "%s|", "a b", "$HOME", "'"])
    assert result["stdout"] == "a b|$HOME|'|"


def test_stdin_is_written_and_closed(sandbox: RunningSandbox) -> None:
    text = "line\n" * 200_000
    result = sandbox.run(id="stdin", argv=["wc", "-c"], stdin=text)
    assert result["stdout"].strip() == str(len(text))


def test_a_command_that_does_not_read_its_stdin_ends_all_the_same(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="stdin-ignored", argv=["true"], stdin="x" * MIB)
    assert (result["status"], result["exit_code"]) == ("exited", 0)


def test_without_stdin_a_command_reads_an_end_of_file(sandbox: RunningSandbox) -> None:
    assert sandbox.run(id="no-stdin", argv=["cat"], timeout_s=10)["status"] == "exited"


def test_the_working_directory_and_variables_are_the_requests(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="env", shell="pwd; echo $COLOUR", cwd="/tmp", env={"COLOUR": "green"})
    assert result["stdout"] == "/tmp\ngreen\n"
    assert sandbox.shell("pwd") == "/workspace\n"


def test_a_missing_program_is_told_as_a_shell_would(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="missing", argv=["no-such-program"])
    assert (result["status"], result["exit_code"]) == ("exited", 127)
    assert result["stderr"] == "no-such-program: No such file or directory\n"


def test_a_missing_working_directory_is_an_error_that_leaves_the_id_free(sandbox: RunningSandbox) -> None:
    answer = sandbox.client.post("/commands", json={"id": "cwd", "argv": ["true"], "cwd": "/workspace/nowhere"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "working_directory_unusable")
    assert sandbox.run(id="cwd", argv=["true"])["exit_code"] == 0


def test_output_beyond_the_limit_is_cut_and_said_to_be(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="cut", shell="echo 123456789; echo short >&2", max_output_bytes=4)
    assert (result["stdout"], result["stdout_truncated"]) == ("1234", True)
    assert (result["stderr"], result["stderr_truncated"]) == ("shor", True)


def test_gigabytes_of_output_do_not_grow_the_program(sandbox: RunningSandbox) -> None:
    before = _resident_bytes(sandbox)
    result = sandbox.run(id="flood", shell="head -c 2000000000 /dev/zero", wait_s=60)
    assert (result["exit_code"], result["stdout_truncated"]) == (0, True)
    assert len(result["stdout"]) == MIB
    assert _resident_bytes(sandbox) - before < 30 * MIB


def test_a_command_out_of_time_is_ended_with_its_whole_group(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="slow", shell="sleep 4711 & sleep 4711", timeout_s=0.3)
    assert (result["status"], result["exit_code"]) == ("timed_out", 143)
    assert sandbox.shell("pgrep -cx sleep || true") == "0\n"


def test_a_command_that_ignores_sigterm_is_killed(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="stubborn", shell="trap '' TERM; while true; do sleep 0.1; done", timeout_s=0.3)
    assert (result["status"], result["exit_code"]) == ("timed_out", 137)


def test_a_command_that_kills_itself_is_told_as_killed(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="suicide", shell="kill -SEGV $$")
    assert (result["status"], result["exit_code"]) == ("killed", 139)


def test_a_background_process_does_not_hold_its_command_up_and_lives_on(sandbox: RunningSandbox) -> None:
    result = sandbox.run(id="background", shell="sleep 30 & echo started $!", wait_s=20)
    assert result["status"] == "exited"
    assert result["stdout"].startswith("started")
    pid = result["stdout"].split()[1]
    sandbox.shell(f"kill {pid}")


def test_a_command_longer_than_the_wait_is_told_as_running_and_can_be_asked_for(sandbox: RunningSandbox) -> None:
    sandbox.shell("mkfifo gate")
    first = sandbox.run(id="long", shell="echo early; read line < /workspace/gate; echo $line", wait_s=0)
    assert (first["status"], first["exit_code"]) == ("running", None)
    sandbox.shell("echo late > /workspace/gate")
    last = sandbox.client.get("/commands/long", params={"wait_s": 20}).json()
    assert (last["status"], last["stdout"]) == ("exited", "early\nlate\n")


def test_the_same_id_gets_the_first_result_and_runs_nothing(sandbox: RunningSandbox) -> None:
    request = {"id": "once", "shell": "date +%N | tee -a /workspace/times"}
    assert sandbox.run(**request) == sandbox.run(**request, wait_s=1)
    assert sandbox.shell("wc -l < /workspace/times") == "1\n"


def test_the_same_id_requested_at_once_runs_once(sandbox: RunningSandbox) -> None:
    request = {"id": "at-once", "shell": "echo x >> /workspace/runs; sleep 0.2; echo done"}
    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda _: sandbox.run(**request), range(10)))
    assert all(result == results[0] for result in results)
    assert sandbox.shell("wc -l < /workspace/runs") == "1\n"


def test_an_id_with_another_request_is_refused(sandbox: RunningSandbox) -> None:
    sandbox.run(id="taken", argv=["true"])
    answer = sandbox.client.post("/commands", json={"id": "taken", "argv": ["false"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "command_id_reused")


def test_what_makes_no_sense_is_refused_with_the_reason(sandbox: RunningSandbox) -> None:
    for wrong in ({"argv": ["a"], "shell": "b"}, {}, {"argv": ["a\0b"]}, {"argv": ["a"], "env": {"A=B": "c"}}):
        answer = sandbox.client.post("/commands", json={"id": "wrong"} | wrong)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request"), wrong


def test_an_unknown_command_is_not_found(sandbox: RunningSandbox) -> None:
    answer = sandbox.client.get("/commands/unknown")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "command_not_found")


def test_a_request_that_is_too_large_is_refused(sandbox: RunningSandbox) -> None:
    answer = sandbox.client.post("/commands", json={"id": "large", "argv": ["cat"], "stdin": "x" * (13 * MIB)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_everything_but_health_needs_the_access_token(sandbox: RunningSandbox) -> None:
    with httpx.Client(base_url=sandbox.client.base_url, trust_env=False) as stranger:
        assert stranger.get("/health").json() == {"status": "ok"}
        for method, path in (("POST", "/commands"), ("GET", "/files"), ("PUT", "/files/a"), ("GET", "/nowhere")):
            answer = stranger.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        wrong = stranger.get("/files", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401


def test_sigterm_ends_the_commands_and_then_the_program(own_sandbox: RunningSandbox) -> None:
    own_sandbox.run(id="polite", shell="trap 'echo bye > /workspace/farewell; exit' TERM; sleep 60 & wait", wait_s=0.5)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(own_sandbox.client.get, "/commands/polite", params={"wait_s": 30})
        assert own_sandbox.stop() == 0
        assert waiting.result().json()["status"] in {"exited", "killed"}
    assert (own_sandbox.workspace / "farewell").read_text() == "bye\n"


def _resident_bytes(sandbox: RunningSandbox) -> int:
    return int(sandbox.shell("awk '/VmRSS/ {print $2}' /proc/2/status")) * 1024
