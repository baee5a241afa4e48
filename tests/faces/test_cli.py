"""What a person meets on the command line: answers, refusals, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from redis import Redis
from redis.connection import AbstractConnection
from rq.registry import FailedJobRegistry

from cronq import Cronq
from cronq.cli.output import left, moment
from cronq.cli.verbs import NOT_BUILT, VERBS, cli
from cronq.config import Config
from cronq.jobs.pause import Pause
from cronq.jobs.spec import NOT_BUILT as OPTIONS_NOT_BUILT
from cronq.jobs.spec import make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.run import Ending, Settlement, Start
from cronq.timetext import iso, parse_duration_s
from cronq.timetext import parse_instant as utc_s
from tests.conftest import RedisServer
from tests.faces.conftest import Answer, pass_at

Cli = Callable[..., Answer]
NOBODY = "redis://:secret@127.0.0.1:1/0"
#: A call of every verb that talks to Redis, for a job that is there.
CALLS = [
    ["list"], ["show", "tidy"], ["next"], ["next", "tidy"], ["history", "tidy"], ["beats"], ["workers"],
    ["run", "tidy"], ["stop", "tidy"], ["pause", "tidy"], ["resume", "tidy"], ["add", "tidy", "--", "true"],
    ["mark-success", "tidy"], ["reset", "tidy"], ["rm", "tidy"], ["run-due"], ["delayed"],
    ["run", "tidy", "--in", "5m"],
]  # fmt: skip


def wait_until(seen: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A `cronq` process with its stderr in a pipe, ended at the end."""
    popen = subprocess.Popen(
        [sys.executable, "-m", "cronq", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield popen
    finally:
        popen.terminate()
        try:
            popen.wait(15)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
        for pipe in (popen.stdout, popen.stderr):
            assert pipe is not None
            pipe.close()


def read_until(popen: subprocess.Popen[str], words: str) -> str:
    """The stderr of *popen* up to the line that holds *words*."""
    assert popen.stderr is not None
    lines = []
    for line in popen.stderr:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"it ended without {words!r}: {''.join(lines)}")


# Help


def test_help_names_every_verb_in_one_line(cronq: Cli) -> None:
    answer = cronq("--help")

    assert answer.code == 0
    lines = answer.out.splitlines()
    for verb, (_, words) in VERBS.items():
        assert any(line.split()[:1] == [verb] and line.endswith(words) for line in lines), verb


def _commands() -> Iterator[tuple[str, click.Command]]:
    with click.Context(cli) as ctx:
        for verb in VERBS:
            command = cli.get_command(ctx, verb)
            assert command is not None
            yield verb, command
            if isinstance(command, click.Group):
                yield from ((f"{verb} {name}", each) for name, each in command.commands.items())


@pytest.mark.parametrize(("verb", "command"), list(_commands()))
def test_every_verb_and_each_of_its_options_is_explained(cronq: Cli, verb: str, command: click.Command) -> None:
    answer = cronq(*verb.split(), "--help")

    assert answer.code == 0
    assert f"cronq {verb}" in answer.out
    assert command.help
    assert len(command.help.splitlines()[0]) > 20
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{verb} {option.opts}"


def test_help_comes_within_150_ms() -> None:
    """Counted in processor time and at its best of twenty, so that a busy machine does not decide."""

    def spent_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "cronq", "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(spent_s() < 0.15 for _ in range(20))


# Slips of the keyboard


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("lsit", "there is no verb 'lsit'; did you mean 'list'?"),
        ("frobnicate", "there is no verb 'frobnicate'; see `cronq --help`"),
        ("list --jsn", "'--json'?"),
        ("show", "missing argument 'NAME'"),
        ("next -n many", "'many' is not a valid integer"),
        ("pause tidy --until soon", "neither a span (2h, 30m, 1d) nor a time"),
        ("pause tidy --until 2020-01-01", "is in the past"),
        ("explain @daily --from noon", "write 2026-11-21T07:00"),
        ("run tidy --arg x", "'x' is not NAME=VALUE"),
        ("add tidy", "the command is missing; it stands after --"),
        ("add tidy find -mtime 3", "what belongs to the command stands after --"),
        ("add tidy --shell -- a b", "with --shell the command is one text"),
        ("sync", "name the modules that define jobs"),
        ("check-config", "name the modules that define jobs"),
        ("dev", "name the modules with your jobs"),
        ("worker -n 0", "1<=x<=256"),
        ("stop", "cronq stop NAME|RUN, cronq stop --queue QUEUE"),
        ("stop tidy --queue default", "cronq stop NAME|RUN, cronq stop --queue QUEUE"),
        ("stop tidy --older 1h", "--older and --note belong to --queue"),
        ("stop --queue default --older soon", "'soon' is not a duration"),
    ],
)
def test_a_slip_is_one_line_that_says_what_to_do(here: Path, cronq: Cli, app: Cronq, words: str, hint: str) -> None:
    app.add("tidy", command=["true"])

    answer = cronq(*words.split())

    assert answer.code == 2
    assert hint in answer.complaint
    assert answer.out == ""


@pytest.mark.parametrize("verb", NOT_BUILT)
def test_a_planned_verb_is_refused_by_name(cronq: Cli, verb: str) -> None:
    answer = cronq(verb, "--whatever")

    assert answer.code == 2
    assert f"the verb {verb!r} is not part of this version yet" in answer.complaint


@pytest.mark.parametrize("option", [name for name in OPTIONS_NOT_BUILT if name != "serializer"])
def test_a_planned_option_of_a_job_is_refused_by_name(cronq: Cli, option: str) -> None:
    flag = f"--{option.replace('_', '-')}"

    answer = cronq("add", "tidy", flag, "1", "--", "true")

    assert answer.code == 2
    assert f"the option {flag} is not part of this version yet" in answer.complaint


@pytest.mark.parametrize("verb", ["show", "next", "history", "run", "stop", "pause", "resume", "rm"])
def test_an_unknown_job_is_met_with_the_name_that_was_meant(here: Path, cronq: Cli, app: Cronq, verb: str) -> None:
    app.add("tidy", command=["true"])

    answer = cronq(verb, "tdiy")

    assert answer.code == 2
    assert "there is no job 'tdiy'; did you mean 'tidy'?" in answer.complaint


def test_a_file_name_instead_of_a_module_is_understood(cronq: Cli) -> None:
    answer = cronq("check-config", "tasks/jobs.py")

    assert answer.code == 78
    assert answer.complaint.endswith("is a path; name the module, as in an import: tasks.jobs")


# Settings and Redis


@pytest.mark.parametrize("words", [*CALLS, ["check-config", "json"], ["config"], ["explain", "@daily"]])
def test_url_and_prefix_stand_before_or_after_the_verb(cronq: Cli, redis_url: str, words: list[str]) -> None:
    app = Cronq(config=Config(url=redis_url, prefix="mine"))
    app.add("tidy", command=["true"])
    place = ["--url", redis_url, "--prefix", "mine"]
    options, command = (words, []) if "--" not in words else (words[:2], words[2:])

    before, after = cronq(*place, *words), cronq(*options, *place, *command)

    # It is gone the second time; and no tick of it has come that could be marked.
    expected = {"rm": (0, 2), "mark-success": (2, 2)}.get(words[0], (0, 0))
    assert (before.code, after.code) == expected, before.err + after.err
    app.client.close()


@pytest.mark.parametrize("words", CALLS)
def test_without_redis_every_verb_ends_with_69_and_one_line(
    cronq: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", NOBODY)

    answer = cronq(*words)

    assert answer.code == 69
    assert answer.complaint.startswith("cronq: cannot reach Redis at redis://:***@127.0.0.1:1/0 (from REDIS_URL)")
    assert "`cronq dev`" in answer.complaint


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("localhost:6379", "starts with redis://, rediss://"),
        ("redis://host:port/0", "Port could not be cast"),
        ("redis://host/0?colour=blue", "colour"),
    ],
)
def test_a_bad_url_is_bad_configuration(cronq: Cli, url: str, problem: str) -> None:
    answer = cronq("list", "--url", url)

    assert answer.code == 78
    assert problem in answer.complaint


