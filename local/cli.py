"""The commands of the home: `python -m local up|down|status|logs|…`, of which `--help` has the list."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from local import supervising, toolchain
from local.errors import HomeError
from local.parts import PARTS
from local.settings import LOOPBACK, Home, read_home
from local.supervising import Condition, PartStatus
from local.terminal import Terminal

_LOGS = [*(part.name for part in PARTS), "deploy"]
# Not a part: what runs in the emulator.
_FUNCTIONS = "functions"
_STOPPED_STATUS = 3  # as `systemctl status` answers for what is not running


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    terminal = Terminal()
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(read_home(), terminal, options))
    except HomeError as error:
        terminal.fail(error.message, error.hint)
        return 1
    except KeyboardInterrupt:
        terminal.fail("interrupted", "`make status` shows what runs; `make up` carries on.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description="Runyard's home on one machine.",
        epilog="RUNYARD_HOME and RUNYARD_PORT_BASE choose another folder and other ports.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    command("up", _up, "Start what is not running and deploy what has changed.")
    command("down", _down, "Stop every part, keeping its state.")
    command("status", _status, "Show how every part is; exit status 1 when one is in trouble, 3 when all are stopped.")
    logs = command("logs", _logs, "Show the last lines of the parts' logs.")
    logs.add_argument(
        "part", nargs="?", choices=[*(part.name for part in PARTS), "deploy", _FUNCTIONS], help="only this one"
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on showing what is written")
    logs.add_argument("-n", "--lines", type=int, default=40, help="lines per log (default 40)")
    mail = command("mail", _mail, "Show the mail that the home has sent, oldest first.")
    mail.add_argument("-f", "--follow", action="store_true", help="go on showing what is sent")
    reset = command("reset", _reset, "Stop every part and delete all the home remembers.")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    command("deploy", _deploy, "Deploy the CDK app to the running home, changed or not.")
    demo = command("demo", _demo, "Bring the home up and let an agent do a task, live.")
    demo.add_argument("--task", default=os.environ.get("TASK") or None, help="what the agent is asked to do")
    command("audit-verify", _audit_verify, "Look for events edited or removed; exit status 1 when there are.")
    command("ledger-verify", _ledger_verify, "Prove every credit ledger; exit status 1 when one doesn't add up.")
    days = command("aggregate", _aggregate, "Add up days of usage: those touched, or those of a range.")
    days.add_argument("--since", help="the first day, e.g. 2026-11-01 (UTC); takes --until")
    days.add_argument("--until", help="the last day, included")
    days.add_argument("--org", help="this org only, e.g. org_01…")
    command("doctor", _doctor, "Check that this machine has what the home needs.")
    return parser


def _up(home: Home, terminal: Terminal, _: argparse.Namespace) -> int:
    from local.bringing_up import bring_up

    bring_up(home, terminal)
    terminal.say(f"Runyard is up: {home.public_url} (API docs: {home.public_url}/docs)")
    return 0


def _deploy(home: Home, terminal: Terminal, _: argparse.Namespace) -> int:
    from local.bringing_up import bring_up

    bring_up(home, terminal, deploy_anyway=True)
    terminal.say(f"Deployed: {home.public_url}")
    return 0


def _down(home: Home, terminal: Terminal, _: argparse.Namespace) -> int:
    with supervising.locked(home):
        stopped = supervising.stop_all(home, terminal)
    terminal.say("Runyard is down; its state is kept." if stopped else "Nothing was running.")
    return 0


def _status(home: Home, terminal: Terminal, _: argparse.Namespace) -> int:
    statuses = supervising.look_at_all(home)
    for status in statuses:
        terminal.say(_describe(home, status))
    terminal.say(f"home: {home.folder}")
    conditions = {status.condition for status in statuses}
    if conditions == {Condition.STOPPED}:
        return _STOPPED_STATUS
    if conditions == {Condition.RUNNING} and not home.outputs_file.exists():
        terminal.say("Every part runs, but nothing is deployed. `make up` deploys.")
        return 1
    if conditions == {Condition.RUNNING}:
        terminal.say(f"Runyard is up: {home.public_url}")
        return 0
    names = ", ".join(status.part.name for status in statuses if status.condition is not Condition.RUNNING)
    terminal.say(f"In trouble: {names}. `make up` starts what is missing; `make logs part=<name>` tells more.")
    return 1


def _describe(home: Home, status: PartStatus) -> str:
    line = f"{status.part.name:<10}{status.condition:<15}"
    port = status.part.port(home)
    if status.process is not None:
        age = datetime.now(UTC) - datetime.fromtimestamp(status.process.create_time(), UTC)
        megabytes = status.process.memory_info().rss // 2**20
        place = f"{LOOPBACK}:{port}" if port else "no port"
        line += f"{place:<17}pid {status.process.pid:<9}{megabytes:>5} MB  up {str(age).split('.')[0]}"
    if status.condition is Condition.CRASHED:
        line += f"see {status.part.log_file(home)}"
    if status.complaint:
        line += f"\n          {status.complaint}"
    if status.is_outdated:
        line += "  (its program or settings have changed: `make up` restarts it)"
    return line


def _logs(home: Home, terminal: Terminal, options: argparse.Namespace) -> int:
    if options.part == _FUNCTIONS:
        from local.function_logs import lines

        for line in lines(home, last=options.lines, follow=options.follow):
            print(line, flush=True)
        return 0
    names = [options.part] if options.part else _LOGS
    files = [str(home.logs / f"{name}.log") for name in names if (home.logs / f"{name}.log").exists()]
    if not files:
        terminal.say(f"There are no logs yet in {home.logs}.")
        return 0
    follow = ["-F"] if options.follow else []
    return subprocess.run(["tail", "-n", str(options.lines), *follow, *files], check=False).returncode


def _mail(home: Home, terminal: Terminal, options: argparse.Namespace) -> int:
    from local.mail import letters

    count = 0
    for letter in letters(home, follow=options.follow):
        print(letter, flush=True)
        count += 1
    terminal.say(f"{count} letters." if count else "No mail has been sent yet.")
    return 0


def _reset(home: Home, terminal: Terminal, options: argparse.Namespace) -> int:
    question = f"Delete every org, run, memory and credit of the home in {home.folder}? Type yes: "
    if not options.yes and (not sys.stdin.isatty() or input(question).strip().lower() != "yes"):
        raise HomeError("Nothing was deleted.", hint="Confirm with `yes`, or run `make reset yes=1`.")
    with supervising.locked(home):
        supervising.stop_all(home, terminal)
        supervising.delete_state(home)
    terminal.say("The home is empty. `make up` makes a new one.")
    return 0


def _demo(home: Home, terminal: Terminal, options: argparse.Namespace) -> int:
    from local.bringing_up import bring_up
    from local.demo import run_demo

    began = time.monotonic()
    bring_up(home, terminal)
    terminal.say(f"The home is up after {time.monotonic() - began:.1f} s: {home.public_url}")
    return run_demo(home, terminal, task=options.task)


def _audit_verify(home: Home, terminal: Terminal, _: argparse.Namespace) -> int:
    from local.auditing import verify
    from local.parts.postgres import database_url

    if not home.outputs_file.exists():
        raise HomeError("There is no audit trail yet: nothing is deployed.", hint="`make up` deploys.")
    return verify(database_url(home), terminal)


def _ledger_verify(home: Home, terminal: Terminal, _: argparse.Namespace) -> int:
    from local.ledgers import verify
    from local.parts.postgres import database_url

    if not home.outputs_file.exists():
        raise HomeError("There are no credits yet: nothing is deployed.", hint="`make up` deploys.")
    return verify(database_url(home), terminal)


def _aggregate(home: Home, terminal: Terminal, options: argparse.Namespace) -> int:
    from local.aggregating import aggregate

    return aggregate(home, terminal, since=options.since, until=options.until, org_id=options.org)


def _doctor(home: Home, terminal: Terminal, _: argparse.Namespace) -> int:
    tools = toolchain.inspect()
    for tool in tools:
        terminal.say(f"{tool.name:<8}{tool.problem or tool.found}")
        if tool.problem:
            terminal.say(f"        {tool.remedy}")
    terminal.say(f"home    {home.folder}")
    return 1 if any(tool.problem for tool in tools) else 0
