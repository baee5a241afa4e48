"""A flag of presentation decides how an answer looks, never what is done."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from redis import Redis

import cronq.cli as command_line
from cronq import Cronq
from cronq.cli.verbs import VERBS, cli
from cronq.db.decode import text
from tests.faces.conftest import Answer

Cli = Callable[..., Answer]
FLAGS = ("--json", "--utc", "--debug")
#: Calls of each command that has such a flag, and the exit code; `{here}` is the directory of the test.
CALLS: dict[str, list[tuple[list[str], int]]] = {
    "list": [([], 0)],
    "show": [(["tidy"], 0)],
    "why": [(["tidy"], 0)],
    "next": [([], 0), (["tidy"], 0)],
    "graph": [([], 0), (["tidy"], 0)],
    "explain": [(["@daily"], 0)],
    "history": [([], 0), (["tidy"], 0)],
    "delayed": [([], 0)],
    "catchup": [([], 0), (["tidy"], 0), (["--drop", "--all"], 0)],
    "backfill": [(["tidy", "--from", "2024-11-20", "--to", "2024-11-23", "--dry-run"], 0),
                 (["tidy", "--from", "2024-11-20T08:00", "--to", "2024-11-21T07:00"], 0)],
    "drain": [(["box"], 0), ([], 0), (["--end", "old"], 0), (["--end"], 0), (["--list"], 0),
              (["box", "--wait", "1s"], 0), (["box", "--kill"], 0)],
    "calendar list": [([], 0)],
    "calendar show": [(["holidays"], 0)],
    "sync": [(["orders"], 0)],
    "diff": [(["2026-01-01", "2026-01-02"], 0)],
    "stats": [([], 0), (["tidy"], 0)],
    "plan": [(["orders"], 0), (["orders", "--exit-code"], 1)],
    "simulate": [(["orders", "--from", "2026-01-01", "--to", "2026-01-03"], 0),
                 (["--from", "2026-01-01", "--to", "2026-01-03", "--skew", "1s"], 0),
                 (["orders", "--rehearse", "yesterday"], 0), (["--rehearse", "today", "--tz", "Asia/Tokyo"], 0)],
    "ghosts": [(["orders"], 0)],
    "crontab import": [(["{here}/crontab", "--tz", "UTC"], 0), (["{here}/crontab", "--tz", "UTC", "--dry-run"], 0),
                       (["{here}/crontab", "--tz", "UTC", "--prune"], 0)],
    "check-config": [(["orders"], 0)],
    "config": [([], 0)],
    "group list": [([], 0)],
    "group hosts": [(["mail"], 0)],
    "locks": [([], 0), (["tidy"], 0), (["--release", "tidy"], 0)],
    "beats": [([], 0)],
    "workers": [([], 0)],
}  # fmt: skip


def _commands() -> Iterator[tuple[str, click.Command]]:
    with click.Context(cli) as ctx:
        for verb in VERBS:
            command = cli.get_command(ctx, verb)
            if isinstance(command, click.Group):
                yield from ((f"{verb} {name}", each) for name, each in command.commands.items())
            elif command is not None:
                yield verb, command


def _flags_of(command: click.Command) -> set[str]:
    return {opt for option in command.params for opt in option.opts} & {"--json", "--utc"}


def _state(client: Redis) -> dict[str, object]:
    """What is in Redis, without what two calls a moment apart differ in: times, and who called."""
    found: dict[str, object] = {}
    for raw in client.scan_iter():
        key, kind = text(raw), text(client.type(raw))
        found[key] = kind
        if kind == "hash":
            found[key] = {text(name) for name in client.hkeys(raw)}
        elif kind == "zset":
            found[key] = {text(name) for name in client.zrange(raw, 0, -1)}
        elif kind == "set":
            found[key] = {text(name) for name in client.smembers(raw)}
    return found


def _scene(app: Cronq, client: Redis, here: Path) -> None:
    client.flushall()
    app.add("tidy", command=["true"], cron="0 7 * * *", tz="Asia/Tokyo")
    app.add("by-hand", command=["true"])
    app.set_calendar("holidays", dates=["2026-12-25"])
    app.holds.drain(("old",), set(), by="ann", now_s=app.now_s(), note="")
    app.pause_queue("nights")
    app.enqueue_in("5m", "tidy")
    app.once("tidy", 3600)
    app.set_group("mail", ["box"])
    (here / "orders.py").write_text("from cronq import job\n@job('@daily')\ndef send(): ...\n")
    (here / "crontab").write_text("0 3 * * * /usr/bin/true\n")


def test_the_walk_below_knows_every_command_with_such_a_flag() -> None:
    assert {name for name, command in _commands() if _flags_of(command)} == set(CALLS)


@pytest.mark.parametrize(
    ("name", "words", "code"), [(name, words, code) for name, calls in CALLS.items() for words, code in calls]
)
def test_a_flag_of_presentation_changes_nothing_of_what_is_done(
    here: Path, shell: Cli, cronq: Cli, app: Cronq, redis: Redis, name: str, words: list[str], code: int
) -> None:
    call = shell if name in ("sync", "plan", "simulate", "ghosts", "check-config") else cronq
    words = [*name.split(), *(word.format(here=here) for word in words)]
    flags = _flags_of(dict(_commands())[name])
    _scene(app, redis, here)
    plain = call(*words)
    assert plain.code == code, plain.err
    wanted = _state(redis)

    for flag in FLAGS:
        if flag in flags or flag == "--debug":
            _scene(app, redis, here)
            shown = call(*words, flag)
            assert (shown.code, _without_ids(_state(redis))) == (code, _without_ids(wanted)), flag
            if flag == "--json":
                json.loads(shown.out)
            if flag == "--utc":
                assert "JST" not in shown.out


def _without_ids(state: dict[str, object]) -> dict[str, object]:
    """The delayed run of the scene has another id each time."""
    words = repr(sorted((key, sorted(value) if isinstance(value, set) else value) for key, value in state.items()))
    return {"state": re.sub(r"-m[0-9a-f]{8}", "-m…", words)}


def test_text_reaches_a_terminal_by_one_door() -> None:
    """`cli/output.py` makes it printable; `cronq dev` passes on what processes print, a crontab is a file."""
    echoing = {
        path.name
        for path in Path(command_line.__file__).parent.glob("*.py")
        if re.search(r"click\.echo|[^_.]print\(|print_exception", path.read_text())
    }

    assert echoing == {"output.py", "dev.py", "crontab.py", "errors.py"}


@pytest.mark.parametrize(
    "words",
    [["list"], ["show", "tidy"], ["history", "tidy"], ["history"], ["stop", "tidy"], ["drain", "--list"], ["delayed"],
     ["workers"], ["next"], ["crontab", "export"]],
)  # fmt: skip
def test_no_text_in_redis_talks_to_a_terminal(here: Path, app: Cronq, redis: Redis, words: list[str]) -> None:
    esc = "\x1b]0;owned\x07\n* * * * * evil"
    app.add("tidy", command=["echo", esc], cron="@daily", description=esc)
    app.pause("tidy", note=esc)
    app.drain(esc, note=esc)
    redis.hset(app.keys.active("tidy"), "tidy-m0000" + esc, "queued")
    redis.hset(app.keys.run("tidy-m0000" + esc), mapping={"job": "tidy", "state": "running", "host": esc})
    app.enqueue_in("5m", "tidy")
    app.once("tidy", 3600)

    shown = _on_a_terminal(*words)

    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert not any(line.startswith("* * * * * evil") for line in shown.splitlines())


def _on_a_terminal(*words: str) -> str:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "cronq", *words], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the terminal is closed when the last process has left it
        pass
    os.close(ours)
    assert process.wait(30) == 0, shown
    return shown.decode()


def test_a_narrow_terminal_shows_rows_that_fit_and_a_pipe_all_there_is(
    cronq: Cli, app: Cronq, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.add("tidy", command=["true"], cron="0 3 * * *", tz="Europe/Amsterdam", description="Sweeps up. " * 9)
    app.pause("tidy", note="the disk is being changed by the people of the data centre")
    monkeypatch.setenv("COLUMNS", "80")

    shown = _on_a_terminal("list")

    head, row, *_ = [line.rstrip() for line in shown.splitlines()]
    assert "NAME" in head
    assert "DESCRIPTION" not in head
    assert "tidy" in row
    assert "paused: the" in row
    assert "…" in row
    assert len(row) <= 80
    assert "data centre" in cronq("list").out
    assert ("Sweeps up. " * 9).strip() in cronq("list").out


def test_a_narrow_list_leaves_out_when_a_job_ran_last_before_it_cuts_how_it_stands(
    cronq: Cli, app: Cronq, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.add("tidy", command=["true"], cron="0 3 * * *", description="Sweeps up what others leave. " * 3)
    app.pause("tidy", note="the disk is new")
    heads: dict[int, list[str]] = {}

    for columns in (160, 90, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        head, row, *_ = _on_a_terminal("list").splitlines()
        heads[columns] = head.split()
        assert len(row.rstrip()) <= columns
        assert "paused: the disk is new" in row, columns

    assert "LAST" in heads[160]
    assert "LAST" in heads[90]  # where it is enough to cut the description
    assert heads[80] == [name for name in heads[160] if name != "LAST"]


def test_drained_hosts_are_told_as_json(cronq: Cli, app: Cronq) -> None:
    drained = cronq("drain", "box", "--note", "deploy", "--json")

    (row,) = json.loads(drained.out)
    assert (row["what"], row["by"], row["note"]) == ("host:box", app.who, "deploy")
    assert [hold.what for hold in app.holds.read()] == ["host:box"]
    (ended,) = json.loads(cronq("drain", "--end", "--json").out)
    assert ended == row
    assert app.holds.read() == []