def test_a_wrong_password_is_bad_configuration_and_does_not_show(cronq: Cli, redis_server: RedisServer) -> None:
    with Redis.from_url(redis_server.url) as client:
        client.config_set("requirepass", "right")

    answer = cronq("list", "--url", redis_server.url + "?password=wrong")

    assert answer.code == 78
    assert "refused the login" in answer.complaint
    assert "wrong" not in answer.complaint.replace("wrong number", "")


def test_debug_shows_the_traceback_as_well(cronq: Cli) -> None:
    answer = cronq("list", "--url", NOBODY, "--debug")

    assert answer.code == 69
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("cronq: cannot reach Redis")


def test_an_error_of_ours_is_one_line_too(cronq: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cronq.config.Config.load", lambda **_: 1 / 0)

    answer = cronq("list")

    assert answer.code == 1
    assert "internal error: ZeroDivisionError: division by zero; --debug shows" in answer.complaint


def test_config_says_where_each_setting_came_from(cronq: Cli, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "pyproject.toml").write_text('[tool.cronq]\njobs = ["jobs"]\nlock_ttl = "1m"\n')
    monkeypatch.setenv("CRONQ_REDIS_URL", NOBODY)

    answer = cronq("config", "--prefix", "mine")

    rows = {line.split()[0]: line for line in answer.out.splitlines()}
    assert answer.code == 0
    assert "***" in rows["url"]
    assert "environment CRONQ_REDIS_URL" in rows["url"]
    assert "command line" in rows["prefix"]
    assert "pyproject.toml" in rows["lock_ttl"]
    assert "CRONQ_LOCK_TTL" in rows["lock_ttl"]
    assert "30d" in rows["keep_rows_for"]


def test_a_beat_refuses_a_redis_that_evicts_unless_told_otherwise(bare: Path, redis_server: RedisServer) -> None:
    with Redis.from_url(redis_server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")

    with process("beat", "--url", redis_server.url) as refused:
        assert refused.wait(20) == 78
        assert refused.stderr is not None
        assert "maxmemory-policy noeviction" in refused.stderr.read().splitlines()[-1]
    with process("beat", "--url", redis_server.url, "--allow-eviction") as allowed:
        assert "REDIS maxmemory-policy" in read_until(allowed, "START-UP")


def test_beat_and_worker_wait_for_a_redis_that_is_not_there_yet(bare: Path, redis_server: RedisServer) -> None:
    redis_server.kill9()

    with process("beat", "--url", redis_server.url) as beat, process("worker", "--url", redis_server.url) as worker:
        read_until(beat, "TROUBLE cannot reach Redis")
        read_until(worker, "TROUBLE cannot reach Redis")
        redis_server.start()
        read_until(beat, "START-UP beat")
        read_until(worker, "START-UP worker")


# Looking at jobs


def test_an_empty_redis_says_what_to_do(here: Path, cronq: Cli) -> None:
    for words, hint in (("list", "cronq add"), ("beats", "cronq beat"), ("workers", "cronq worker")):
        answer = cronq(words)
        assert (answer.code, answer.out) == (0, "")
        assert hint in answer.complaint


def test_list_shows_every_job_in_columns_with_its_schedule_and_zone(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("invoices", command=["true"], cron="0 7 * * *", tz="Asia/Tokyo", description="Send them\nall")
    app.add("by-hand", command=["true"])

    answer = cronq("list")

    head, invoices, by_hand = answer.out.splitlines()
    assert head.split() == ["NEXT", "LEFT", "LAST", "OUTCOME", "STATUS", "NAME", "SCHEDULE", "DESCRIPTION"]
    assert "07:00 JST" in invoices
    assert invoices.endswith("0 7 * * * Asia/Tokyo  Send them")
    assert "22:00 UTC" in cronq("list", "--utc").out
    assert by_hand.split() == ["-", "-", "-", "-", "never", "by-hand", "(by", "hand)", "true"], "it says what it runs"
    assert answer.err == "", "a pipe is not talked to"


def test_pausing_reads_the_job_and_the_time_once(here: Path, cronq: Cli, app: Cronq, redis: Redis) -> None:
    app.add("tidy", command=["true"], every="1h")
    redis.config_resetstat()

    assert cronq("pause", "tidy").code == 0

    calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in redis.info("commandstats").items()}
    assert calls["time"] == 1
    assert calls["zscore"] == 1, "the job's place on the agenda, read with the job"


def test_a_person_at_a_terminal_is_told_which_process_is_missing(here: Path, app: Cronq) -> None:
    app.add("tidy", command=["true"], every="1h")
    ours, theirs = pty.openpty()

    done = subprocess.run(
        [sys.executable, "-m", "cronq", "list"], stdout=theirs, stderr=subprocess.PIPE, text=True, check=False
    )

    os.close(theirs)
    os.close(ours)
    assert "no beat is alive: start one with `cronq beat`" in done.stderr
    assert "no worker is alive" in done.stderr


def test_a_person_at_a_terminal_is_told_what_is_paused_or_drained_and_how_that_ends(here: Path, app: Cronq) -> None:
    app.add("tidy", command=["true"], every="1h")
    app.pause_queue("nights", note="the printer burns")
    app.drain()
    ours, theirs = pty.openpty()

    done = subprocess.run(
        [sys.executable, "-m", "cronq", "list"], stdout=theirs, stderr=subprocess.PIPE, text=True, check=False
    )

    os.close(theirs)
    os.close(ours)
    queue, workers = done.stderr.splitlines()[-2:]
    words = f"cronq: the queue nights is paused, held by {app.who}: the printer burns"
    assert queue == f"{words}; `cronq resume --queue nights` ends it"
    assert workers == f"cronq: all workers are drained, held by {app.who}; `cronq drain --end` ends it"


def test_a_queue_or_a_host_that_nobody_has_may_be_a_slip_and_is_told(cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["true"], every="1h", queue="reports")
    app.enqueue("tidy")
    slip = "no worker serves the queue 'reprots', and nothing was ever put there; did you mean 'reports'?"

    paused, stopped = cronq("pause", "--queue", "reprots"), cronq("stop", "--queue", "reprots")
    drained = cronq("drain", "lapptop")

    assert (paused.code, stopped.code, drained.code) == (0, 0, 0)
    assert paused.err.splitlines()[1:] == [f"cronq: {slip}"]
    assert stopped.err.splitlines() == ["cronq: no run stands in the queue reprots", f"cronq: {slip}"]
    assert drained.err.splitlines()[1:] == ["cronq: no worker runs on the host 'lapptop'"]
    assert len(cronq("pause", "--queue", "reports").err.splitlines()) == 1


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ("{", "the stored spec is damaged"),
        ('{"name":"hurt","command":["true"],"every":60,"tz":"Mars/Olympus"}', "'Mars/Olympus' is not a time zone"),
        ('{"name":"hurt","command":["true"],"every":60,"grace":NaN}', "NaN is no number"),
        ('{"name":"fine","command":["true"],"every":60}', "it is that of 'fine'"),
        ('{"name":"hurt","command":["true"],"every":60,"patience":3}', "a newer cronq stored it (with 'patience'"),
    ],
)
def test_a_job_that_cannot_be_read_hides_no_other(
    here: Path, cronq: Cli, app: Cronq, redis: Redis, planted: str, words: str
) -> None:
    for name in ("fine", "hurt"):
        app.add(name, command=["true"], every="1h")
    redis.hset(app.keys.job("hurt"), "spec", planted)

    for verb in (["list"], ["list", "--json"], ["next"]):
        answer = cronq(*verb)
        assert answer.code == 0
        assert "fine" in answer.out
        [said] = [line for line in answer.complaint.splitlines() if "hurt" in line]
        assert words in said
    shown = cronq("show", "hurt")
    assert shown.code == 78
    assert words in shown.complaint


