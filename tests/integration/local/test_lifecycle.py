"""The parts of a home, real ones: started, found crashed, restarted, stopped, with their state kept."""

import stat
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from local import aws, cli, processes, supervising
from local.parts import EMULATOR, GATEWAY, POSTGRES, REDIS
from local.parts import PARTS as ALL_PARTS
from local.parts.part import Part
from local.parts.postgres import database_url, migration_database_url, superuser_url
from local.parts.redis import redis_url
from local.processes import write_atomically
from local.settings import Home
from local.supervising import Condition
from tests.integration.local.homes import Screen, stop_everything

# The gateway runs from the first deploy on, and nothing is deployed here.
PARTS = tuple(part for part in ALL_PARTS if part is not GATEWAY)


def conditions(home: Home) -> dict[str, Condition]:
    return {status.part.name: status.condition for status in supervising.look_at_all(home)}


def process_of(home: Home, part: Part) -> psutil.Process:
    record = processes.read_record(part.record_file(home))
    assert record is not None
    process = record.process()
    assert process is not None
    return process


def bring_up_parts(home: Home, screen: Screen) -> list[str]:
    with supervising.locked(home):
        return [part.name for part in supervising.start_missing(home, screen.terminal)]


def run_command(home: Home, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    for name, value in home.part_environment().items():
        monkeypatch.setenv(name, value)
    return cli.main(arguments)


def test_every_part_runs_after_up(running_home: Home) -> None:
    assert conditions(running_home) == {part.name: Condition.RUNNING for part in PARTS}


def test_a_second_up_starts_nothing(running_home: Home, screen: Screen) -> None:
    assert bring_up_parts(running_home, screen) == []


def test_nothing_listens_beyond_loopback(running_home: Home) -> None:
    addresses = set()
    for part in PARTS:
        leader = process_of(running_home, part)
        for process in (leader, *leader.children(recursive=True)):
            listening = [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
            addresses |= {one.laddr[0] for one in listening}
            assert part.port(running_home) is None or process is not leader or listening, f"{part.name} listens nowhere"
    assert all(address.startswith("127.") for address in addresses), addresses


def test_the_application_role_owns_nothing_and_bypasses_nothing(running_home: Home) -> None:
    with psycopg.connect(database_url(running_home)) as connection:
        row = connection.execute(
            "select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb from pg_roles where rolname = current_user"
        ).fetchone()
        assert row == (False, False, False, False)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("create table public.mine (id int)")


def test_the_owner_finds_vectors_ready_and_is_no_superuser(running_home: Home) -> None:
    with psycopg.connect(migration_database_url(running_home)) as connection:
        assert connection.execute("select '[1,2]'::vector <-> '[1,3]'::vector").fetchone() == (1.0,)
        row = connection.execute("select rolsuper from pg_roles where rolname = current_user").fetchone()
        assert row == (False,)


def test_postgres_writes_durably_and_redis_keeps_a_log(running_home: Home) -> None:
    with psycopg.connect(superuser_url(running_home)) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute("select current_setting(%s)", [setting]).fetchone() == ("on",)
    with redis.Redis.from_url(redis_url(running_home)) as client:
        assert client.config_get("append*")["appendonly"] == "yes"
        assert client.config_get("append*")["appendfsync"] == "everysec"


def test_databases_refuse_whoever_has_no_password(running_home: Home) -> None:
    without = database_url(running_home).replace(database_url(running_home).split(":")[2].split("@")[0], "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(without)
    with (
        redis.Redis(port=running_home.ports.redis) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_passwords_are_readable_by_their_owner_only(running_home: Home) -> None:
    for file in (running_home.secrets_file, running_home.run / "redis.conf"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (running_home.state, running_home.logs, running_home.run):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_password_is_in_the_list_of_processes(running_home: Home) -> None:
    passwords = [word for word in running_home.secrets_file.read_text().split('"') if len(word) > 20]
    assert len(passwords) == 5
    for part in PARTS:
        leader = process_of(running_home, part)
        for process in (leader, *leader.children(recursive=True)):
            assert not any(password in " ".join(process.cmdline()) for password in passwords)


def test_a_crashed_part_is_named_by_status_and_restarted_by_up(
    running_home: Home, screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = process_of(running_home, REDIS)
    killed.kill()
    killed.wait(10)

    assert run_command(running_home, monkeypatch, "status") == 1
    assert "In trouble: redis." in capsys.readouterr().out

    assert bring_up_parts(running_home, screen) == ["redis"]
    assert "redis had crashed" in screen.text
    assert conditions(running_home)["redis"] is Condition.RUNNING


def test_status_tells_a_running_home_from_one_that_answers_requests(
    running_home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(running_home, monkeypatch, "status") == 1
    assert "nothing is deployed" in capsys.readouterr().out

    write_atomically(running_home.outputs_file, "{}")
    assert run_command(running_home, monkeypatch, "status") == 0
    assert f"Runyard is up: {running_home.public_url}" in capsys.readouterr().out


def test_a_postgres_that_was_killed_comes_back_with_what_it_had_committed(running_home: Home, screen: Screen) -> None:
    with psycopg.connect(superuser_url(running_home), autocommit=True) as connection:
        connection.execute("create table kept as select 7 as number")
    killed = process_of(running_home, POSTGRES)
    killed.kill()
    killed.wait(10)

    assert bring_up_parts(running_home, screen) == ["postgres"]

    with psycopg.connect(superuser_url(running_home)) as connection:
        assert connection.execute("select number from kept").fetchone() == (7,)


def test_a_part_whose_settings_changed_is_restarted(running_home: Home, screen: Screen) -> None:
    before = process_of(running_home, REDIS).pid
    record = REDIS.record_file(running_home)
    pid, started, _ = record.read_text().split()
    record.write_text(f"{pid}\n{started}\nmade-from-older-sources\n")

    assert bring_up_parts(running_home, screen) == ["redis"]
    assert "redis has changed" in screen.text
    assert process_of(running_home, REDIS).pid != before


def test_state_survives_down_and_up(running_home: Home, screen: Screen) -> None:
    with psycopg.connect(superuser_url(running_home), autocommit=True) as connection:
        connection.execute("create table survives as select 'row' as what")
    with redis.Redis.from_url(redis_url(running_home)) as client:
        client.set("survives", "key")
    aws.remember_digest(running_home, "parameter")

    stop_everything(running_home)
    assert set(conditions(running_home).values()) == {Condition.STOPPED}
    assert bring_up_parts(running_home, screen) == [part.name for part in PARTS]

    with psycopg.connect(superuser_url(running_home)) as connection:
        assert connection.execute("select what from survives").fetchone() == ("row",)
    with redis.Redis.from_url(redis_url(running_home), decode_responses=True) as client:
        assert client.get("survives") == "key"
    assert aws.deployed_digest(running_home) == "parameter"


def test_down_leaves_no_process_behind(home: Home, screen: Screen) -> None:
    bring_up_parts(home, screen)
    alive = [process_of(home, part) for part in PARTS]

    stop_everything(home)

    assert not [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert processes.kill_leftovers(EMULATOR.marker(home)) == 0


def test_a_home_that_is_stopped_says_so(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(home, monkeypatch, "status") == 3
    assert capsys.readouterr().out.count("stopped  ") == len(PARTS)
    assert not home.folder.exists()


def test_two_homes_run_side_by_side(running_home: Home, home: Home, screen: Screen) -> None:
    bring_up_parts(home, screen)

    assert set(conditions(home).values()) == {Condition.RUNNING}
    assert set(conditions(running_home).values()) == {Condition.RUNNING}
    stop_everything(home)
    assert set(conditions(running_home).values()) == {Condition.RUNNING}


def test_reset_deletes_state_only_when_confirmed(
    home: Home, screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bring_up_parts(home, screen)

    assert run_command(home, monkeypatch, "reset") == 1
    assert "Nothing was deleted" in capsys.readouterr().err
    assert (home.state / "postgres" / "PG_VERSION").exists()

    assert run_command(home, monkeypatch, "reset", "--yes") == 0
    assert not home.state.exists()
    assert not home.secrets_file.exists()
    assert set(conditions(home).values()) == {Condition.STOPPED}


def test_logs_show_what_a_part_wrote(
    running_home: Home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(running_home, monkeypatch, "logs", "redis") == 0
    assert "Ready to accept connections" in capfd.readouterr().out


def test_the_emulator_sees_its_own_packages_only(running_home: Home) -> None:
    packages = {path.name for path in Path(running_home.emulator_venv).glob("lib/python3.*/site-packages/*")}
    assert "ministack" in packages
    assert not packages & {"boto3", "pydantic", "psycopg", "fastapi"}
