"""`cronq exec`: any command under guard, as people see it who start it from cron, systemd or a shell."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cronq.runs.run import Run
from cronq.worker.local_guard import lock_directory
from tests.conftest import RedisServer
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, descendants, installation, is_alive


@pytest.fixture
def box(tmp_path: Path, redis_url: str) -> Iterator[Installation]:
    with installation(redis_url, tmp_path / "box", CRONQ_LOCK_TTL="3s", CRONQ_LOST_AFTER="2s") as made:
        yield made


def newest(box: Installation, name: str) -> Run:
    """The newest run of that name."""
    return box.app.history(name, 1)[0]


def begun(box: Installation, process: CronqProcess, file: str) -> None:
    """Wait until the command of *process* has made *file*."""
    until((box.directory / file).exists, what=lambda: process.log)


# What reaches the command, and what comes of it


def test_words_reach_the_command_as_they_are(box: Installation) -> None:
    done = box.run("exec", "--", "printf", "%s\\n", "a b", "*", "$HOME", "")

    assert (done.exit_code(), done.output, done.log) == (0, "a b\n*\n$HOME\n\n", "")


def test_options_of_the_command_are_its_own(box: Installation) -> None:
    assert "grep" in box.run("exec", "--", "grep", "--help").output.lower()
    assert box.run("exec", "--name", "x", "printf", "%s", "--url").output == "--url"


def test_output_passes_apart_and_at_once(box: Installation) -> None:
    process = box.start("exec", "--", "sh", "-c", "printf out; printf err >&2; sleep 30")

    until(lambda: (process.output, process.log) == ("out", "err"), what=lambda: process.log)


def test_the_command_reads_what_is_given_to_exec(box: Installation) -> None:
    command = [sys.executable, "-m", "cronq", "exec", "--", "tr", "a-z", "A-Z"]
    environment = box._environment({})

    done = subprocess.run(command, input=b"hello", env=environment, cwd=box.directory, capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (0, b"HELLO"), done.stderr


def test_a_command_without_stdin_is_given_none_of_ours(box: Installation) -> None:
    command = f"{sys.executable} -m cronq exec --name n -- readlink /proc/self/fd/0 <&-"

    done = subprocess.run(
        ["sh", "-c", command], env=box._environment({}), cwd=box.directory, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "/dev/null\n"), done.stderr


def test_words_that_are_no_text_reach_the_command(box: Installation) -> None:
    command = [sys.executable, "-m", "cronq", "exec", "--", "printf", "%s", b"caf\xe9"]

    done = subprocess.run(command, env=box._environment({}), cwd=box.directory, capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (0, b"caf\xe9"), done.stderr


@pytest.mark.parametrize(
    ("command", "code", "outcome"),
    [
        (("true",), 0, "succeeded"),
        (("sh", "-c", "exit 7"), 7, "failed"),
        (("sh", "-c", "kill -9 $$"), 137, "failed"),
        (("no-such-command",), 127, "failed"),
        (("/etc/passwd",), 126, "failed"),
    ],
)
def test_the_exit_code_is_that_of_the_command(
    box: Installation, command: tuple[str, ...], code: int, outcome: str
) -> None:
    done = box.run("exec", "--name", "it", "--", *command)

    assert done.exit_code() == code, done.log
    row = newest(box, "it")
    assert (row.outcome, row.exit_code, row.trigger, row.host, row.tick) == (outcome, code, "exec", "box", None)
    assert row.signal == ("SIGKILL" if code == 137 else None)
    assert (done.log != "") == (code in (126, 127))


def test_a_command_knows_its_run(box: Installation) -> None:
    words = "echo $CRONQ_JOB $CRONQ_RUN_ID $CRONQ_HOST $CRONQ_FENCE $COLOUR; pwd"

    done = box.run("exec", "--name", "it", "--env", "COLOUR=red", "--cwd", "/usr", "--", "sh", "-c", words)

    row = newest(box, "it")
    assert done.output == f"it {row.run_id} box {row.fence} red\n/usr\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "the command is missing"),
        (("--", ""), 78, "the command is missing"),
        (("--", "/"), 78, "has no base name"),
        (("--env", "1=2", "--", "true"), 78, "not the name of a variable"),
        (("--run-as", "0", "--", "true"), 78, "not the name of a user"),
        (("--name", "a b", "--", "true"), 78, "the name 'a b'"),
        (("--name", "a:b", "--", "true"), 78, "the name 'a:b'"),
        (("--name", "x" * 513, "--", "true"), 78, "the name 'xxx"),
        (("--", "./odd name"), 78, "the name 'odd name'"),
        (("--no-lock", "--wait", "1s", "--", "true"), 2, "--no-lock"),
        (("--timeout", "soon", "--", "true"), 2, "'soon' is not a duration"),
        (("--env", "COLOUR", "--", "true"), 2, "--env NAME=VALUE"),
    ],
)
def test_what_is_wrong_is_said_before_redis_is_asked(
    box: Installation, words: tuple[str, ...], code: int, said: str
) -> None:
    done = box.run("exec", *words, CRONQ_REDIS_URL="redis://127.0.0.1:1")

    assert done.exit_code() == code
    assert said in done.log
    assert len(done.log.splitlines()) == 1


# One at a time


def test_of_twenty_at_once_one_runs(box: Installation) -> None:
    words = "echo x >> f; while [ ! -e end ]; do sleep 0.01; done"
    all_ = [
        box.start("exec", "--name", "n", "--", "sh", "-c", words, CRONQ_HOST_ID=f"box-{number}") for number in range(20)
    ]
    until(lambda: sum(each.is_running for each in all_) == 1, 60, what="nineteen that have found the lock busy")
    (box.directory / "end").touch()

    assert [each.exit_code(60) for each in all_] == [0] * 20
    assert (box.directory / "f").read_text() == "x\n"
    assert [each.log for each in all_] == [""] * 20
    assert len(box.app.history("n")) == 1


def test_who_finds_the_lock_busy_ends_quietly_or_with_a_code_and_the_holder(box: Installation) -> None:
    holder = box.start("exec", "--name", "n", "--", "sh", "-c", "touch go; sleep 30")
    begun(box, holder, "go")

    quiet = box.run("exec", "--name", "n", "--", "touch", "no")
    told = box.run("exec", "--name", "n", "--busy-exit-code", "75", "--", "touch", "no")
    loud = box.run("exec", "--name", "n", "-v", "--", "touch", "no")

    assert (quiet.exit_code(), quiet.log, quiet.output) == (0, "", "")
    run_id = newest(box, "n").run_id
    why = f"cronq: n: not run: the lock 'n' is held by {run_id} on box (pid {holder.pid})\n"
    assert (told.exit_code(), told.log) == (75, why)
    assert (loud.exit_code(), loud.log) == (0, why)
    assert not (box.directory / "no").exists()
    assert len(box.app.history("n")) == 1


def test_a_job_and_exec_of_the_same_name_exclude_each_other(box: Installation) -> None:
    with box.app.lock("n"):
        assert box.run("exec", "--name", "n", "--busy-exit-code", "75", "--", "true").exit_code() == 75
    assert box.run("exec", "--name", "n", "--busy-exit-code", "75", "--", "true").exit_code() == 0


@pytest.mark.timing
def test_who_waits_gets_the_lock_as_soon_as_it_is_free(box: Installation) -> None:
    holder = box.start("exec", "--name", "n", "--", "sh", "-c", "touch go; while [ ! -e end ]; do sleep 0.01; done")
    begun(box, holder, "go")
    waiter = box.start("exec", "--name", "n", "--wait", "60s", "--", "touch", "mine")
    until(lambda: _blocked(box) == 1, what=lambda: waiter.log)

    (box.directory / "end").touch()
    freed = time.monotonic()
    until((box.directory / "mine").exists, what=lambda: waiter.log)

    assert time.monotonic() - freed < 1.0
    assert waiter.exit_code() == 0


def _blocked(box: Installation) -> int:
    info: dict[str, int] = box.client.info("clients")  # type: ignore[assignment]
    return info["blocked_clients"]


def test_who_has_waited_long_enough_gives_up(box: Installation) -> None:
    holder = box.start("exec", "--name", "n", "--", "sh", "-c", "touch go; sleep 30")
    begun(box, holder, "go")

    late = box.run("exec", "--name", "n", "--wait", "0.5s", "--busy-exit-code", "3", "--", "touch", "no")

    assert late.exit_code() == 3
    assert not (box.directory / "no").exists()


def test_slots_let_so_many_run(box: Installation) -> None:
    words = "touch begun-$$; while [ ! -e end ]; do sleep 0.01; done"
    first = [box.start("exec", "--name", "n", "--slots", "3", "--", "sh", "-c", words) for _ in range(3)]
    until(lambda: len(list(box.directory.glob("begun-*"))) == 3, what=lambda: first[0].log)

    assert box.run("exec", "--name", "n", "--slots", "3", "--busy-exit-code", "3", "--", "true").exit_code() == 3
    waiter = box.start("exec", "--name", "n", "--slots", "3", "--wait", "60", "--busy-exit-code", "3", "--", "true")
    assert sorted(lock.name for lock in box.app.locks()) == ["n", "n/2", "n/3"]
    (box.directory / "end").touch()
    assert [each.exit_code() for each in (*first, waiter)] == [0] * 4


def test_per_host_lets_one_run_on_each(box: Installation) -> None:
    for words in (("--name", "n", "--per-host"), ("--name", "n-{host}")):
        holder = box.start("exec", *words, "--", "sh", "-c", "touch go; sleep 30", CRONQ_HOST_ID="a.example")
        begun(box, holder, "go")
        codes = {
            host: box.run("exec", *words, "--busy-exit-code", "3", "--", "true", CRONQ_HOST_ID=host).exit_code()
            for host in ("a.example", "b.example")
        }
        assert codes == {"a.example": 3, "b.example": 0}
        holder.terminate()
        holder.exit_code()
        (box.directory / "go").unlink()


def test_without_a_lock_all_run(box: Installation) -> None:
    words = "touch begun-$$; while [ ! -e end ]; do sleep 0.01; done"
    both = [box.start("exec", "--no-lock", "--name", "n", "--", "sh", "-c", words) for _ in range(2)]

    until(lambda: len(list(box.directory.glob("begun-*"))) == 2, what=lambda: both[0].log)
    assert box.app.locks() == []
    (box.directory / "end").touch()
    assert [each.exit_code() for each in both] == [0, 0]


def test_a_lock_is_kept_for_its_least_time_though_the_command_has_ended(box: Installation) -> None:
    done = box.run("exec", "--name", "n", "--min-hold", "1h", "--", "true")

    assert done.exit_code() == 0
    assert box.run("exec", "--name", "n", "--busy-exit-code", "3", "--", "true").exit_code() == 3
    (held,) = box.app.locks()
    assert held.expires_in_s is not None
    assert 3500 < held.expires_in_s <= 3600
    assert newest(box, "n").outcome == "succeeded"


def test_a_busy_host_stands_back(box: Installation) -> None:
    done = box.run("exec", "--name", "n", "--max-load", "0", "--busy-exit-code", "3", "--", "touch", "no")

    if done.exit_code() == 0:
        pytest.skip("this host has no load at all")
    assert done.exit_code() == 3
    assert "the load of this host is" in done.log
    assert not (box.directory / "no").exists()


def test_a_lock_on_one_host_needs_no_redis(box: Installation) -> None:
    away, name = {"CRONQ_REDIS_URL": "redis://127.0.0.1:1"}, f"test-{secrets.token_hex(8)}"
    words = ("exec", "--local-lock", "--name", name, "--busy-exit-code", "3")
    holder = box.start(*words, "--", "sh", "-c", "touch go; sleep 30", **away)
    begun(box, holder, "go")

    otherwise = {"XDG_RUNTIME_DIR": str(box.directory), "TMPDIR": str(box.directory)}  # as in another session
    assert box.run(*words, "--", "true", **away, **otherwise).exit_code() == 3
    below = descendants(holder.pid)
    holder.kill9()
    until(lambda: not any(map(is_alive, below)), within_s=2, what="the processes of one that was killed")
    assert box.run(*words, "--wait", "5s", "--", "sh", "-c", "exit 7", **away).exit_code() == 7
    (lock_directory() / f"{name}.lock").unlink()


# On which host


def test_a_command_runs_on_hosts_of_its_group_alone(box: Installation) -> None:
    box.app.set_group("mail", ["box1", "nested"])
    box.app.set_group("nested", ["box2", "mail"])
    words = ("exec", "--name", "n", "--group", "mail", "--busy-exit-code", "3", "--")

    ran = {
        host: (done.exit_code(), done.output, done.log)
        for host in ("box1", "box2", "box3")
        for done in [box.run(*words, "echo", "ran", CRONQ_HOST_ID=host)]
    }

    here, elsewhere = (0, "ran\n", ""), (0, "", "")
    assert ran == {"box1": here, "box2": here, "box3": elsewhere}
    assert sorted(run.host or "" for run in box.app.history("n")) == ["box1", "box2"]
    loud = box.run("exec", "-v", "--group", "mail", "--", "true", CRONQ_HOST_ID="box3")
    assert loud.log == "cronq: true: not run: this host, box3, is not in the group 'mail'\n"


def test_an_empty_group_runs_nowhere_and_one_that_is_not_there_is_an_error(box: Installation) -> None:
    box.app.set_group("off", [])

    assert box.run("exec", "--group", "off", "--", "touch", "no").exit_code() == 0
    typo = box.run("exec", "--group", "typo", "--", "touch", "no")

    assert (typo.exit_code(), typo.log) == (78, "cronq: there is no group 'typo'; see `cronq group list`\n")
    assert not (box.directory / "no").exists()
    assert box.app.guarded.names() == []


@pytest.mark.timing
@pytest.mark.parametrize("how", ["moved", "emptied", "removed"])
def test_a_command_is_stopped_when_its_host_leaves_the_group(box: Installation, how: str) -> None:
    box.app.set_group("mail", ["box"])
    words = "trap 'touch told; exit 0' TERM; touch go; sleep 60 & wait"
    process = box.start("exec", "--name", "n", "--group", "mail", "--", "sh", "-c", words)
    begun(box, process, "go")
    box.app.set_group("mail", ["box", "other"])  # disturbs nobody
    changed = time.monotonic()

    if how == "removed":
        box.app.remove_groups(["mail"])
    else:
        box.app.set_group("mail", ["other"] if how == "moved" else [])

    until((box.directory / "told").exists, within_s=3, what=lambda: process.log)
    assert time.monotonic() - changed < 2.0
    assert process.exit_code() == 0  # its own, for it ended by itself
    row = newest(box, "n")
    assert (row.outcome, row.reason, row.decided_by) == ("stopped", "this host left the group 'mail'", "the groups")


# How it is ended


@pytest.mark.parametrize(
    ("number", "words", "code"),
    [
        (signal.SIGTERM, "touch go; sleep 60 & wait", 143),
        (signal.SIGINT, "touch go; sleep 60 & wait", 130),
        (signal.SIGHUP, "touch go; sleep 60 & wait", 129),
        (signal.SIGTERM, "trap 'exit 5' TERM; touch go; sleep 60 & wait", 5),
        (signal.SIGTERM, "trap 'exit 0' TERM; touch go; sleep 60 & wait", 0),
        (signal.SIGINT, "trap 'exit 6' INT; touch go; sleep 60 & wait", 6),
    ],
)
def test_a_signal_ends_the_command_and_all_it_has_started(
    box: Installation, number: signal.Signals, words: str, code: int
) -> None:
    process = box.start("exec", "--name", "n", "--", "sh", "-c", words)
    begun(box, process, "go")
    below = until(lambda: found if len(found := descendants(process.pid)) >= 3 else None)

    process.signal(number)

    assert process.exit_code() == code, process.log
    assert not any(map(is_alive, below))
    assert box.app.locks() == []
    row = newest(box, "n")
    assert (row.outcome, number.name in (row.reason or "")) == ("stopped", True)


def test_a_command_that_heeds_no_signal_is_killed_after_its_grace(box: Installation) -> None:
    process = box.start("exec", "--name", "n", "--grace", "1s", "--", "sh", "-c", "trap '' TERM; touch go; sleep 60")
    begun(box, process, "go")
    told = time.monotonic()

    process.terminate()

    assert process.exit_code() == 143
    assert time.monotonic() - told > 0.9
    assert newest(box, "n").signal == "SIGKILL"


def test_other_signals_are_passed_on(box: Installation) -> None:
    words = "trap 'touch heard' USR1; touch go; while [ ! -e heard ]; do sleep 0.01; done; exit 9"
    process = box.start("exec", "--", "sh", "-c", words)
    begun(box, process, "go")

    process.signal(signal.SIGUSR1)

    assert process.exit_code() == 9


def test_a_command_that_takes_too_long_is_timed_out(box: Installation) -> None:
    done = box.run("exec", "--name", "n", "--timeout", "0.5s", "--", "sleep", "60")

    row = newest(box, "n")
    assert (done.exit_code(), row.outcome) == (124, "timed_out")
    assert done.log == f"cronq: {row.run_id} timed_out: it ran longer than its timeout of 0.5s\n"


def test_a_run_is_stopped_by_name_from_anywhere(box: Installation) -> None:
    process = box.start("exec", "--name", "n", "--", "sh", "-c", "touch go; sleep 60")
    begun(box, process, "go")

    assert box.app.stop("n") == [newest(box, "n").run_id]

    assert process.exit_code(5) == 143
    assert newest(box, "n").outcome == "stopped"
    assert box.app.stop("n") == []


@pytest.mark.timing
def test_nothing_outlives_one_that_is_killed_and_its_lock_ends_with_its_ttl(box: Installation) -> None:
    words = "touch go; setsid sleep 60 & sleep 60"
    process = box.start("exec", "--name", "n", "--", "sh", "-c", words)
    begun(box, process, "go")
    below = until(lambda: found if len(found := descendants(process.pid)) >= 4 else None)

    process.kill9()

    until(lambda: not any(map(is_alive, below)), within_s=1, what="the processes of one that was killed")
    killed = time.monotonic()
    other = box.run("exec", "--name", "n", "--wait", "30", "--", "true")
    assert other.exit_code() == 0
    assert time.monotonic() - killed < 3.0 + 2.0  # the ttl, and the start of a process


def test_one_that_was_killed_is_lost_in_the_end_though_there_is_no_beat(box: Installation) -> None:
    process = box.start("exec", "--name", "n", "--no-lock", "--", "sh", "-c", "touch go; sleep 60")
    begun(box, process, "go")
    (run_id,) = box.app.runs.active(["n"])["n"]
    process.kill9()
    box.client.zincrby("cronq:running", -60, run_id)  # a minute later

    assert box.run("exec", "--name", "n", "--", "true").exit_code() == 0

    row = box.row(run_id)
    assert (row.outcome, "was not heard of" in (row.reason or "")) == ("lost", True)
    assert box.app.runs.active(["n"])["n"] == {}


# When the lock is lost, or Redis


@pytest.mark.timing
@pytest.mark.parametrize("how", ["deleted", "released"])
def test_a_lock_that_is_taken_away_ends_the_command(box: Installation, how: str) -> None:
    process = box.start("exec", "--name", "n", "--", "sh", "-c", "touch go; sleep 60")
    begun(box, process, "go")
    taken = time.monotonic()

    if how == "deleted":
        box.client.delete("lock:cronq:n")
    else:
        assert box.app.release_lock("n", note="wedged") == newest(box, "n").run_id

    assert process.exit_code(5) == 76
    assert time.monotonic() - taken < 2.5
    row = newest(box, "n")
    assert row.outcome == "lost"
    assert ("its key is gone" if how == "deleted" else f"{box.app.who} released it by force") in (row.reason or "")


def test_without_redis_nothing_begins(box: Installation) -> None:
    done = box.run("exec", "--busy-exit-code", "75", "--", "touch", "no", CRONQ_REDIS_URL="redis://127.0.0.1:1")

    assert done.exit_code() == 69
    assert "cannot reach Redis at redis://127.0.0.1:1" in done.log
    assert not (box.directory / "no").exists()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Installation, RedisServer]]:
    """An installation with a Redis of its own, that may be stopped."""
    server = RedisServer()
    try:
        with installation(server.url, tmp_path / "box", CRONQ_LOCK_TTL="4s", CRONQ_LOST_AFTER="3s") as made:
            yield made, server
    finally:
        server.stop()


@pytest.mark.timing
def test_a_short_outage_of_redis_disturbs_nothing(alone: tuple[Installation, RedisServer]) -> None:
    box, server = alone
    process = box.start("exec", "--name", "n", "--", "sh", "-c", "touch go; while [ ! -e end ]; do sleep 0.01; done")
    begun(box, process, "go")

    server.pause()
    time.sleep(0.6 * 4)  # the outage itself
    server.resume()

    (box.directory / "end").touch()
    assert process.exit_code() == 0, process.log
    assert newest(box, "n").outcome == "succeeded"


@pytest.mark.timing
def test_a_long_outage_ends_the_command_before_another_may_start(alone: tuple[Installation, RedisServer]) -> None:
    box, server = alone
    process = box.start("exec", "--name", "n", "--", "sh", "-c", "touch go; sleep 60")
    begun(box, process, "go")
    below = descendants(process.pid)

    server.pause()
    until(lambda: not any(map(is_alive, below)), within_s=4, what="the work, while Redis is away")
    server.resume()

    assert process.exit_code() == 76, process.log
    row = newest(box, "n")
    assert (row.outcome, "its lock 'n' was lost: " in (row.reason or "")) == ("lost", True)


# What it leaves


def test_a_guarded_run_leaves_its_row_and_nothing_of_rq(box: Installation) -> None:
    before = {key.decode() for key in box.client.keys("*")} - {"cronq:events"}
    box.run("exec", "--name", "n", "--", "sh", "-c", "exit 3")
    box.run("exec", "--name", "n", "--", "true")

    until(lambda: not box.client.exists("lock-signal:cronq:n"))  # for a second
    keys = {key.decode() for key in box.client.keys("*")} - before
    rows = {f"cronq:run:{run.run_id}" for run in box.app.history("n")}
    assert len(rows) == 2
    assert keys == rows | {"cronq:job:n:manual", "cronq:events", "cronq:fence:n", "cronq:guarded"}
    assert all(box.client.ttl(key) > 0 for key in [*rows, "cronq:job:n:manual", "cronq:fence:n"])
    assert [run.run_id for run in box.app.history_of_all()] == [run.run_id for run in box.app.history("n")]


def test_once_takes_a_lock_for_a_fixed_time(box: Installation) -> None:
    words = ("once", "mail", "--window", "1h")

    assert [box.run(*words).exit_code() for _ in range(2)] == [0, 1]
    assert box.run(*words, "-v").log == "cronq: mail is taken by box\n"
    (held,) = box.app.locks()
    assert (held.name, held.host, held.run_id) == ("mail", "box", None)
    assert held.expires_in_s is not None
    assert 3500 < held.expires_in_s <= 3600
    box.client.pexpire("lock:cronq:mail", 1)
    until(lambda: box.app.locks() == [])
    assert box.run(*words).exit_code() == 0