def test_a_terminal_that_is_no_utf_8_is_answered_too(here: Path, app: Cronq) -> None:
    app.add("zurich", command=["true"], every="1h", description="Z\u00fcrich \u2603")
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    for words in (["show", "zurich"], ["list"], ["graph"], ["why", "zurich"]):
        call = [sys.executable, "-m", "cronq", *words]
        done = subprocess.run(call, env=os.environ | plain, capture_output=True, timeout=60)
        assert (done.returncode, b"error" in done.stderr) == (0, False), done.stderr


def test_what_somebody_wrote_into_a_note_cannot_talk_to_the_terminal(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["true"], every="1h")
    app.pause("tidy", note="red \x1b[31m alert\nsecond line")

    for verb in (["list"], ["show", "tidy"]):
        shown = cronq(*verb).out
        assert "\x1b" not in shown
        assert "alert second line" in shown


def test_show_tells_the_pause_and_next_marks_its_ticks(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["find", "/tmp/a b"], cron="0 7 * * *", owner="ann", runbook="https://wiki/tidy")

    paused = cronq("pause", "tidy", "--note", "move to db2", "--until", "2d")

    assert paused.code == 0
    assert "tidy paused until" in paused.complaint
    shown = cronq("show", "tidy").out
    for words in ("find '/tmp/a b'", "At 07:00 every day", "move to db2", "ann", "https://wiki/tidy", "added by"):
        assert words in shown
    ticks = cronq("next", "tidy", "-n", "3").out.splitlines()[1:]
    assert [line.endswith("paused") for line in ticks] == [True, True, False]
    assert "tidy resumed; next" in cronq("resume", "tidy").complaint
    assert "was not paused" in cronq("resume", "tidy").complaint


def test_next_of_a_job_without_a_schedule_says_so(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("by-hand", command=["true"])

    assert "runs only by hand" in cronq("next", "by-hand").complaint


def test_explain_speaks_of_clock_changes_and_needs_no_redis(bare: Path) -> None:
    script = (
        "import sys; from cronq.cli import main\n"
        "sys.argv = ['cronq', 'explain', '30 2 * * *', '--tz', 'Europe/Berlin', '--from', '2026-11-21', '-n', '2']\n"
        "try: main()\n"
        "except SystemExit as leaving: print(leaving.code, {'redis', 'rq'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert out.splitlines()[0] == "At 02:30 every day, Europe/Berlin"
    assert "2026-11-21T01:30:00Z" in out
    assert "2027-03-28 02:00 to 03:00 does not exist in Europe/Berlin: 02:30 runs once, at 03:00" in out
    assert out.splitlines()[-1] == "0 set()", "nothing of Redis was even imported"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["61 * * * *"], "minute 61 is outside 0-59"),
        (["0 0 31 2 *"], "day of month 31"),
        (["* * * *"], "has 4 fields"),
        (["0", "7", "jobs.py", "x.toml", "y", "z", "1-5"], "is it quoted?"),
        (["@daily", "--tz", "Europe/Berln"], "did you mean Europe/Berlin"),
        (["@daily", "--dst", "debain"], "did you mean debian"),
    ],
)
def test_explain_refuses_what_means_nothing(cronq: Cli, words: list[str], problem: str) -> None:
    answer = cronq("explain", *words)

    assert answer.code == 78
    assert problem in answer.complaint


def test_a_reader_that_goes_away_is_met_with_silence(here: Path, app: Cronq) -> None:
    for number in range(1500):  # more than a pipe holds
        app.add(f"job-{number:04}", command=["true"], cron="0 7 * * *", description="x" * 60)

    done = subprocess.run(
        ["bash", "-c", '"$0" -m cronq list | head -1', sys.executable], capture_output=True, text=True, check=False
    )

    assert done.stdout.startswith("NEXT")
    assert done.stderr == ""


# Changing jobs


def test_adding_a_command_twice_changes_nothing(here: Path, cronq: Cli) -> None:
    words = ["add", "tidy", "--every", "1h", "--tag", "files", "--keep", "50", "--", "find", "/tmp", "-mtime", "+7"]

    first, second = cronq(*words), cronq(*words)
    changed = cronq("add", "tidy", "--every", "2h", "--", "find", "/tmp", "-mtime", "+7")

    assert first.complaint.startswith("cronq: tidy added; next ")
    assert second.complaint.startswith("cronq: tidy is as it was")
    assert changed.complaint.startswith("cronq: tidy changed")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("tidy --every soon -- true", "job 'tidy': every: 'soon' is not a duration"),
        ("tidy --cron @dayly -- true", "job 'tidy': cron: "),
        (
            "tidy --overlap newest -- true",
            "job 'tidy': overlap: 'newest' is not one of skip, allow, queue",
        ),
        ("tidy --lock x -- true", "job 'tidy': lock: "),
        ("a/b -- true", "'a/b' is not a job name"),
    ],
)
def test_a_bad_definition_names_the_job_and_the_field(here: Path, cronq: Cli, words: str, problem: str) -> None:
    answer = cronq("add", *words.split())

    assert answer.code == 78
    assert problem in answer.complaint


def test_add_with_a_date_makes_a_job_of_one_tick(here: Path, cronq: Cli) -> None:
    ahead = cronq("add", "greeting", "--at", "2126-12-24T18:00", "--tz", "Europe/Berlin", "--", "true")
    past = cronq("add", "late", "--at", "2016-12-24T18:00", "--", "true")

    assert ahead.complaint.startswith("cronq: greeting added; next 2126-12-24 18:00 CET")
    assert past.complaint == "cronq: late added; it has no tick to come"
    listed = {row["name"]: (row["status"], row["next"]) for row in json.loads(cronq("list", "--json").out)}
    assert listed == {"greeting": ("never", "2126-12-24T17:00:00Z"), "late": ("finished", None)}
    assert "2126-12-24 18:00 CET" in cronq("show", "greeting").out


def test_add_does_not_take_the_name_of_a_job_that_code_defines(here: Path, cronq: Cli, shell: Cli) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('@daily')\ndef tidy(): ...\n")
    assert shell("sync", "jobs").code == 0

    answer = cronq("add", "tidy", "--", "true")

    assert answer.code == 78
    assert "taken by the job at jobs.py:2" in answer.complaint


def test_rm_removes_what_is_there_and_names_what_is_not(here: Path, cronq: Cli, app: Cronq) -> None:
    for name in ("one", "two"):
        app.add(name, command=["true"], every="1h")
    app.enqueue("two")

    answer = cronq("rm", "one", "three", "two")

    assert answer.code == 2
    one, three, two = answer.err.splitlines()
    assert one == "cronq: one removed"
    assert "there is no job 'three'" in three
    assert two == "cronq: two removed; 1 queued run stopped"
    assert app.jobs.names() == []


# Runs


def test_run_says_when_nobody_is_there_to_execute_it(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["true"], queue="night")

    answer = cronq("run", "tidy")

    assert answer.code == 0
    assert app.runs.get(answer.out.strip()).state == "queued"
    assert "no `cronq worker` serves the queue 'night' at the moment" in answer.complaint
    stopped = cronq("stop", answer.out.strip())
    assert (stopped.code, stopped.out) == (0, answer.out)
    assert "nothing of tidy is queued or running" in cronq("stop", "tidy").complaint


def test_words_after_the_dashes_belong_to_this_run_of_a_command(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["find", "/tmp"])

    run_id = cronq("run", "tidy", "--if-idle", "--", "-name", "--wait").out.strip()

    assert app.read_run(run_id).args == '[["-name","--wait"],{}]'
    assert "got unexpected extra argument (x)" in cronq("run", "tidy", "x").complaint
    assert "takes no --arg; give it words: -- WORD" in cronq("run", "tidy", "--arg", "a=1").complaint


def test_a_function_takes_no_words(here: Path, shell: Cli, cronq: Cli) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job()\ndef greet(name='you'): ...\n")
    assert shell("sync", "jobs").code == 0

    answer = cronq("run", "greet", "--", "Ann")

    assert answer.code == 2
    assert "'greet' is a function and takes --arg NAME=VALUE instead of words after --" in answer.complaint


def test_run_wait_passes_the_outcome_on_as_its_exit_code(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("good", command=["true"])
    app.add("bad", command="exit 7", shell=True)
    app.add("killed", command="kill -TERM $$", shell=True)
    app.add("endless", command=["sleep", "60"], timeout="1s", grace="1s")

    with process("worker") as worker:
        read_until(worker, "START-UP")
        codes = {name: cronq("run", name, "--wait").code for name in app.jobs.names()}
        history = cronq("history", "bad").out

    assert codes == {"good": 0, "bad": 7, "killed": 143, "endless": 124}
    assert "failed" in history
    assert "exit code 7" in history


def test_a_run_that_somebody_stops_ends_its_waiting_caller(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("endless", command=["sleep", "60"])

    with process("worker") as worker, process("run", "endless", "--wait") as waiting:
        read_until(worker, "START endless-")
        stopped = cronq("stop", "endless")
        assert waiting.wait(20) == 1
        said = read_until(waiting, "stopped")

    assert stopped.out.startswith("endless-m")
    assert "asked for it" in said


def test_ctrl_c_leaves_a_run_that_is_waited_for_alone(here: Path, app: Cronq) -> None:
    app.add("tidy", command=["true"])

    with process("run", "tidy", "--wait") as waiting:
        read_until(waiting, "no `cronq worker` serves")
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == 130
        assert "goes on without us" in read_until(waiting, "goes on")

    (run,) = app.history("tidy")
    assert run.state == "queued"


def test_a_command_takes_no_arguments(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["true"])

    answer = cronq("run", "tidy", "--arg", "x=1")

    assert answer.code == 2
    assert app.history("tidy") == []


def test_run_if_idle_queues_nothing_while_a_run_is_open_and_names_that(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["true"])

    first = cronq("run", "tidy", "--if-idle")
    second = cronq("run", "tidy", "--if-idle", "--wait")
    slip = cronq("run", "tidy", "--if-idle", "--in", "5m")

    (run,) = app.history("tidy")
    assert (first.code, first.out) == (0, run.run_id + "\n")
    assert (second.code, second.out) == (0, "")
    assert second.complaint == f"cronq: {run.run_id} is open, so nothing was queued"
    assert slip.code == 2
    assert "leave out --in and --at" in slip.complaint


def test_run_force_runs_a_tick_once_more_as_the_next_attempt(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["true"], every="1h", catchup="all", overlap="allow")
    app.client.hset(app.keys.state("tidy"), "mark", int(app.now_s()) // 3600 * 3600 - 7200)
    app.jobs.reschedule("tidy", int(app.now_s()) // 3600 * 3600 - 3600)
    app.beat().pass_once()
    newest, oldest = app.history("tidy")
    open_one = cronq("run", "tidy", "--force")
    for run in app.stop("tidy"):
        assert run in (newest.run_id, oldest.run_id)

    again = cronq("run", "tidy", "--force")
    earlier = cronq("run", "tidy", "--force", "--tick", str(iso(oldest.tick)))
    unknown = cronq("run", "tidy", "--force", "--tick", "2020-01-01T00:00")

    assert (open_one.code, open_one.out) == (75, "")
    assert f"{newest.run_id} is on its way" in open_one.complaint
    assert (again.code, again.out) == (0, newest.run_id + "\n")
    assert (earlier.code, earlier.out) == (0, oldest.run_id + "\n")
    assert [(run.attempt, run.state, run.decided_by) for run in app.history("tidy")] == [(2, "queued", app.who)] * 2
    assert unknown.code == 2
    assert "has no tick 2020-01-01T00:00:00Z in its history" in unknown.complaint


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("--tick 2026-01-05T07:00", "--tick belongs to --force"),
        ("--force --in 5m", "it takes --tick and --wait alone"),
        ("--force --if-idle", "it takes --tick and --wait alone"),
        ("--force -- -v", "it takes --tick and --wait alone"),
        ("--force --tick soon", "'soon' is not a time"),
        ("--force", "has had no tick yet that could run again; `cronq run tidy` runs it"),
    ],
)
def test_run_force_takes_a_tick_as_it_was(here: Path, cronq: Cli, app: Cronq, words: str, hint: str) -> None:
    app.add("tidy", command=["true"], every="1h")

    answer = cronq("run", "tidy", *words.split())

    assert answer.code == 2
    assert hint in answer.complaint
    assert app.history("tidy") == []


def test_an_argument_takes_the_place_of_the_jobs_own_of_that_name(
    here: Path, cronq: Cli, shell: Cli, app: Cronq
) -> None:
    (here / "jobs.py").write_text(
        "from cronq import job\n"
        "@job(args=[7], kwargs={'name': 'Ann', 'times': 2})\n"
        "def greet(number, name, times): ...\n"
    )
    shell("sync", "jobs")

    cronq("run", "greet", "--arg", "times=3")
    cronq("run", "greet", "--arg", "name=Ben", "--in", "5m")
    cronq("run", "greet")

    found = {run.args for run in app.history("greet")}
    assert found == {'[[7],{"name":"Ann","times":3}]', '[[7],{"name":"Ben","times":2}]', None}


def test_a_tick_is_marked_and_a_job_is_reset_on_the_command_line(cronq: Cli, app: Cronq, ticked: list[str]) -> None:
    marked = cronq("mark-success", "hourly", "--tick", "2026-01-05T07:00Z")
    told = cronq("why", "hourly", "--at", "2026-01-05T07:00Z").out
    again = cronq("mark-success", "hourly", "--tick", "2026-01-05T08:00+01:00")
    slip = cronq("mark-success", "hourly", "--tick", "2026-01-05T07:00:00.5Z")
    other = cronq("mark-success", "hourly", "--tick", "2026-01-05T07:30Z")
    resets = [cronq("reset", "hourly") for _ in range(2)]

    assert (marked.code, marked.out) == (0, ticked[-1] + "\n")
    assert told.startswith(f"{ticked[-1]} succeeded: ")
    assert (app.who in told, "no time" in told) == (True, False)
    assert (again.code, again.out, again.err) == (0, "", "cronq: that tick has succeeded already\n")
    assert (slip.code, other.code) == (2, 2)
    assert [each.code for each in resets] == [0, 0]
    assert resets[1].err == "cronq: hourly had nothing to forget; its history stays\n"
    assert len(app.history("hourly", 100)) == 30


def test_several_jobs_are_marked_and_reset_and_one_that_cannot_be_keeps_no_other(
    cronq: Cli, app: Cronq, ticked: list[str]
) -> None:
    app.add("other", command=["true"])

    marked = cronq("mark-success", "other", "hourly", "nobody")
    again = cronq("mark-success", "hourly", "hourly")
    reset = cronq("reset", "nobody", "hourly")

    assert (marked.code, marked.out) == (2, ticked[0] + "\n")
    assert [line.partition("'")[0] for line in marked.err.splitlines()] == ["cronq: job ", "cronq: there is no job "]
    assert again.err.splitlines() == ["cronq: that tick of hourly has succeeded already"] * 2
    assert (reset.code, reset.err.splitlines()[-1]) == (2, "cronq: hourly is as if it had never run; its history stays")


def test_arguments_are_json_or_plain_text(here: Path, cronq: Cli, shell: Cli, app: Cronq) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job\ndef greet(name, times=1): ...\n")
    shell("sync", "jobs")

    cronq("run", "greet", "--arg", "name=Ann", "--arg", "times=3")

    (run,) = app.history("greet")
    assert run.args == '[[],{"name":"Ann","times":3}]'


def test_history_of_thousands_of_rows_takes_two_round_trips(
    here: Path, cronq: Cli, app: Cronq, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.add("busy", command=["true"], cron="* * * * * *", catchup="skip", keep=10_000)
    now_s = int(app.now_s())
    app.quarantine.restore_mark("busy", now_s - 3000, now_s - 2999)
    pass_at(app, now_s - 2000, now_s - 1000, now_s)
    sent: list[object] = []
    send = AbstractConnection.send_packed_command

    def counting(self: AbstractConnection, command: object, *words: bool, **more: bool) -> None:
        sent.append(command)
        send(self, command, *words, **more)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counting)
    rows = app.history("busy", 5000)
    assert len(rows) == 3000
    assert len(sent) <= 2

    answer = cronq("history", "busy", "-n", "5000")

    assert answer.code == 0
    assert len(answer.out.splitlines()) == 1 + 3000


def test_history_shows_the_earlier_attempts_below_their_run(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["true"])
    run_id = app.enqueue("tidy")

    def attempt(outcome: str, reason: str, begin_s: float) -> None:
        started = app.runs.start(
            app.runs.get(run_id),
            Start(worker="w", host="db1", pid=1, execution=f"e{begin_s}", lease_s=90, now_s=begin_s),
        )
        told = {"by": "w", "now_s": begin_s + 1.5, "attempt": started.attempt, "execution": f"e{begin_s}"}
        assert app.runs.settle(app.runs.get(run_id), Ending(Settlement(outcome, reason), **told))

    attempt("failed", "no paper", 1e9)
    FailedJobRegistry("default", connection=app.client).requeue(run_id)
    attempt("timed_out", "too slow", 1e9 + 60)
    FailedJobRegistry("default", connection=app.client).requeue(run_id)
    attempt("succeeded", "it ran to its end", 1e9 + 120)

    lines = [line.split() for line in cronq("history", "tidy").out.splitlines()]

    assert lines[1][-5:] == ["succeeded", "-", "1.5s", "db1", run_id]
    assert lines[2] == ["attempt", "2", "timed_out", "-", "1.5s", "db1", "too", "slow"]
    assert lines[3] == ["attempt", "1", "failed", "-", "1.5s", "db1", "no", "paper"]


# Bad definitions

BAD_JOBS = """
from cronq import job

@job("* * * * * *")
def fine(): ...

def outer():
    @job("@daily")
    def unimportable(): ...
outer()

@job("@daily", kwargs={"when": object()})
def not_json(when): ...

@job("0 0 31 2 *")
def impossible(): ...

@job("@daily", tz="Europe/Berln")
def nowhere(): ...

@job("61 * * * *")
def minute_61(): ...

@job("@daily", timeuot="5m")
def misspelt(): ...

@job("@daily", on="web")
def planned(): ...

@job("@daily")
def fine_as_well(): ...
"""
#: job, line, field, and what the line says about it
PROBLEMS = [
    ("unimportable", 8, "function", "define it at the top of a module"),
    ("not_json", 12, "kwargs['when']", "pass text, numbers, lists or mappings"),
    ("impossible", 15, "cron", "day of month 31 is outside 1-29"),
    ("nowhere", 18, "tz", "did you mean Europe/Berlin?"),
    ("minute_61", 21, "cron", "minute 61 is outside 0-59"),
    ("misspelt", 24, "timeuot", "did you mean 'timeout'?"),
    ("planned", 27, "on", "leave it out"),
]


def assert_all_problems_are_told(lines: list[str]) -> None:
    for name, number, field, remedy in PROBLEMS:
        (line,) = [line for line in lines if f"job '{name}' (bad_jobs.py:{number}): {field}: " in line]
        assert remedy in line
    (line,) = [line for line in lines if "the module 'broken_module' cannot be imported" in line]
    assert "No module named 'nothing_of_that_name'" in line
    assert "broken_module.py:1" in line
    assert not any("Traceback" in line for line in lines)


@pytest.fixture
def bad_jobs(here: Path) -> list[str]:
    """Modules with sound and with bad definitions, and one that cannot be imported."""
    (here / "bad_jobs.py").write_text(BAD_JOBS)
    (here / "broken_module.py").write_text("import nothing_of_that_name\n")
    return ["broken_module", "bad_jobs"]


def test_check_config_names_every_bad_definition_without_redis(
    bad_jobs: list[str], shell: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRONQ_REDIS_URL", NOBODY)

    answer = shell("check-config", *bad_jobs)

    assert answer.code == 78
    lines = answer.out.splitlines()
    assert len(lines) == len(PROBLEMS) + 1, "one line for each"
    assert_all_problems_are_told(lines)
    assert answer.complaint == "cronq: 2 jobs sound, 8 faults"


def test_sync_stores_the_sound_jobs_beside_bad_ones(bad_jobs: list[str], shell: Cli, app: Cronq) -> None:
    answer = shell("sync", *bad_jobs)

    assert answer.code == 78
    assert answer.out.splitlines() == ["created fine", "created fine_as_well"]
    assert_all_problems_are_told(answer.err.splitlines())
    assert app.jobs.names() == ["fine", "fine_as_well"]


def test_a_beat_runs_the_sound_jobs_beside_bad_ones(bad_jobs: list[str], app: Cronq) -> None:
    with process("beat", *bad_jobs) as beat:
        said = read_until(beat, "QUEUED job=fine")

    assert_all_problems_are_told(said.splitlines())
    assert "START-UP beat of 2 jobs" in said
    assert app.history("fine")


def test_a_worker_names_a_module_that_it_cannot_import_and_serves_the_others(bad_jobs: list[str], app: Cronq) -> None:
    app.add("tidy", command=["true"])
    app.enqueue("tidy")

    with process("worker", "-m", "broken_module", "-m", "bad_jobs") as worker:
        said = read_until(worker, "FINISH tidy-")

    assert_all_problems_are_told(said.splitlines())


def test_sound_modules_make_check_config_and_sync_end_with_0(here: Path, shell: Cli) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('@daily')\ndef tidy(): ...\n")

    checked, synced, again = shell("check-config", "jobs"), shell("sync", "jobs"), shell("sync", "jobs")

    assert (checked.code, checked.out, checked.complaint) == (0, "", "cronq: 1 job sound, 0 faults")
    assert (synced.code, synced.out) == (0, "created tidy\n")
    assert (again.code, again.out, again.complaint) == (0, "", "cronq: 1 job is as it was")


def test_a_module_without_any_job_is_remarked_on(here: Path, shell: Cli) -> None:
    (here / "jobs.py").write_text("def tidy(): ...\n")

    for verb in ("check-config", "sync"):
        answer = shell(verb, "jobs")
        assert answer.code == 0
        assert "no job is defined in jobs; decorate a function with @job(...)" in answer.complaint


# Processes


def test_a_beat_and_a_worker_outlive_the_reader_of_their_log(here: Path, app: Cronq) -> None:
    app.add("tidy", command=["true"], cron="* * * * * *")

    with process("beat") as beat, process("worker") as worker:
        for each in (beat, worker):
            read_until(each, "START-UP")
            assert each.stderr is not None
            each.stderr.close()
        done = len([run for run in app.history("tidy") if run.outcome == "succeeded"])
        wait_until(
            lambda: len([run for run in app.history("tidy") if run.outcome == "succeeded"]) >= done + 3,
            "runs although nobody reads the log",
        )
        assert beat.poll() is None
        assert worker.poll() is None


def test_run_due_makes_one_pass_and_says_nothing_when_all_is_well(here: Path, shell: Cli, app: Cronq) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('* * * * * *')\ndef tidy(): ...\n")
    assert shell("sync", "jobs").code == 0
    begin = app.now_s()
    wait_until(lambda: app.now_s() >= begin + 1, "a tick has come")

    answer = shell("run-due", "jobs")

    assert (answer.code, answer.out, answer.err) == (0, "", "")
    assert app.history("tidy")[0].state == "queued"


def test_run_due_settles_a_run_whose_worker_vanished(
    here: Path, shell: Cli, app: Cronq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRONQ_LOST_AFTER", "2s")
    app.add("endless", command=["sleep", "60"])
    app.enqueue("endless")
    with process("worker") as worker:
        read_until(worker, "START endless-")
        worker.kill()
        worker.wait()
    wait_until(lambda: app.client.zcount(app.keys.running, "-inf", app.now_s() - 2), "the run has been silent for 2 s")

    answer = shell("run-due")

    assert answer.code == 0
    assert "lost" in answer.err, "and this is worth a word"
    assert app.history("endless")[0].outcome == "lost"


def test_a_worker_that_got_a_module_as_its_queue_is_told_so(here: Path) -> None:
    (here / "jobs.py").write_text("from cronq import job\n")

    with process("worker", "jobs") as worker:
        said = read_until(worker, "START-UP")

    assert "did you mean -m jobs?" in said


@pytest.mark.parametrize("verb", ["beat", "worker"])
def test_a_beat_and_a_worker_end_with_0_when_told_to(here: Path, verb: str) -> None:
    with process(verb) as popen:
        read_until(popen, "START-UP")
        popen.terminate()

        assert popen.wait(15) == 0


# Checks


def test_checks_speak_nagios(here: Path, cronq: Cli) -> None:
    assert cronq("check", "redis").out.startswith("CRONQ WARNING - appendonly is off")
    assert cronq("check", "clock").out.startswith("CRONQ OK - all clocks are within 2 s of Redis | 'offset'=")
    none = cronq("check", "beat")
    assert (none.code, none.err) == (2, "")
    assert none.out.startswith("CRONQ CRITICAL - 0 beats are alive")
    with process("beat") as one, process("beat") as two:
        read_until(one, "START-UP")
        wait_until(lambda: cronq("check", "beat").code <= 1, "a beat is seen")
        read_until(two, "START-UP")
        wait_until(lambda: cronq("check", "beat").code == 0, "both are seen")
        assert cronq("check", "beat", "--least", "3").code == 2


def test_a_redis_that_does_not_answer_is_critical(cronq: Cli) -> None:
    for what in ("redis", "beat", "clock"):
        answer = cronq("check", what, "--url", NOBODY)
        assert (answer.code, answer.err) == (2, "")
        assert answer.out.startswith("CRONQ CRITICAL - Redis at redis://:***@127.0.0.1:1/0 does not answer")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["rediss"], "there is no check 'rediss'; did you mean 'redis'?"),
        (["jobs"], "the check 'jobs' is not part of this version yet"),
        (["redis", "--warn", "3"], "no such option '--warn'"),
        (["beat", "--least", "0"], "--least"),
        (["redis", "--url", "nowhere"], "starts with redis://"),
    ],
)
def test_a_faulty_check_is_unknown_never_ok(cronq: Cli, words: list[str], problem: str) -> None:
    answer = cronq("check", *words)

    assert answer.code == 3
    assert answer.out.startswith("CRONQ UNKNOWN - ")
    assert problem in answer.out


# Held


def test_a_paused_queue_is_listed_with_who_and_why_until_it_is_resumed(cronq: Cli, app: Cronq) -> None:
    assert cronq("pause", "--queue", "nights", "--note", "the printer burns").code == 0

    listed = cronq("drain", "--list")
    (row,) = json.loads(cronq("drain", "--list", "--json").out)

    assert (row["what"], row["by"], row["note"]) == ("queue:nights", app.who, "the printer burns")
    assert "the printer burns" in listed.out
    assert cronq("resume").err == "cronq: 0 drains ended\n", "it lifts drains, not pauses of queues"
    assert cronq("resume", "--queue", "nights").err == "cronq: the queue nights is resumed\n"
    assert cronq("resume", "--queue", "nights").err == "cronq: the queue nights was not paused\n"
    assert cronq("drain", "--list").err == "cronq: nothing is held\n"


def test_a_drain_of_a_host_or_a_worker_is_ended_by_its_name_or_with_all(cronq: Cli, app: Cronq) -> None:
    facts = {"host": "box", "pid": 7, "started_at": 1.0, "seen_at": app.now_s(), "queues": []}
    app.heartbeats.publish("workers", "box.7.ab", facts)

    for name in ("box", "box.7.ab"):
        assert cronq("drain", name).code == 0
    assert cronq("drain").code == 0
    assert [hold.what for hold in app.holds.read()] == ["host:box", "worker:box.7.ab", "all"]

    assert cronq("drain", "--end", "box").err == "cronq: 1 drain ended\n"
    assert cronq("resume").err == "cronq: 2 drains ended\n"
    assert app.holds.read() == []


@pytest.mark.parametrize(
    "words",
    [("pause",), ("pause", "a", "--queue", "b"), ("resume", "a", "--queue", "b"), ("drain", "--wait", "soon"),
     ("history", "--outcome", "fine"), ("pause", "--queue", "q", "--until", "2h")],
)  # fmt: skip
def test_a_wrong_call_changes_nothing_and_says_how(cronq: Cli, app: Cronq, words: tuple[str, ...]) -> None:
    answer = cronq(*words)

    assert answer.code == 2
    assert answer.complaint.startswith("cronq: ")
    assert app.holds.read() == []


def test_the_history_of_all_jobs_is_one_list_newest_first_and_can_be_of_one_outcome(cronq: Cli, app: Cronq) -> None:
    for name in ("one", "two"):
        app.add(name, command=["true"])
    ids = [app.enqueue(name) for name in ("one", "two", "one")]
    assert app.stop(ids[1]) == [ids[1]]

    rows = json.loads(cronq("history", "--json").out)
    stopped = json.loads(cronq("history", "--outcome", "stopped", "--json").out)
    none = cronq("history", "one", "--outcome", "stopped")

    assert [row["run_id"] for row in rows] == ids[::-1]
    assert [row["run_id"] for row in stopped] == [ids[1]]
    assert none.err == "cronq: nothing of one that is kept ended stopped\n"


@pytest.fixture
def ticked(app: Cronq) -> list[str]:
    """The ids of 30 ticks of `hourly` from 2026-01-05 07:00 UTC on, none of which ran."""
    first_s = utc_s("2026-01-05T07:00")
    spec = make_spec("hourly", command=["true"], cron="0 * * * *")
    app.jobs.save(spec, source="test", origin="cli", expected="", mark=int(first_s) - 1, next_tick=int(first_s))
    job = app.jobs.get("hourly")
    ticks = [int(first_s) + 3600 * i for i in range(30)]
    decisions = [Decision(tick, "missed", "no beat was alive", "schedule", tick + 3600) for tick in ticks]
    claims = [TickClaim(spec, job.version, each) for each in decisions]
    assert {answer.code for answer in app.claimer("beat").claim_due(claims, "t", first_s + 200_000)} == {"won"}
    return [run.run_id for run in app.history("hourly", 100)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--since", "2026-01-05T09:00", "--until", "2026-01-05T11:00"], slice(25, 28)),
        (["--since", "2026-01-05T09:00:01Z", "--until", "2026-01-05T12:59:59+01:00"], slice(25, 27)),
        (["--since", "2026-01-05T09:00"], slice(0, 28)),
        (["--until", "2026-01-05T09:00"], slice(27, 30)),
        (["--until", "2026-01-05T09:00", "-n", "2"], slice(27, 29)),
        (["--since", "2026-01-05"], slice(0, 30)),
        (["--since", "2026-01-05", "--outcome", "missed", "-n", "3"], slice(0, 3)),
        (["--since", "2026-01-05", "--outcome", "failed"], slice(0, 0)),
        ([], slice(0, 20)),
    ],
)
@pytest.mark.parametrize("name", [["hourly"], []])
def test_a_history_of_a_period_has_every_tick_that_was_due_in_it(
    cronq: Cli, ticked: list[str], words: list[str], expected: slice, name: list[str]
) -> None:
    rows = json.loads(cronq("history", *name, *words, "--json").out)

    assert [row["run_id"] for row in rows] == ticked[expected]


def test_a_period_may_begin_and_end_a_span_ago_and_holds_runs_by_hand(cronq: Cli, app: Cronq, redis: Redis) -> None:
    app.add("one", command=["true"])
    ids = [app.enqueue("one") for _ in range(2)]
    redis.rpush("rq:queue:default:intermediate", "junk")
    app.runs.reject(b"junk", "default", "no such run", by="w", now_s=app.now_s())
    redis.zadd("cronq:job:one:manual", {ids[0]: app.now_s() - 7200})

    def found(*words: str) -> list[str]:
        return [row["run_id"] for row in json.loads(cronq("history", *words, "--json").out)]

    assert found("one", "--since", "1h") == [ids[1]]
    assert found("one", "--until", "1h") == [ids[0]]
    assert found("one", "--since", "3h", "--until", "1h") == [ids[0]]
    assert found("--since", "1h") == ["junk", ids[1]]
    assert found("--since", "3h", "--until", "150m") == []
    assert cronq("history", "one", "--until", "5h").err == "cronq: nothing of one that is kept lies in that period\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--since", "soon"], "'soon' is neither a span ago (2h, 30m, 1d) nor a time"),
        (["--since", "1h", "--until", "2h"], "'2h' comes before '1h'"),
    ],
)
def test_a_period_that_is_none_is_a_slip(cronq: Cli, app: Cronq, words: list[str], problem: str) -> None:
    answer = cronq("history", *words)

    assert answer.code == 2
    assert problem in answer.complaint


def test_run_due_goes_on_while_there_is_more_than_one_pass_takes(
    cronq: Cli, here: Path, app: Cronq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronq.beat.beat._MOST_JOBS", 2)
    for number in range(5):
        app.add(f"job{number}", every="1s", command=["true"], overlap="allow")
    begin = app.now_s()
    wait_until(lambda: app.now_s() >= begin + 2, "ticks have come")

    answer = cronq("run-due")

    assert answer.code == 0
    assert all(app.history(f"job{number}") for number in range(5))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("cronq-rq-cron")]


def test_run_due_does_its_other_chores_beside_a_broken_one_and_says_so(
    cronq: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[float] = []
    monkeypatch.setattr("cronq.beat.sweep.Sweep.once", lambda *_: [][0])
    monkeypatch.setattr("cronq.beat.audit.Audit.once", lambda _, now_s: done.append(now_s))

    answer = cronq("run-due")

    assert answer.code == 1
    assert "BROKEN chore 'sweep' cannot be done: IndexError" in answer.err
    assert len(done) == 1


def test_a_server_without_lua_is_refused_by_the_name_of_what_is_missing(cronq: Cli, here: Path) -> None:
    server = RedisServer("--rename-command", "EVAL", "")
    try:
        answer = cronq("--url", server.url, "beat")
        checked = cronq("--url", server.url, "check", "redis")
    finally:
        server.stop()

    assert answer.code == 78
    assert "this server runs no Lua scripts" in answer.complaint
    assert "valkey-lua" in answer.complaint
    assert checked.code == 2
    assert "CRONQ CRITICAL - this server runs no Lua scripts" in checked.out


# Odd words


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["show", "caf\udce9"], 2), (["run", "tidy", "--arg", "a=\udcff"], 2), (["worker", "\udcff"], 2),
        (["check", "\udcff"], 3), (["add", "tidy", "--", "\udcff"], 2), (["list", "--prefix", "\udcff"], 2),
        (["--url", "redis://\udcff", "list"], 78),
    ],
)  # fmt: skip
def test_words_that_are_not_utf8_are_a_slip(here: Path, cronq: Cli, app: Cronq, words: list[str], code: int) -> None:
    app.add("tidy", command=["true"])

    answer = cronq(*words)

    assert answer.code == code
    assert "is not UTF-8" in (answer.out if code == 3 else answer.complaint)


@pytest.mark.parametrize(
    ("value", "problem"),
    [("[" * 100_000, "more than 100 deep"), ("[" * 200 + "]" * 200, "more than 100 deep"), ("NaN", "no number")],
)
def test_an_argument_that_no_worker_could_read_is_a_slip(
    here: Path, shell: Cli, cronq: Cli, value: str, problem: str
) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job()\ndef send(a): ...\n")
    assert shell("sync", "jobs").code == 0

    answer = cronq("run", "send", "--arg", f"a={value}")

    assert answer.code == 2
    assert problem in answer.complaint
    assert cronq("run", "send", "--arg", "a=[plain").code == 0, "what is no JSON is text"


@pytest.mark.parametrize(
    "words",
    [["pause", "tidy", "--note"], ["pause", "--queue", "q", "--note"], ["drain", "box", "--note"],
     ["add", "other", "--description", "x" * 9_500, "--owner"]],
)  # fmt: skip
def test_a_note_that_would_bury_the_rest_is_refused(cronq: Cli, app: Cronq, words: list[str]) -> None:
    app.add("tidy", command=["true"])
    tail = ["--", "true"] if words[0] == "add" else []

    answer = cronq(*words, "x" * 1_001, *tail)

    assert answer.code == 78
    assert "1,001 characters, and 1,000 are allowed" in answer.complaint
    assert app.holds.read() == []
    assert cronq(*words, "x" * 1_000, *tail).code == 0
    assert max(len(line) for line in cronq("list").out.splitlines()) < 600


def test_a_pause_to_the_end_of_the_calendar_hides_no_job(cronq: Cli, app: Cronq) -> None:
    app.add("sound", command=["true"], every="1h")
    app.add("tidy", command=["true"], cron="* * * * *", tz="Europe/Amsterdam")

    end_s = utc_s("9999-12-31T23:59:59Z")
    app.jobs.set_pause(app.jobs.get("tidy"), Pause(since=app.now_s(), by="an older release", until=end_s))

    assert "sound" in cronq("list").out
    assert "paused" in cronq("show", "tidy").out
    assert moment(end_s, "Europe/Amsterdam", app.now_s()) == "9999-12-31 23:59:59 UTC"


@pytest.mark.parametrize("epoch_s", [float("inf"), float("nan"), 1e18, -1e18])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "No/Where"])
def test_what_no_calendar_holds_is_shown_as_never(epoch_s: float, zone: str) -> None:
    assert moment(epoch_s, zone, 0.0) == "never"
    assert left(epoch_s, 0.0)


# What a deploy would do


def test_plan_says_what_sync_would_do_within_80_columns(here: Path, shell: Cli, app: Cronq) -> None:
    long = "x" * 300
    (here / "jobs.py").write_text(
        "from cronq import job\n@job('0 7 1 1 *')\ndef report(): ...\n@job('@daily', name='tidy')\ndef clean(): ...\n"
    )
    assert shell("sync", "jobs").code == 0
    (here / "jobs.py").write_text(
        f"from cronq import job\n@job('30 2 1 1 *', tz='Europe/Berlin', description='{long}')\ndef report(): ...\n"
        "@job('@daily', name='sweep')\ndef clean(): ...\n"
    )

    answer = shell("plan", "jobs", "--utc")

    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert (answer.code, answer.err) == (0, "cronq: 1 to add, 1 to change, 1 to remove\n")
    assert "~ report (jobs.py:2)" in lines
    assert "    cron: 0 7 1 1 * -> 30 2 1 1 *" in lines
    assert "    tz: UTC -> Europe/Berlin" in lines
    assert any(line.startswith("    next: ") and "07:00 UTC -> " in line and "01:30 UTC" in line for line in lines)
    assert "- tidy (jobs.py:4)" in lines
    assert "    looks renamed to sweep; the history stays with the old name" in lines
    assert app.job_names() == ["report", "tidy"]


def test_plan_tells_which_tick_runs_next_when_the_next_one_is_skipped(here: Path, shell: Cli, app: Cronq) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('0 7 * * *', tz='Asia/Tokyo')\ndef report(): ...\n")
    assert shell("sync", "jobs").code == 0
    app.skip("report", note="no paper")
    (here / "jobs.py").write_text(
        "from cronq import job\n@job('0 7 * * *', tz='Asia/Tokyo', timeout='5m')\ndef report(): ...\n"
    )

    lines = shell("plan", "jobs").out.splitlines()

    assert f"    its next tick is skipped by {app.who}: no paper" in lines
    assert any(re.fullmatch(r"    runs next: \w+ \d+ \w+ 07:00 JST", line) for line in lines)
    (change,) = json.loads(shell("plan", "jobs", "--json").out)["changes"]
    assert utc_s(change["next_run"]) - utc_s(change["next_after"]) == 86400


def test_the_exit_code_of_plan_is_that_of_ci(here: Path, shell: Cli) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('@daily')\ndef report(): ...\n")
    (here / "bad.py").write_text("from cronq import job\n@job('61 * * * *')\ndef report(): ...\n")

    assert shell("plan", "jobs").code == 0
    assert shell("plan", "jobs", "--exit-code").code == 1
    assert shell("sync", "jobs").code == 0
    assert shell("plan", "jobs", "--exit-code").code == 0
    assert shell("plan", "bad", "--exit-code").code == 78
    assert shell("plan").code == 2


def test_what_cronq_tz_decided_is_said(here: Path, cronq: Cli, shell: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRONQ_TZ", "Europe/Berlin")
    (here / "jobs.py").write_text("from cronq import job\n@job('0 7 * * *')\ndef report(): ...\n")

    planned = shell("plan", "jobs")
    assert "    zone Europe/Berlin from CRONQ_TZ" in planned.out.splitlines()
    assert shell("sync", "jobs").code == 0
    assert re.search(r"^zone +Europe/Berlin from CRONQ_TZ$", cronq("show", "report").out, re.MULTILINE)
    assert "At 07:00 every day, zone Europe/Berlin from CRONQ_TZ" in cronq("explain", "0 7 * * *").out
    assert "CRONQ_TZ" not in cronq("explain", "0 7 * * *", "--tz", "Europe/Berlin").out
    monkeypatch.delenv("CRONQ_TZ")
    assert "    tz: Europe/Berlin -> UTC" in shell("plan", "jobs").out.splitlines()


def test_simulate_prints_a_line_for_each_tick_and_a_summary(here: Path, shell: Cli, cronq: Cli, app: Cronq) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('0 */6 * * *')\ndef report(): ...\n")
    span = ["--from", "2026-03-28", "--to", "2026-03-29"]

    said = shell("simulate", "jobs", *span, "--outage", "2026-03-28T05:00/2026-03-28T13:00", "--url", NOBODY)

    assert said.code == 0
    assert said.out.splitlines() == [
        "2026-03-28T00:00:00Z  succeeded  report",
        "2026-03-28T06:00:00Z  coalesced  report",
        "2026-03-28T12:00:00Z  succeeded  report",
        "2026-03-28T18:00:00Z  succeeded  report",
    ]
    assert said.err == "cronq: 4 ticks: 3 succeeded, 1 coalesced\n"
    skewed = shell("simulate", "jobs", *span, "--beats", "3", "--skew", "1h", "--seed", "4", "--json")
    assert {(each["job"], each["outcome"]) for each in json.loads(skewed.out)} == {("report", "succeeded")}
    assert sorted(json.loads(skewed.out)[0]) == ["job", "outcome", "tick"]
    assert (
        len(re.findall(r"beat \d, its clock \S+ (?:ahead|behind): decided \d ticks?, each by Redis' time", skewed.err))
        == 3
    )
    app.add("tidy", command=["true"], every="12h")
    assert cronq("simulate", *span).out.splitlines() == [
        "2026-03-28T00:00:00Z  succeeded  tidy", "2026-03-28T12:00:00Z  succeeded  tidy",
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_output_and_another_only_other_beats(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("often", command=["true"], every="7m", catchup="all")
    words = ["--from", "2026-03-28", "--to", "2026-03-29", "--beats", "5", "--skew", "90s", "--json"]
    words += ["--outage", "2026-03-28T02:00/2026-03-28T05:00", "--outage", "2026-03-28T04:00/2026-03-28T06:30"]

    first, again, other = (cronq("simulate", *words, "--seed", seed) for seed in ("3", "3", "4"))

    assert first == again
    assert (first.out, first.err != other.err) == (other.out, True)
    beats = re.findall(r"beat \d, its clock (\S+) (?:ahead|behind): decided (\d+) ticks?", first.err)
    assert len(beats) == 5
    assert sum(int(count) for _, count in beats) == len(json.loads(first.out)) == 206
    assert all(parse_duration_s(off) <= 90 for off, _ in beats)


def test_simulate_heeds_what_is_stored_of_a_job(here: Path, cronq: Cli, app: Cronq) -> None:
    app.add("report", command=["true"], every="1h")
    app.add("tidy", command=["true"], every="1h")
    skipped = app.skip("report", 2)
    pause = app.pause("tidy", until_s=skipped[1])
    first, last = (time.strftime("%FT%TZ", time.gmtime(moment)) for moment in (skipped[0] - 3600, skipped[1] + 1))

    rows = json.loads(cronq("simulate", "--from", first, "--to", last, "--json").out)

    found = {name: [row["outcome"] for row in rows if row["job"] == name] for name in ("report", "tidy")}
    assert found["report"] == ["succeeded", "skipped", "skipped"]
    ticks = (skipped[0] - 3600, *skipped)
    assert found["tidy"] == ["paused" if pause.since <= tick < skipped[1] else "succeeded" for tick in ticks]
    assert json.loads(cronq("simulate", "--from", "1990-01-01T00:01", "--to", "1990-01-01T00:02", "--json").out) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from", "2026-03-28", "--to", "2026-03-28"], "is not after --from"),
        (["--from", "x", "--to", "2026-03-28"], "'x' is not a time"),
        (["--from", "2026-03-28", "--to", "2026-03-29", "--outage", "2026-03-28"], "is not FROM/TO"),
        (["--from", "2026-03-28", "--to", "2026-03-29", "--outage", "2026-03-29/2026-03-28"], "ends before it begins"),
        (["--from", "2026-03-28", "--to", "2026-03-29", "--skew", "x"], "--skew: 'x' is not a duration"),
    ],
)
def test_a_simulation_that_makes_no_sense_is_refused(here: Path, cronq: Cli, words: list[str], told: str) -> None:
    answer = cronq("simulate", *words)

    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


def test_check_config_finds_moments_that_make_no_sense_in_the_zone_of_cronq_tz(
    here: Path, shell: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "jobs.py").write_text(
        "from cronq import job\n@job(every='1h', start='2026-07-07T10:30', end='2026-07-07T11:00Z')\ndef it(): ...\n"
    )
    assert shell("check-config", "jobs", "--url", NOBODY).code == 0

    monkeypatch.setenv("CRONQ_TZ", "America/New_York")
    answer = shell("check-config", "jobs", "--url", NOBODY)

    assert (answer.code, answer.err) == (78, "cronq: 0 jobs sound, 1 fault\n")
    assert "job 'it' (jobs.py:2): end: 2026-07-07T11:00:00Z is before the start" in answer.out
